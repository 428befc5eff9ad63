//! `--set a.b=v`: one override applied to the tree of a recipe.

use std::ops::Range;

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use crate::document::{Reader, syntax_fault};
use crate::fault::{Fault, Label};
use crate::node::{Node, Origin, Table, Value};

/// Sets the value that `given` (`KEY=VALUE`, override number `index`) names; tables on the way to
/// it are made where there are none.
pub(crate) fn apply(root: &mut Node, index: usize, given: &str) -> Result<(), Fault> {
    let origin = Origin::Override(index);
    let equals = find_equals(given).ok_or_else(|| {
        Fault::new(format!("the override `{given}` has no `=`"), Label::new(origin, 0..given.len()))
            .with_help("write `--set KEY=VALUE`, as in `--set train.epochs=1`")
    })?;
    let keys = parse_key(&given[..equals], origin)?;
    let value = parse_value(given, equals + 1, origin)?;
    let over = Override { given, origin };
    over.set(root, &keys, value)
}

/// The first `=` outside of a quoted key.
fn find_equals(given: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in given.char_indices() {
        match (quote, character) {
            (None, '=') => return Some(at),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    None
}

struct Key {
    name: String,
    span: Range<usize>,
}

/// The parts of a dotted key; quoted parts may hold any character.
fn parse_key(text: &str, origin: Origin) -> Result<Vec<Key>, Fault> {
    let wrong = || {
        Fault::new(format!("`{text}` is not a key"), Label::new(origin, 0..text.len()))
            .with_help("write names joined by dots, as in `train.epochs`")
    };
    // Anything else that is no key is no line of TOML either.
    if text.contains('\n') {
        return Err(wrong());
    }
    let line = format!("{text} = 0");
    let mut table = DeTable::parse(&line).map_err(|_| wrong())?.into_inner();
    let mut keys = Vec::new();
    while let Some((key, value)) = table.into_iter().next() {
        keys.push(Key { span: key.span(), name: key.into_inner().into_owned() });
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => return Ok(keys),
        }
    }
    Err(wrong())
}

/// The value behind the `=` at `start - 1`.
fn parse_value(given: &str, start: usize, origin: Origin) -> Result<Node, Fault> {
    let text = given[start..].trim();
    let offset = start + (given[start..].len() - given[start..].trim_start().len());
    let span = offset..offset + text.len();
    if text.is_empty() {
        return Err(Fault::new(
            format!("the override `{given}` has no value"),
            Label::new(origin, 0..given.len()),
        )
        .with_help("for an empty text write `\"\"`"));
    }
    let mut faults = Vec::new();
    let node = match DeValue::parse(text) {
        Ok(value) => Reader { origin, offset }.node(value, None, &mut faults),
        Err(error) if text.starts_with(['[', '{', '"', '\'']) => {
            let mut fault = syntax_fault(&error, origin, offset, given.len());
            fault.help = Some(
                "in lists and tables, texts need quotes: `--set 'data.train=[\"a.csv\", \"b.csv\"]'`"
                    .to_string(),
            );
            return Err(fault);
        }
        Err(_) => Node { value: Value::String(text.to_string()), span: span.clone(), key_span: None, origin },
    };
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(Node { span, ..node }),
    }
}

struct Override<'a> {
    given: &'a str,
    origin: Origin,
}

impl Override<'_> {
    fn set(&self, root: &mut Node, keys: &[Key], value: Node) -> Result<(), Fault> {
        let Some((last, parents)) = keys.split_last() else {
            return Ok(());
        };
        let mut node = root;
        for (depth, key) in parents.iter().enumerate() {
            node = self.child(node, keys, depth, key)?;
        }
        let slot = self.child(node, keys, parents.len(), last)?;
        // The key now stands in the override too, so that a fault about it points there.
        let key_span = slot.key_span.is_some().then(|| last.span.clone());
        *slot = Node { key_span, ..value };
        Ok(())
    }

    /// The child of `node` with this key; an empty table is put there if there is none.
    fn child<'n>(
        &self,
        node: &'n mut Node,
        keys: &[Key],
        depth: usize,
        key: &Key,
    ) -> Result<&'n mut Node, Fault> {
        let described = node.described();
        let parent: Vec<&str> = keys[..depth].iter().map(|key| key.name.as_str()).collect();
        let parent = parent.join(".");
        let label = Label::new(self.origin, key.span.clone());
        match &mut node.value {
            Value::Table(table) => Ok(table
                .entry(key.name.clone())
                .or_insert_with(|| self.empty_table(Some(key.span.clone()), key.span.clone()))),
            Value::Array(items) => {
                let count = items.len();
                // Stages have names, and a name stays right where a stage is put before it.
                let named = |item: &Node| item.get("name").and_then(Node::as_str) == Some(&key.name);
                if let Some(number) = items.iter().position(named) {
                    return Ok(&mut items[number]);
                }
                match key.name.parse::<usize>() {
                    Ok(number) if number <= count => {
                        if number == count {
                            items.push(self.empty_table(None, key.span.clone()));
                        }
                        Ok(&mut items[number])
                    }
                    _ => Err(Fault::new(
                        format!(
                            "`{parent}` is a list of {count}, so `{}` must be a number from 0 to {count}",
                            key.name
                        ),
                        label,
                    )
                    .with_help(names_in(items, &parent) + &format!("`{parent}.{count}` adds an entry"))),
                }
            }
            _ => Err(Fault::new(
                format!("`{parent}` must be a table to set `{}`, found {described}", self.given),
                label,
            )),
        }
    }

    fn empty_table(&self, key_span: Option<Range<usize>>, span: Range<usize>) -> Node {
        Node { value: Value::Table(Table::from(IndexMap::new())), span, key_span, origin: self.origin }
    }
}

