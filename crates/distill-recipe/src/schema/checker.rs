//! The walk over a written value, beside the schema that it should meet.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::homes::Homes;
use super::place::{Part, Place};
use super::{bounds, expected};
use crate::fault::Fault;
use crate::node::{Node, Table, Value, shortened};
use crate::suggest::{did_you_mean, quoted_list};

/// What a table may hold besides the keys of its schema, and what is known of other tables.
pub(crate) struct Context<'a> {
    /// Keys of the table itself that another check looks after.
    pub(crate) besides: &'a [&'a str],
    /// The keys of every table, for keys written in the wrong one.
    pub(crate) homes: &'a Homes,
}

/// Adds every fault of `node` against `schema`; returns the keys of `node` itself that have one.
pub(crate) fn check(
    node: &Node,
    schema: &Json,
    place: &Place,
    context: &Context<'_>,
    faults: &mut Vec<Fault>,
) -> BTreeSet<String> {
    let mut checker = Checker {
        root: schema,
        context,
        depth: place.parts.len(),
        faults: Vec::new(),
        faulty: BTreeSet::new(),
    };
    checker.value(node, schema, place);
    faults.append(&mut checker.faults);
    checker.faulty
}

struct Checker<'a> {
    root: &'a Json,
    context: &'a Context<'a>,
    /// Length of the place of the table that is checked.
    depth: usize,
    faults: Vec<Fault>,
    faulty: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, place: &Place, fault: Fault) {
        if let Some(Part::Key(key)) = place.parts.get(self.depth) {
            self.faulty.insert(key.clone());
        }
        self.faults.push(fault);
    }

    /// Faults of `node` against `schema`, without reporting them.
    fn trial(&self, node: &Node, schema: &'a Json, place: &Place) -> Checker<'a> {
        let mut trial = Checker {
            root: self.root,
            context: self.context,
            depth: self.depth,
            faults: Vec::new(),
            faulty: BTreeSet::new(),
        };
        trial.value(node, schema, place);
        trial
    }

    fn value(&mut self, node: &Node, schema: &'a Json, place: &Place) {
        let before = self.faults.len();
        if let Some(target) = expected::reference(self.root, schema) {
            self.value(node, target, place);
        }
        for part in list(schema, "allOf") {
            self.value(node, part, place);
        }
        if self.faults.len() > before {
            return;
        }
        if let Some(choices) = expected::choices(self.root, schema) {
            return self.choice(node, schema, &choices, place);
        }
        for union in ["anyOf", "oneOf"] {
            let branches = list(schema, union);
            if !branches.is_empty() {
                self.branches(node, schema, branches, place);
            }
        }
        if self.faults.len() > before || !self.of_type(node, schema, place) {
            return;
        }
        match &node.value {
            Value::Table(table) => self.table(node, table, schema, place),
            Value::Array(items) => self.items(node, items, schema, place),
            Value::Integer(number) => self.number(node, *number as f64, schema, place),
            Value::Float(number) => self.number(node, *number, schema, place),
            Value::String(text) => {
                if let Some(allowed) = bounds::length(schema, text.chars().count()) {
                    let message = format!("{} {allowed}, found `{}`", place.name(), node.shown());
                    self.fault(place, Fault::new(message, node.label()));
                }
            }
            Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }

    fn of_type(&mut self, node: &Node, schema: &Json, place: &Place) -> bool {
        if expected::accepts_kind(schema, node) {
            return true;
        }
        let wanted = expected::describe(self.root, schema);
        self.wrong_type(node, schema, &wanted, place);
        false
    }

    fn wrong_type(&mut self, node: &Node, schema: &Json, wanted: &str, place: &Place) {
        let message = format!("{} must be {wanted}, found {}", place.name(), node.described());
        let mut fault = Fault::new(message, node.label());
        let number = matches!(node.value, Value::Integer(_) | Value::Float(_));
        let advice = schema.get("x-number").filter(|_| number).and_then(Json::as_str);
        let advice = advice.map(|advice| advice.replace("{value}", &node.shown()));
        fault.help = advice.or_else(|| expected::conversion(self.root, schema, node, place));
        self.fault(place, fault);
    }

    fn choice(&mut self, node: &Node, schema: &Json, choices: &[&str], place: &Place) {
        let wanted = quoted_list(choices.iter().copied(), "or");
        let one_of = if choices.len() > 1 { "one of " } else { "" };
        let Some(found) = node.as_str() else {
            let message = format!("{} must be {one_of}{wanted}, found {}", place.name(), node.described());
            return self.fault(place, Fault::new(message, node.label()));
        };
        if choices.contains(&found) {
            return;
        }
        let message = format!("{} must be {one_of}{wanted}, found `{}`", place.name(), shortened(found));
        let meant = expected::alias(self.root, schema, found)
            .or_else(|| did_you_mean(found, choices.iter().copied()));
        let mut fault = Fault::new(message, node.label());
        let advice = || expected::resolved(self.root, schema).get("x-help").and_then(Json::as_str);
        let meant = meant.map(|meant| format!("did you mean `{meant}`?"));
        fault.help = meant.or_else(|| advice().map(str::to_string));
        self.fault(place, fault);
    }

    /// A value that may take several forms: the form that was meant is the one of its type, or the
    /// one whose constant keys agree, or else the one with the fewest faults.
    fn branches(&mut self, node: &Node, schema: &'a Json, branches: &'a [Json], place: &Place) {
        let mut forms: Vec<&Json> = branches
            .iter()
            .map(|branch| expected::resolved(self.root, branch))
            .filter(|branch| branch.get("type").and_then(Json::as_str) != Some("null"))
            .collect();
        if let Some(tagged) = expected::tagged(self.root, &forms, node) {
            forms = vec![tagged];
        } else if let Some((key, names)) = expected::tags(self.root, &forms, node)
            && let Some(tag) = node.get(key)
        {
            return self.choice(tag, schema, &names, &place.key(key));
        }
        if let [only] = forms[..] {
            if schema.get("x-number").is_some() && !expected::accepts_kind_deep(self.root, only, node) {
                let wanted = expected::describe(self.root, only);
                return self.wrong_type(node, schema, &wanted, place);
            }
            return self.value(node, only, place);
        }
        let trials: Vec<Checker<'a>> = forms
            .iter()
            .filter(|form| expected::accepts_kind_deep(self.root, form, node))
            .map(|form| self.trial(node, form, place))
            .collect();
        match trials.into_iter().min_by_key(|trial| trial.faults.len()) {
            Some(best) => {
                self.faults.extend(best.faults);
                self.faulty.extend(best.faulty);
            }
            None => {
                let wanted = expected::describe(self.root, schema);
                self.wrong_type(node, schema, &wanted, place);
            }
        }
    }

    fn number(&mut self, node: &Node, number: f64, schema: &Json, place: &Place) {
        let typed = schema.get("type").is_some();
        let allowed = if typed && !number.is_finite() {
            Some("must be a finite number".to_string())
        } else {
            bounds::range(schema, number)
        };
        if let Some(allowed) = allowed {
            let message = format!("{} {allowed}, found `{}`", place.name(), node.shown());
            let mut fault = Fault::new(message, node.label());
            fault.help = schema
                .get("x-help")
                .and_then(Json::as_str)
                .map(|help| help.replace("{value}", &node.shown()));
            self.fault(place, fault);
        }
    }

    fn items(&mut self, node: &Node, items: &[Node], schema: &'a Json, place: &Place) {
        if let Some(allowed) = bounds::count(schema, items.len()) {
            let message = format!("{} {allowed}, found {}", place.name(), items.len());
            self.fault(place, Fault::new(message, node.label()));
        }
        let prefix = list(schema, "prefixItems");
        for (index, item) in items.iter().enumerate() {
            let form = prefix.get(index).or_else(|| schema.get("items"));
            if let Some(form) = form {
                self.value(item, form, &place.item(index));
            }
        }
    }

    fn table(&mut self, node: &Node, table: &Table, schema: &'a Json, place: &Place) {
        let known = schema.get("properties").and_then(Json::as_object);
        let rest = schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties"));
        // A type that lists its keys and says nothing of others would ignore them: a typing slip
        // must not pass, so it is held to its list.
        let closed = rest.map_or(known.is_some(), |rest| rest == &Json::Bool(false));
        let besides: &[&str] = if place.parts.len() == self.depth { self.context.besides } else { &[] };
        let mut meant = BTreeSet::new();
        for (key, value) in table {
            let here = place.key(key);
            match known.and_then(|known| known.get(key)) {
                Some(form) => self.value(value, form, &here),
                None if besides.contains(&key.as_str()) => {}
                None if closed => {
                    let allowed: Vec<&str> = known
                        .into_iter()
                        .flat_map(|known| known.keys().map(String::as_str))
                        .chain(besides.iter().copied())
                        .collect();
                    let (help, instead) = self.unknown(key, schema, &allowed, place);
                    meant.extend(instead);
                    let message = format!("unknown key `{key}` in {}", place.table());
                    let fault = Fault::new(message, value.key_label()).with_help(help);
                    self.fault(&here, fault);
                }
                None => {
                    if let Some(form) = rest.filter(|rest| rest.is_object()) {
                        self.value(value, form, &here);
                    }
                }
            }
        }
        for key in list(schema, "required").iter().filter_map(Json::as_str) {
            // A missing key that was only misspelt has had its fault.
            if !table.contains_key(key) && !meant.contains(key) {
                let message = format!("missing key `{key}` in {}", place.table());
                let mut fault = Fault::new(message, node.key_label());
                let form = known.and_then(|known| known.get(key));
                fault.help = form.and_then(|form| expected::purpose(self.root, key, form));
                self.fault(&place.key(key), fault);
            }
        }
    }

    /// Advice for an unknown key, and the key that was meant if it is one of this table.
    fn unknown(&self, key: &str, schema: &Json, allowed: &[&str], place: &Place) -> (String, Option<String>) {
        let takes = match allowed {
            [] => format!("{} takes no keys", place.table()),
            _ => {
                let list = quoted_list(allowed.iter().copied(), "and");
                format!("{} takes {list}", place.table())
            }
        };
        let meant = |name: &str| {
            let rest = match allowed.len() {
                0..=12 => takes.as_str(),
                _ => "`distill schema` shows all keys",
            };
            (format!("did you mean `{name}`? {rest}"), Some(name.to_string()))
        };
        if let Some(alias) = expected::alias(self.root, schema, key) {
            return meant(alias);
        }
        if let Some(home) = self.context.homes.help(key, place) {
            return (home, None);
        }
        match did_you_mean(key, allowed.iter().copied()) {
            Some(near) => meant(near),
            None => (takes, None),
        }
    }
}

/// The list under a keyword of a schema, empty if there is none.
pub(super) fn list<'s>(schema: &'s Json, keyword: &str) -> &'s [Json] {
    schema.get(keyword).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::JsonSchema;
    use serde::Deserialize;

    use crate::component::Component;
    use crate::document::Document;

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
    enum Loss {
        Mse { weight: f64 },
        Kl { temperature: f64 },
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct Layer {
        #[schemars(range(min = 1))]
        size: u32,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Everything {
        losses: Vec<Loss>,
        layers: Vec<Layer>,
        weights: BTreeMap<String, f32>,
        pair: Option<(u8, bool)>,
        nested: Option<Layer>,
        ring: Option<Box<Everything>>,
        even: Option<Even>,
    }

    /// A type whose own reading refuses what its schema allows.
    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(try_from = "i64")]
    #[schemars(with = "i64")]
    struct Even(i64);

    impl TryFrom<i64> for Even {
        type Error = String;

        fn try_from(number: i64) -> Result<Self, String> {
            match number % 2 {
                0 => Ok(Self(number)),
                _ => Err(format!("must be even, found `{number}`")),
            }
        }
    }

    fn parse(body: &str) -> Result<Everything, String> {
        let text = format!("[task]\nkind = \"x\"\n{body}");
        let document = Document::parse("a.toml", text, &[]).unwrap();
        let component = Component {
            path: "task".to_string(),
            tag: "kind".to_string(),
            name: "x".to_string(),
            node: document.root.get("task").unwrap().clone(),
        };
        let mut faults = Vec::new();
        let parsed = component.parse(&mut faults);
        assert_eq!(parsed.is_some(), faults.is_empty());
        parsed.ok_or_else(|| document.faults(faults).to_string())
    }

    #[test]
    fn every_form_of_value_is_read() {
        let parsed = parse(
            "losses = [{ kind = \"mse\", weight = 1 }, { kind = \"kl\", temperature = 2.5 }]\n\
             layers = [{ size = 4 }]\nweights = { a = 1, b = 0.5 }\npair = [1, true]\n\
             even = 4\n[task.ring.nested]\nsize = 9\n",
        )
        .unwrap();
        assert_eq!(parsed.losses[1], Loss::Kl { temperature: 2.5 });
        assert_eq!(parsed.weights["a"], 1.0);
        assert_eq!(parsed.pair, Some((1, true)));
        assert_eq!(parsed.even, Some(Even(4)));
        assert_eq!(parsed.ring.unwrap().nested, Some(Layer { size: 9 }));
    }

    #[test]
    fn faults_inside_lists_and_tables_name_their_place() {
        for (body, wanted) in [
            (
                "layers = [{ size = 1 }, { sise = 2 }]",
                "error: unknown key `sise` in `[task.layers.1]`\n  --> a.toml:3:27\n\
                 help: did you mean `size`? `[task.layers.1]` takes `size`",
            ),
            (
                "layers = [{}]",
                "error: missing key `size` in `[task.layers.0]`\n  --> a.toml:3:11\n\
                 help: `size` must be an integer",
            ),
            (
                "layers = [{ size = 5000000000 }]",
                "error: `size` must be between 1 and 4294967295, found `5000000000`\n  \
                 --> a.toml:3:20",
            ),
            (
                "weights = { a = \"x\" }",
                "error: `a` must be a number, found the string `\"x\"`\n  --> a.toml:3:17",
            ),
            ("pair = [1]", "error: `pair` must have 2 items, found 1\n  --> a.toml:3:8"),
            (
                "pair = [256, true]",
                "error: item 1 of `pair` must be between 0 and 255, found `256`\n  \
                 --> a.toml:3:9",
            ),
            (
                "pair = [1, 1]",
                "error: item 2 of `pair` must be `true` or `false`, found the integer `1`\n  \
                 --> a.toml:3:12",
            ),
            ("nested = [{ size = 1 }]", "error: `nested` must be a table, found a list\n  --> a.toml:3:10"),
            (
                "[task.ring.ring]\nnested.size = 0",
                "error: `size` must be between 1 and 4294967295, found `0`\n  --> a.toml:4:15",
            ),
        ] {
            assert_eq!(parse(body).unwrap_err(), wanted, "{body}");
        }
    }

    #[test]
    fn a_tagged_form_is_checked_as_the_one_that_its_tag_names() {
        assert_eq!(
            parse("losses = [{ kind = \"kl\", temprature = 1 }]").unwrap_err(),
            "error: unknown key `temprature` in `[task.losses.0]`\n  --> a.toml:3:26\n\
             help: did you mean `temperature`? `[task.losses.0]` takes `kind` and `temperature`"
        );
        assert_eq!(
            parse("losses = [{ kind = \"kk\", temperature = 1 }]").unwrap_err(),
            "error: `kind` must be one of `mse` or `kl`, found `kk`\n  --> a.toml:3:20\n\
             help: did you mean `kl`?"
        );
    }

    #[test]
    fn what_only_the_type_refuses_is_a_fault_at_its_key() {
        assert_eq!(
            parse("even = 3").unwrap_err(),
            "error: `even`: must be even, found `3`\n  --> a.toml:3:8"
        );
    }

    #[test]
    fn a_type_that_would_ignore_unknown_keys_is_held_to_its_list() {
        assert!(
            parse("colour = 1")
                .unwrap_err()
                .starts_with("error: unknown key `colour` in `[task]`\n  --> a.toml:3:1\n")
        );
    }
}
