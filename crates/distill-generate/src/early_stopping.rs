//! When a beam search ends.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// When a beam search that has `num_beams` ended sequences ends itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `false`: when the best open beam, scored as if it ended now, is no better than the worst ended
    /// sequence.
    #[default]
    Unlikely,
    /// `true`: at once.
    Full,
    /// `"never"`: when no open beam can become better; with a `length_penalty` above 0 it is scored as if
    /// it had all `max_new_tokens` with no further loss.
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlikely => writer.serialize_bool(false),
            Self::Full => writer.serialize_bool(true),
            Self::Never => writer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Flag(bool),
            Word(String),
        }
        let expected = || serde::de::Error::custom("expected `true`, `false` or `\"never\"`");
        match Form::deserialize(reader).map_err(|_| expected())? {
            Form::Flag(false) => Ok(Self::Unlikely),
            Form::Flag(true) => Ok(Self::Full),
            Form::Word(word) if word == "never" => Ok(Self::Never),
            Form::Word(_) => Err(expected()),
        }
    }
}

impl JsonSchema for EarlyStopping {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EarlyStopping".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [false, true, "never"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn three_spellings_and_no_other() {
        for (written, meant) in [
            (json!(false), EarlyStopping::Unlikely),
            (json!(true), EarlyStopping::Full),
            (json!("never"), EarlyStopping::Never),
        ] {
            assert_eq!(from_value::<EarlyStopping>(written.clone()).unwrap(), meant);
            assert_eq!(to_value(meant).unwrap(), written);
        }
        for wrong in [json!("always"), json!(1), json!(null)] {
            let error = from_value::<EarlyStopping>(wrong).unwrap_err().to_string();
            assert_eq!(error, "expected `true`, `false` or `\"never\"`");
        }
    }
}