/// The entries of a list that can be reached by their names, as the start of a help text.
fn names_in(items: &[Node], parent: &str) -> String {
    let names = items.iter().filter_map(|item| item.get("name")?.as_str());
    let names: Vec<String> = names.map(|name| format!("`{parent}.{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("there are {}; ", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use crate::document::Document;
    use crate::node::{Node, Origin, Value};

    const TEXT: &str = "name = \"a\"\n[data]\ntrain = [\"x.csv\"]\n[train]\nepochs = 3\n";

    fn set(overrides: &[&str]) -> Document {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        Document::parse("a.toml", TEXT, &overrides).unwrap()
    }

    fn value(overrides: &[&str], path: &str) -> serde_json::Value {
        set(overrides).root.at(path).map(Node::to_json).unwrap()
    }

    fn fault(given: &str) -> String {
        Document::parse("a.toml", TEXT, &[given.to_string()]).unwrap_err().to_string()
    }

    #[test]
    fn values_are_toml_and_anything_else_is_text() {
        assert_eq!(value(&["train.epochs=1"], "train.epochs"), 1);
        assert_eq!(value(&["train.learning_rate = 1e-4"], "train.learning_rate"), 1e-4);
        assert_eq!(value(&["data.header=false"], "data.header"), false);
        assert_eq!(value(&["model.path=some/folder"], "model.path"), "some/folder");
        assert_eq!(value(&["model.path=org/name@main"], "model.path"), "org/name@main");
        assert_eq!(value(&["data.test=a b=c.csv"], "data.test"), "a b=c.csv");
        assert_eq!(value(&["name=\"quoted\""], "name"), "quoted");
        assert_eq!(value(&["name=\"\""], "name"), "");
        assert_eq!(value(&["name=1 2"], "name"), "1 2");
        assert_eq!(
            value(&["data.train=[\"a.csv\",\"b.csv\"]"], "data.train"),
            serde_json::json!(["a.csv", "b.csv"])
        );
        assert_eq!(value(&["tokenizer.train={ vocab_size = 10 }"], "tokenizer.train.vocab_size"), 10);
    }

    #[test]
    fn list_entries_are_reached_and_added_by_number() {
        assert_eq!(value(&["data.train.0=y.csv"], "data.train.0"), "y.csv");
        assert_eq!(value(&["data.train.1=y.csv"], "data.train.1"), "y.csv");
        let text = "[[stage]]\n[stage.train]\nepochs = 1\n[[stage]]\n";
        let overrides = ["stage.0.train.epochs=7".to_string(), "stage.1.x.y=1".to_string()];
        let document = Document::parse("a.toml", text, &overrides).unwrap();
        assert_eq!(document.to_json()["stage"][0]["train"]["epochs"], 7);
        assert_eq!(document.to_json()["stage"][1]["x"]["y"], 1);
        assert_eq!(
            fault("data.train.2=y.csv"),
            "error: `data.train` is a list of 1, so `2` must be a number from 0 to 1\n  \
             --> --set data.train.2=y.csv\nhelp: `data.train.1` adds an entry"
        );
    }

    #[test]
    fn stages_are_reached_by_their_names() {
        let text = "[[stage]]\nname = \"first\"\n[[stage]]\nname = \"second\"\n[stage.train]\nepochs = 1\n";
        let read = |given: &str| Document::parse("a.toml", text, &[given.to_string()]);
        let document = read("stage.second.train.epochs=7").unwrap();
        assert_eq!(document.to_json()["stage"][1]["train"]["epochs"], 7);
        assert_eq!(
            read("stage.third.train.epochs=7").unwrap_err().to_string(),
            "error: `stage` is a list of 2, so `third` must be a number from 0 to 2\n  \
             --> --set stage.third.train.epochs=7\n\
             help: there are `stage.first`, `stage.second`; `stage.2` adds an entry"
        );
    }

    #[test]
    fn the_last_override_of_a_key_wins_and_places_point_at_it() {
        let document = set(&["train.epochs=1", "train.epochs=22"]);
        let node = document.root.at("train.epochs").unwrap();
        assert_eq!(node.value, Value::Integer(22));
        assert_eq!(node.origin, Origin::Override(1));
        assert_eq!(&document.overrides[1][node.span.clone()], "22");
        assert_eq!(&document.overrides[1][node.key_span.clone().unwrap()], "epochs");
    }

    #[test]
    fn quoted_keys_may_hold_dots_and_equals_signs() {
        let document = set(&["a.\"b.c=d\"=1"]);
        assert_eq!(document.to_json()["a"]["b.c=d"], 1);
    }

    #[test]
    fn overrides_that_cannot_be_applied_are_faults() {
        assert_eq!(
            fault("train.epochs"),
            "error: the override `train.epochs` has no `=`\n  --> --set train.epochs\n\
             help: write `--set KEY=VALUE`, as in `--set train.epochs=1`"
        );
        assert_eq!(
            fault("name="),
            "error: the override `name=` has no value\n  --> --set name=\n\
             help: for an empty text write `\"\"`"
        );
        assert_eq!(
            fault("name.x=1"),
            "error: `name` must be a table to set `name.x=1`, found the string `\"a\"`\n  \
             --> --set name.x=1"
        );
        for given in ["=1", "a..b=1", ".a=1", "a b=1", "a#=1", "[a]=1"] {
            assert!(fault(given).contains("is not a key"), "{given}");
        }
        assert!(fault("data.train=[a.csv]").contains("invalid TOML"));
        assert!(fault("data.train=[a.csv]").contains("texts need quotes"));
        assert!(fault("seed=99999999999999999999").contains("2^63"));
    }
}
