//! `[model]`, or `[student]`: a model to start from, one from scratch, or one made of its teacher.

use schemars::JsonSchema;

use super::student::{self, FromTeacher, StudentForm};
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
    /// `init = "from_teacher"`: made of the teacher's weights.
    FromTeacher(FromTeacher),
}

impl ModelTable {
    /// The folder or hub id of the model to start from, if there is one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Pretrained { path } => Some(path),
            Self::Scratch(_) | Self::FromTeacher(_) => None,
        }
    }

    /// The architecture with its sizes, if the model is made from scratch.
    pub fn architecture(&self) -> Option<&Component> {
        match self {
            Self::Pretrained { .. } | Self::FromTeacher(_) => None,
            Self::Scratch(component) => Some(component),
        }
    }

    /// The table as JSON, as it was written.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Pretrained { path } => serde_json::json!({ "path": path }),
            Self::Scratch(component) => component.to_json(),
            Self::FromTeacher(student) => student.node.to_json(),
        }
    }
}

/// Names that users know from other tools, and ours.
pub(super) const ALIASES: &[(&str, &str)] = &[
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

/// Reads `[model]`, or `[student]` in its place where there is a teacher.
pub(crate) fn parse(
    document: &Document,
    components: &[ComponentSchema],
    homes: &Homes,
    faults: &mut Vec<Fault>,
) -> Option<ModelTable> {
    let root = &document.root;
    let has_teacher = root.get("teacher").is_some() || root.get("distill").is_some();
    match (root.get("model"), root.get("student")) {
        (Some(model), Some(student)) => {
            let fault =
                Fault::new("a recipe must have `[model]` or `[student]`, not both", model.key_label());
            faults.push(fault.with_label(student.key_label()).with_help("remove one of them"));
            None
        }
        (Some(model), None) if has_teacher => {
            let message = "with a teacher the model is the student: `[model]` must be `[student]`";
            faults.push(Fault::new(message, model.key_label()).with_help("write `[student]`"));
            None
        }
        (None, Some(student)) if !has_teacher => {
            let message = "`[student]` needs a `[teacher]`";
            let help = "write `[teacher]` with `path = \"...\"`, or `[model]` for a model that learns alone";
            faults.push(Fault::new(message, student.key_label()).with_help(help));
            None
        }
        (None, None) => {
            let (name, help) = match has_teacher {
                true => ("student", "write `[student]` with `path = \"...\"` or `init = \"from_teacher\"`"),
                false => ("model", "write `[model]` with `path = \"...\"`, a folder or a hub id"),
            };
            faults.push(Fault::new(format!("missing table `[{name}]`"), root.label()).with_help(help));
            None
        }
        (Some(node), None) => parse_table(node, "model", components, homes, faults),
        (None, Some(node)) => match node.get("init") {
            Some(_) => student::parse(node, homes, faults).map(ModelTable::FromTeacher),
            None => parse_table(node, "student", components, homes, faults),
        },
    }
}

/// A table that has `path` or else `architecture`.
fn parse_table(
    node: &Node,
    table: &'static str,
    components: &[ComponentSchema],
    homes: &Homes,
    faults: &mut Vec<Fault>,
) -> Option<ModelTable> {
    match (node.get("path"), node.get("architecture")) {
        (Some(path), Some(architecture)) => {
            let fault = Fault::new(
                format!("`[{table}]` must have `path` or `architecture`, not both"),
                path.key_label(),
            )
            .with_label(architecture.key_label())
            .with_help("`path` starts from a trained model, `architecture` from random weights; remove one");
            faults.push(fault);
            None
        }
        (None, Some(_)) => {
            component::take(node, table, "architecture", components, homes, faults).map(ModelTable::Scratch)
        }
        (path, None) => {
            let before = faults.len();
            check_form(node, table, homes, faults);
            if path.is_none() && faults.len() == before {
                let message = format!("`[{table}]` must have `path` or `architecture`");
                let help =
                    "`path` is a folder or hub id to start from, `architecture` starts from random weights";
                let help = match table {
                    "student" => format!("{help}, `init = \"from_teacher\"` from the teacher's"),
                    _ => help.to_string(),
                };
                faults.push(Fault::new(message, node.key_label()).with_help(help));
            }
            let path = path?.as_str()?;
            (faults.len() == before).then(|| ModelTable::Pretrained { path: path.to_string() })
        }
    }
}

fn check_form(node: &Node, table: &str, homes: &Homes, faults: &mut Vec<Fault>) {
    let context = Context { besides: &[], homes };
    let before = faults.len();
    let schema = if table == "student" { schema_of::<StudentForm>() } else { schema_of::<ModelForm>() };
    check(node, &schema, &Place::new(table), &context, faults);
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
