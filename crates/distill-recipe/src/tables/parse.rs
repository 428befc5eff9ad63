//! From a written table to its type.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Presence, TABLES};
use crate::document::Document;
use crate::fault::Fault;
use crate::node::{Node, Table as Entries, Value};
use crate::schema::{Context, Homes, Place, check};
use crate::type_schema::schema_of;

/// A table of keys that are always the same.
pub(crate) trait Table: DeserializeOwned + JsonSchema {
    /// The name of the table in a recipe.
    const KEY: &'static str;

    /// What the schema cannot say: keys that exclude each other, texts with a form of their own.
    fn check(&self, written: &Node, faults: &mut Vec<Fault>);
}

/// The table of this type, if it was written; its faults go to `faults`.
///
/// Keys with a fault are left out and the rest is checked all the same, so that one report has
/// everything.
pub(crate) fn table<T: Table>(document: &Document, homes: &Homes, faults: &mut Vec<Fault>) -> Option<T> {
    let node = document.root.get(T::KEY)?;
    let context = Context { besides: &[], homes };
    typed(node, &Place::new(T::KEY), &schema_of::<T>(), &context, faults, T::check)
}

/// `node` as a `T`: checked against its schema, then by `further`.
pub(crate) fn typed<T: DeserializeOwned>(
    node: &Node,
    place: &Place,
    schema: &Json,
    context: &Context<'_>,
    faults: &mut Vec<Fault>,
    further: impl FnOnce(&T, &Node, &mut Vec<Fault>),
) -> Option<T> {
    let before = faults.len();
    let faulty = check(node, schema, place, context, faults);
    let mut sound: Entries = node.as_table()?.clone();
    let known = schema.get("properties");
    sound.retain(|key, _| {
        let ours = known.is_none_or(|known| known.get(key).is_some());
        !faulty.contains(key) && (ours || !context.besides.contains(&key.as_str()))
    });
    let sound = Node { value: Value::Table(sound), ..node.clone() };
    match serde_path_to_error::deserialize::<_, T>(sound.to_json()) {
        Ok(value) => {
            further(&value, node, faults);
            (faults.len() == before).then_some(value)
        }
        // A key that had to be left out may be the very thing that is missed.
        Err(_) if faults.len() > before => None,
        Err(error) => {
            let path = dotted(error.path());
            let mut message = error.inner().to_string();
            if !path.is_empty() {
                message = format!("`{path}`: {message}");
            }
            faults.push(node.fault_at(&path, message));
            None
        }
    }
}

fn dotted(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let parts: Vec<String> = path
        .iter()
        .filter_map(|part| match part {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    parts.join(".")
}

/// A place for every table that is required and was not written.
pub(crate) fn missing_tables(document: &Document, faults: &mut Vec<Fault>) {
    for entry in TABLES {
        let written = document.root.get(entry.key).is_some();
        if entry.presence == Presence::Required && !written {
            let (first, _) = entry.about.split_once(['.', ';', ':']).unwrap_or((entry.about, ""));
            let help = match entry.key {
                "task" => "write `[task]` with `kind = \"...\"`".to_string(),
                "data" => "write `[data]` with `train = \"...\"`, a file or a hub data set".to_string(),
                _ => first.to_lowercase(),
            };
            let message = format!("missing table `[{}]`", entry.key);
            faults.push(Fault::new(message, document.root.label()).with_help(help));
        }
    }
}
