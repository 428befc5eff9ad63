//! `[student]` with `init = "from_teacher"`: a student made of its teacher's weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::ALIASES;
use super::parse::typed;
use crate::component::Component;
use crate::fault::Fault;
use crate::node::Node;
use crate::schema::{Context, Homes, Place};
use crate::type_schema::{aliases, schema_of};

/// The keys of `[student]` that are there whatever architectures are registered.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("x-aliases" = aliases(ALIASES)))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct StudentForm {
    /// A folder with a model in the Hugging Face layout, or a hub id: `org/name` or `org/name@revision`.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Architecture of a student with new layers; its sizes are further keys of the table.
    architecture: Option<String>,
    /// `from_teacher`: embeddings, head and layers are the teacher's; with sizes of its own the student has the teacher's embeddings, projected, and new layers.
    init: Option<Init>,
    /// With `init`: the teacher's layers to take, numbered from 0, or `"even"` (with `num_hidden_layers`).
    layers: Option<StudentLayers>,
}

/// How a student begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = { "teacher": "from_teacher" }))]
pub enum Init {
    /// From the teacher's weights.
    FromTeacher,
}

/// Which of the teacher's layers a student takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum StudentLayers {
    /// By their numbers, from 0.
    Numbers(Vec<usize>),
    /// Spread over all of them.
    Spread(Spread),
}

/// How layers are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = { "uniform": "even", "evenly": "even" }))]
pub enum Spread {
    /// As evenly as can be.
    Even,
}

/// A student made of its teacher. The sizes are the architecture's affair and checked where it is known.
#[derive(Clone, Debug)]
pub struct FromTeacher {
    /// The layers to take; `None` where sizes of its own ask for new ones, or all are taken.
    pub layers: Option<StudentLayers>,
    /// `num_hidden_layers`, where it is given.
    pub num_hidden_layers: Option<usize>,
    /// The architecture; `None` = the teacher's.
    pub architecture: Option<String>,
    /// Folder or hub id of the teacher; `None` = the recipe's, another where a later stage is planned before the first
    /// has made the student.
    pub teacher: Option<String>,
    /// All other keys, `num_hidden_layers` among them.
    pub sizes: serde_json::Map<String, serde_json::Value>,
    /// The table.
    pub node: Node,
}

impl FromTeacher {
    /// A fault at a key of the table.
    pub fn fault_at(&self, key: &str, message: impl Into<String>, help: Option<String>) -> Fault {
        let component = Component {
            path: "student".to_string(),
            tag: "init".to_string(),
            name: "from_teacher".to_string(),
            node: self.node.clone(),
        };
        component.fault_at(key, message, help)
    }
}

#[derive(Deserialize, JsonSchema)]
struct Keys {
    #[expect(dead_code, reason = "only its form is checked")]
    init: Init,
    #[serde(default)]
    #[schemars(length(min = 1))]
    layers: Option<StudentLayers>,
    #[serde(default)]
    architecture: Option<String>,
    /// Encoder layers.
    #[serde(default)]
    #[schemars(range(min = 1))]
    num_hidden_layers: Option<usize>,
}

/// Reads a table with `init`.
pub(super) fn parse(node: &Node, homes: &Homes, faults: &mut Vec<Fault>) -> Option<FromTeacher> {
    if let Some(path) = node.get("path") {
        let message = "`[student]` must have `path` or `init`, not both";
        let help = "`path` starts from a model of its own, `init` from the teacher; remove one";
        faults.push(Fault::new(message, path.key_label()).with_help(help));
        return None;
    }
    let known = ["init", "layers", "architecture", "num_hidden_layers"];
    let others: Vec<&str> =
        node.as_table()?.keys().map(String::as_str).filter(|key| !known.contains(key)).collect();
    let context = Context { besides: &others, homes };
    let schema = schema_of::<Keys>();
    let keys: Keys = typed(node, &Place::new("student"), &schema, &context, faults, check)?;
    let sizes = node
        .as_table()?
        .iter()
        .filter(|(key, _)| !["init", "layers", "architecture"].contains(&key.as_str()))
        .map(|(key, node)| (key.clone(), node.to_json()));
    Some(FromTeacher {
        sizes: sizes.collect(),
        layers: keys.layers,
        num_hidden_layers: keys.num_hidden_layers,
        architecture: keys.architecture,
        teacher: None,
        node: node.clone(),
    })
}

fn check(keys: &Keys, written: &Node, faults: &mut Vec<Fault>) {
    let Some(layers) = written.get("layers") else { return };
    match (&keys.layers, keys.num_hidden_layers) {
        (Some(StudentLayers::Spread(Spread::Even)), None) => {
            let message = "`layers = \"even\"` needs `num_hidden_layers`";
            faults.push(
                Fault::new(message, layers.label()).with_help("write how many: `num_hidden_layers = 3`"),
            );
        }
        (Some(StudentLayers::Numbers(numbers)), Some(count)) if numbers.len() != count => {
            let message = format!("`layers` has {} numbers, `num_hidden_layers` is {count}", numbers.len());
            faults.push(Fault::new(message, layers.label()).with_help("remove `num_hidden_layers`"));
        }
        _ => {}
    }
}
