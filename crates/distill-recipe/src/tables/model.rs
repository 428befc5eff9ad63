//! `[model]`: a model to start from, or one from scratch.

use schemars::JsonSchema;

use crate::component::{self, Component, ComponentSchema};
use crate::document::Document;
use crate::fault::Fault;
use crate::node::Node;
use crate::schema::{Context, Homes, Place, check};
use crate::type_schema::{aliases, schema_of};

/// What `[model]` says.
#[derive(Clone, Debug)]
pub enum ModelTable {
    /// `path`: a folder, or a hub id, `org/name` or `org/name@revision`.
    Pretrained {
        /// The path as written.
        path: String,
    },
    /// `architecture`: from scratch; all other keys belong to the architecture.
    Scratch(Component),
}

impl ModelTable {
    /// The folder or hub id of the model to start from, if there is one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Pretrained { path } => Some(path),
            Self::Scratch(_) => None,
        }
    }

    /// The architecture with its sizes, if the model is made from scratch.
    pub fn architecture(&self) -> Option<&Component> {
        match self {
            Self::Pretrained { .. } => None,
            Self::Scratch(component) => Some(component),
        }
    }
}

/// Names that users know from other tools, and ours.
const ALIASES: &[(&str, &str)] = &[
    ("model_name_or_path", "path"),
    ("base_model", "path"),
    ("pretrained_model_name_or_path", "path"),
    ("model_name", "path"),
    ("model", "path"),
    ("pretrained", "path"),
    ("checkpoint", "path"),
    ("checkpoint_dir", "path"),
    ("hub_id", "path"),
    ("repo_id", "path"),
    ("model_type", "architecture"),
    ("arch", "architecture"),
    ("architectures", "architecture"),
    ("kind", "architecture"),
];

/// The keys of `[model]` that are there whatever architectures are registered.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("x-aliases" = aliases(ALIASES)))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ModelForm {
    /// A folder with a model in the Hugging Face layout, or a hub id: `org/name` or `org/name@revision`.
    #[schemars(length(min = 1))]
    path: Option<String>,
    /// Architecture of a model that is trained from scratch; its sizes are further keys of the table.
    architecture: Option<String>,
}

/// Reads `[model]`, which has `path` or else `architecture`.
pub(crate) fn parse(
    document: &Document,
    components: &[ComponentSchema],
    homes: &Homes,
    faults: &mut Vec<Fault>,
) -> Option<ModelTable> {
    let node = document.root.get("model")?;
    match (node.get("path"), node.get("architecture")) {
        (Some(path), Some(architecture)) => {
            let fault =
                Fault::new("`[model]` must have `path` or `architecture`, not both", path.key_label())
                    .with_label(architecture.key_label())
                    .with_help(
                        "`path` starts from a trained model, `architecture` from random weights; remove one",
                    );
            faults.push(fault);
            None
        }
        (None, Some(_)) => {
            component::take(node, "model", "architecture", components, homes, faults).map(ModelTable::Scratch)
        }
        (path, None) => {
            let before = faults.len();
            check_form(node, homes, faults);
            if path.is_none() && faults.len() == before {
                let fault = Fault::new("`[model]` must have `path` or `architecture`", node.key_label());
                faults.push(fault.with_help(
                    "`path` is a folder or hub id to start from, `architecture` starts from random weights",
                ));
            }
            let path = path?.as_str()?;
            (faults.len() == before).then(|| ModelTable::Pretrained { path: path.to_string() })
        }
    }
}

fn check_form(node: &Node, homes: &Homes, faults: &mut Vec<Fault>) {
    let context = Context { besides: &[], homes };
    let before = faults.len();
    let schema = schema_of::<ModelForm>();
    check(node, &schema, &Place::new("model"), &context, faults);
    if node.get("path").is_some() {
        for fault in &mut faults[before..] {
            let advice = fault.help.as_deref().unwrap_or_default();
            if advice.contains("takes `path`") {
                fault.help = Some(
                    "with `path` no other key is allowed: sizes come from the model's `config.json`"
                        .to_string(),
                );
            }
        }
    }
}
