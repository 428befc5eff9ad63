//! `2` or `[2, 3]`, as Hugging Face writes `eos_token_id` and `stop_strings`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// Reads one value or a list of them as a list; `null` as an empty one.
pub(crate) fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        Many(Vec<T>),
        One(T),
        None,
    }
    Ok(match Form::deserialize(reader)? {
        Form::Many(values) => values,
        Form::One(value) => vec![value],
        Form::None => Vec::new(),
    })
}

/// The schema of one value or a list of them.
pub(crate) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one.clone(), { "type": "array", "items": one }] })
}
