//! What a schema expects, in words, and which of its forms a value takes.

use serde_json::Value as Json;

use super::checker::list;
use super::place::Place;
use crate::node::{Node, Value};
use crate::suggest::{joined, quoted_list};

/// The schema that `$ref` names; schemars keeps them all under `$defs`.
pub(super) fn reference<'s>(root: &'s Json, schema: &Json) -> Option<&'s Json> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer)
}

/// The schema behind any chain of bare references.
pub(super) fn resolved<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let mut schema = schema;
    // A chain of references is no longer than the list of definitions, unless it is a ring.
    for _ in 0..64 {
        match reference(root, schema) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// The texts that a schema allows if it allows only given texts.
pub(super) fn choices<'s>(root: &'s Json, schema: &'s Json) -> Option<Vec<&'s str>> {
    let schema = resolved(root, schema);
    if let Some(only) = schema.get("const") {
        return only.as_str().map(|only| vec![only]);
    }
    if schema.get("enum").is_some() {
        let texts = list(schema, "enum").iter().filter(|text| !text.is_null());
        return texts.map(Json::as_str).collect();
    }
    let branches = [list(schema, "oneOf"), list(schema, "anyOf")].concat();
    let mut all = Vec::new();
    for union in ["oneOf", "anyOf"] {
        for branch in list(schema, union) {
            if branch.get("type").and_then(Json::as_str) != Some("null") {
                all.extend(choices(root, branch)?);
            }
        }
    }
    (!branches.is_empty() && !all.is_empty()).then_some(all)
}

/// Our name for a name that other tools use, by the `x-aliases` of a table or an enumeration.
pub(super) fn alias<'s>(root: &'s Json, schema: &'s Json, found: &str) -> Option<&'s str> {
    let direct = |schema: &'s Json| schema.get("x-aliases")?.get(found)?.as_str();
    let schema = resolved(root, schema);
    direct(schema).or_else(|| {
        let mut branches = list(schema, "anyOf").iter().chain(list(schema, "oneOf"));
        branches.find_map(|branch| direct(resolved(root, branch)))
    })
}

/// Whether the `type` of a schema allows the type of a value; integers are numbers too.
pub(super) fn accepts_kind(schema: &Json, node: &Node) -> bool {
    let matches = |name: &str| match name {
        "object" => matches!(node.value, Value::Table(_)),
        "array" => matches!(node.value, Value::Array(_)),
        "string" => matches!(node.value, Value::String(_)),
        "integer" => matches!(node.value, Value::Integer(_)),
        "number" => matches!(node.value, Value::Integer(_) | Value::Float(_)),
        "boolean" => matches!(node.value, Value::Boolean(_)),
        _ => false,
    };
    match schema.get("type") {
        Some(Json::String(name)) => matches(name),
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).any(matches),
        _ => schema != &Json::Bool(false),
    }
}

/// [`accepts_kind`] for a form that may itself be a reference or a union.
pub(super) fn accepts_kind_deep(root: &Json, schema: &Json, node: &Node) -> bool {
    let schema = resolved(root, schema);
    let branches = [list(schema, "anyOf"), list(schema, "oneOf")].concat();
    let any = branches.is_empty() || branches.iter().any(|branch| accepts_kind_deep(root, branch, node));
    any && accepts_kind(schema, node)
}

/// The form whose constant keys (`kind = "wordpiece"`) a table has, where forms have such keys.
pub(super) fn tagged<'s>(root: &'s Json, forms: &[&'s Json], node: &Node) -> Option<&'s Json> {
    let table = node.as_table()?;
    let agrees = |form: &Json| {
        let properties = form.get("properties").and_then(Json::as_object)?;
        let mut constants = properties.iter().filter_map(|(key, property)| {
            let only = resolved(root, property).get("const")?.as_str()?;
            Some(table.get(key).and_then(Node::as_str) == Some(only))
        });
        constants.next().map(|first| first && constants.all(|agrees| agrees))
    };
    forms.iter().find(|form| agrees(form) == Some(true)).copied()
}

/// The key that tells the forms of a table apart by constants, where the table has it, and the
/// constants.
pub(super) fn tags<'s>(root: &'s Json, forms: &[&'s Json], node: &Node) -> Option<(&'s str, Vec<&'s str>)> {
    let constant = |form: &'s Json, key: &str| {
        let property = form.get("properties")?.get(key)?;
        resolved(root, property).get("const")?.as_str()
    };
    let keys = forms.first()?.get("properties")?.as_object()?.keys();
    keys.filter(|key| node.get(key).is_some()).find_map(|key| {
        let names: Option<Vec<&str>> = forms.iter().map(|form| constant(form, key)).collect();
        Some((key.as_str(), names?))
    })
}

