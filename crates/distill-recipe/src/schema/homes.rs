//! Which table every key belongs to, for keys written in the wrong one.

use serde_json::Value as Json;

use super::place::Place;
use crate::component::ComponentSchema;
use crate::suggest::quoted_list;
use crate::tables::TABLES;
use crate::tables::head::Head;
use crate::type_schema::schema_of;

/// A table with its keys and its aliases.
struct Home {
    /// None for the keys at the top of the recipe.
    table: Option<&'static str>,
    keys: Vec<String>,
    /// The name that users know, and ours.
    aliases: Vec<(String, String)>,
}

/// The keys of every table.
pub(crate) struct Homes(Vec<Home>);

impl Homes {
    /// The tables of every recipe, and those of the registered components.
    pub(crate) fn new(components: &[ComponentSchema]) -> Self {
        let mut homes = vec![home(None, &schema_of::<Head>())];
        for entry in TABLES {
            homes.push(home(Some(entry.key), &(entry.schema)()));
        }
        for component in components {
            homes.push(home(Some(component.table), component.schema.as_value()));
        }
        Self(homes)
    }

    /// `` `max_length` belongs in `[data]` `` if a table that `here` does not lie in has this key.
    pub(super) fn help(&self, key: &str, here: &Place) -> Option<String> {
        let others = || self.0.iter().filter(|home| !here.is_in(home.table));
        let place = |table: Option<&str>| match table {
            Some(table) => format!("in `[{table}]`"),
            None => "at the top of the recipe, before the first table".to_string(),
        };
        let mut exact: Vec<_> = others().filter(|home| home.keys.iter().any(|known| known == key)).collect();
        exact.dedup_by_key(|home| home.table);
        match exact[..] {
            [] => {}
            [home] => return Some(format!("`{key}` belongs {}", place(home.table))),
            _ => {
                let tables = exact.iter().filter_map(|home| home.table).map(|table| format!("[{table}]"));
                let tables: Vec<String> = tables.collect();
                let tables = quoted_list(tables.iter().map(String::as_str), "or");
                return Some(format!("`{key}` belongs in {tables}"));
            }
        }
        others().find_map(|home| {
            let (_, ours) = home.aliases.iter().find(|(alias, _)| alias == key)?;
            Some(format!("did you mean `{ours}` {}?", place(home.table)))
        })
    }
}

fn home(table: Option<&'static str>, schema: &Json) -> Home {
    let entries = |keyword: &str| schema.get(keyword).and_then(Json::as_object).into_iter().flatten();
    Home {
        table,
        keys: entries("properties").map(|(key, _)| key.clone()).collect(),
        aliases: entries("x-aliases")
            .filter_map(|(alias, ours)| Some((alias.clone(), ours.as_str()?.to_string())))
            .collect(),
    }
}
