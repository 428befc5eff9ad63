//! JSON Schemas of types.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value as Json;

/// The JSON Schema of a type, as the checker and `distill schema` use it.
pub(crate) fn schema_of<T: JsonSchema>() -> Json {
    schema_for::<T>().to_value()
}

pub(crate) fn schema_for<T: JsonSchema>() -> Schema {
    SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>()
}

/// The object that a table's `x-aliases` holds.
pub(crate) fn aliases(pairs: &[(&str, &str)]) -> Json {
    pairs
        .iter()
        .map(|(theirs, ours)| (theirs.to_string(), Json::from(*ours)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