/// `a string`, `one of ...`, `a string or a list of strings`.
pub(super) fn describe(root: &Json, schema: &Json) -> String {
    let mut parts = Vec::new();
    collect(root, schema, Number::One, &mut parts);
    joined(&parts, "or")
}

#[derive(Clone, Copy)]
enum Number {
    One,
    Many,
}

fn collect(root: &Json, schema: &Json, number: Number, parts: &mut Vec<String>) {
    let schema = resolved(root, schema);
    let mut add = |part: String| {
        if !parts.contains(&part) {
            parts.push(part);
        }
    };
    if let Some(choices) = choices(root, schema) {
        return add(quoted_list(choices, "or"));
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    for name in types {
        match (name, number) {
            ("string", Number::One) => add("a string".to_string()),
            ("string", Number::Many) => add("strings".to_string()),
            ("integer", Number::One) => add("an integer".to_string()),
            ("integer", Number::Many) => add("integers".to_string()),
            ("number", Number::One) => add("a number".to_string()),
            ("number", Number::Many) => add("numbers".to_string()),
            ("boolean", _) => add("`true` or `false`".to_string()),
            ("object", Number::One) => add("a table".to_string()),
            ("object", Number::Many) => add("tables".to_string()),
            ("array", _) => {
                let mut items = Vec::new();
                if let Some(form) = schema.get("items") {
                    collect(root, form, Number::Many, &mut items);
                }
                let of = if items.is_empty() { "" } else { " of " };
                let list = match number {
                    Number::One => "a list",
                    Number::Many => "lists",
                };
                add(format!("{list}{of}{}", joined(&items, "or")));
            }
            _ => {}
        }
    }
    for union in ["anyOf", "oneOf"] {
        for branch in list(schema, union) {
            collect(root, branch, number, parts);
        }
    }
}

/// How to write the value that was meant, if it only has the wrong form.
pub(super) fn conversion(root: &Json, schema: &Json, node: &Node, place: &Place) -> Option<String> {
    let wants = |probe: Value| {
        let probe = Node { value: probe, ..node.clone() };
        accepts_kind_deep(root, schema, &probe)
    };
    match &node.value {
        Value::String(text) => {
            let text = text.trim();
            let number = text.parse::<f64>().is_ok_and(f64::is_finite);
            let bare = (number && wants(Value::Float(0.0)))
                || (text.parse::<i64>().is_ok() && wants(Value::Integer(0)))
                || (matches!(text, "true" | "false") && wants(Value::Boolean(true)));
            if bare {
                return Some(format!("write `{text}` without quotes"));
            }
            wants(Value::Array(Vec::new())).then(|| format!("write `[{}]`", node.shown()))
        }
        Value::Float(number) if wants(Value::Integer(0)) && number.fract() == 0.0 => {
            (number.abs() < 1e15).then(|| format!("write `{number:.0}`"))
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)
            if wants(Value::String(String::new())) =>
        {
            Some(format!("write `\"{}\"`", node.shown()))
        }
        Value::Array(items) => match &items[..] {
            [only] if only.as_table().is_none() && wants(only.value.clone()) => {
                Some(format!("write `{}`", only.shown()))
            }
            _ => None,
        },
        _ if wants(Value::Table(Default::default())) => match place.name().as_str() {
            name if place.parts.len() == 1 => {
                Some(format!("write `[{}]` and its keys below", name.trim_matches('`')))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What a missing key is for: its form and the first line of its description.
pub(super) fn purpose(root: &Json, key: &str, schema: &Json) -> Option<String> {
    let described = |schema: &Json| {
        let text = schema.get("description")?.as_str()?;
        text.split("\n\n").next().map(|text| text.replace('\n', " "))
    };
    let about = described(schema).or_else(|| described(resolved(root, schema)));
    let about = about.map(|about| about.trim_end_matches('.').to_string());
    let form = describe(root, schema);
    match (about, form.is_empty()) {
        (Some(about), _) => Some(format!("`{key}`: {about}")),
        (None, false) => Some(format!("`{key}` must be {form}")),
        (None, true) => None,
    }
}
