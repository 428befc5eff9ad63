//! Components: parts of a recipe whose keys are known only to the crate that registers them.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;

use crate::fault::Fault;
use crate::node::Node;
use crate::schema::{Context, Homes, Place};
use crate::suggest::{did_you_mean, quoted_list};
use crate::tables::TABLES;
use crate::tables::parse::typed;
use crate::type_schema::{schema_for, schema_of};

/// A registered component, as far as recipes see it: its name and the keys that it takes.
#[derive(Clone, Debug)]
pub struct ComponentSchema {
    /// The table that it stands in: `task`, `model`, or the list `distill.losses`.
    pub table: &'static str,
    /// The key of that table that names it: `kind` or `architecture`.
    pub tag: &'static str,
    /// Its name, the value of that key.
    pub name: &'static str,
    /// The keys of the table besides the tag.
    pub schema: Schema,
}

impl ComponentSchema {
    /// A component whose table is to become a `T`.
    pub fn of<T: JsonSchema>(table: &'static str, tag: &'static str, name: &'static str) -> Self {
        Self { table, tag, name, schema: schema_for::<T>() }
    }
}

/// A table of the recipe that names a component, not parsed yet.
#[derive(Clone, Debug)]
pub struct Component {
    /// Dotted path of the table in the recipe: `task`, `model`.
    pub path: String,
    /// The key that names the component: `kind`, `architecture`.
    pub tag: String,
    /// The name itself: `classification`, `bert`.
    pub name: String,
    /// The whole table, the tag included.
    pub node: Node,
}

impl Component {
    /// The table as a `T`. Every key besides the tag must be one of `T`, whether or not `T` itself
    /// denies unknown ones; all that is wrong goes to `faults`, and then there is no value.
    pub fn parse<T: DeserializeOwned + JsonSchema>(&self, faults: &mut Vec<Fault>) -> Option<T> {
        let homes = Homes::new(&[]);
        let tag = [self.tag.as_str()];
        let context = Context { besides: &tag, homes: &homes };
        let schema = schema_of::<T>();
        let place = Place::new(&self.path);
        typed(&self.node, &place, &schema, &context, faults, |_, _, _| {})
    }

    /// A fault at a key of the table (`labels.2`), or at the nearest written one above it.
    pub fn fault_at(&self, key: &str, message: impl Into<String>, help: Option<String>) -> Fault {
        let fault = self.node.fault_at(key, message);
        Fault { help, ..fault }
    }

    /// The table as JSON, the tag included.
    pub fn to_json(&self) -> serde_json::Value {
        self.node.to_json()
    }
}

/// A fault that says that no component of this name is registered; `what` is the sort of component
/// (`task`, `objective`) and `known` are the names that are.
pub fn unknown_component_fault(component: &Component, what: &str, known: &[&str]) -> Fault {
    let tag = &component.tag;
    let what = if what.ends_with(tag.as_str()) { what.to_string() } else { format!("{what} {tag}") };
    let message = format!("unknown {what} `{}`", component.name);
    let list = match known {
        [] => "none is registered".to_string(),
        known => format!("known: {}", quoted_list(known.iter().copied(), "and")),
    };
    let help = match did_you_mean(&component.name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? {list}"),
        None => list,
    };
    component.fault_at(tag, message, Some(help))
}

/// Those of `components` that stand in this table; a student is a model.
pub(crate) fn registered_for<'c>(components: &'c [ComponentSchema], table: &str) -> Vec<&'c ComponentSchema> {
    let table = if table == "student" { "model" } else { table };
    components.iter().filter(|component| component.table == table).collect()
}

/// Reads a table that names a component by `tag`. Where components are registered for the table,
/// the name must be one of theirs and the other keys those of that component.
pub(crate) fn take(
    node: &Node,
    table: &'static str,
    tag: &'static str,
    components: &[ComponentSchema],
    homes: &Homes,
    faults: &mut Vec<Fault>,
) -> Option<Component> {
    let before = faults.len();
    let registered = registered_for(components, table);
    check_tag(node, table, tag, homes, faults);
    if faults.len() > before {
        if node.get(tag).is_none() && !registered.is_empty() {
            let names = quoted_list(registered.iter().map(|known| known.name), "and");
            for fault in &mut faults[before..] {
                let help = fault.help.take().unwrap_or_default();
                let meant = help.split_once("? ").filter(|_| help.starts_with("did you mean"));
                let meant = meant.map_or(String::new(), |(meant, _)| format!("{meant}? "));
                fault.help = Some(format!("{meant}known: {names}"));
            }
        }
        return None;
    }
    let name = node.get(tag)?.as_str()?.to_string();
    let component = Component { path: table.to_string(), tag: tag.to_string(), name, node: node.clone() };
    if registered.is_empty() {
        return Some(component);
    }
    match registered.iter().find(|known| known.name == component.name) {
        Some(known) => {
            let besides = [tag];
            let context = Context { besides: &besides, homes };
            let schema = known.schema.as_value();
            crate::schema::check(node, schema, &Place::new(table), &context, faults);
        }
        None => {
            let names: Vec<&str> = registered.iter().map(|known| known.name).collect();
            faults.push(unknown_component_fault(&component, table, &names));
        }
    }
    (faults.len() == before).then_some(component)
}

/// The tag alone: there, and a string. Other keys are the component's affair, except where the tag
/// is missing: one of them may be meant to be it.
fn check_tag(node: &Node, table: &'static str, tag: &'static str, homes: &Homes, faults: &mut Vec<Fault>) {
    let Some(entry) = TABLES.iter().find(|entry| entry.key == table) else {
        return;
    };
    let mut schema = (entry.schema)();
    let keys = node.as_table().into_iter().flatten().map(|(key, _)| key.as_str());
    let aliases = schema.get("x-aliases").cloned().unwrap_or_default();
    let others: Vec<&str> = keys
        .filter(|key| *key != tag && (node.get(tag).is_some() || aliases.get(key).is_none()))
        .filter(|key| node.get(tag).is_some() || did_you_mean(key, [tag]).is_none())
        .collect();
    if let Some(object) = schema.as_object_mut() {
        object.insert("additionalProperties".to_string(), false.into());
    }
    let context = Context { besides: &others, homes };
    crate::schema::check(node, &schema, &Place::new(table), &context, faults);
}
