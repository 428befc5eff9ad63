//! `[rationale]`: labels that are learnt together with the steps that lead to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::Column;
use super::parse::Table;
use super::template_fault::template_fault;
use crate::fault::Fault;
use crate::node::Node;

/// What `[rationale]` says; Hsieh et al. 2023, "Distilling Step-by-Step" (arXiv:2305.02301). Texts have columns in braces: `"predict: {question}"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "prompt": "label_prompt", "predict_prompt": "label_prompt", "explain_prompt": "rationale_prompt",
    "answer": "label", "target": "label", "explanation": "rationale", "alpha": "weight", "lambda": "weight",
    "label_weight": "weight", "type": "mode", "options": "choices", "reference": "gold", "gold_label": "gold",
    "teacher_answer": "teacher_label", "marker": "answer_marker"
}))]
pub struct RationaleTable {
    /// Text that asks for the label, as in `"predict: {question}"`; a list among the columns is written with commas.
    #[schemars(length(min = 1))]
    pub label_prompt: String,
    /// Text that asks for the rationale, as in `"explain: {question}"`; needed by `multi_task`, which learns both apart.
    #[schemars(length(min = 1))]
    pub rationale_prompt: Option<String>,
    /// Label that is learnt, as in `"{answer}"`: that of the data, or a teacher's.
    #[schemars(length(min = 1))]
    pub label: String,
    /// Rationale that is learnt, as in `"{rationale}"`; rows where it is empty teach their label alone.
    #[schemars(length(min = 1))]
    pub rationale: Option<String>,
    /// Label that answers are measured by, in validation and test rows; default `label`.
    #[schemars(length(min = 1))]
    pub gold: Option<String>,
    /// Label that the rationale argues for, as in `"{teacher_answer}"`, by which `wrong_rationales` are told.
    #[schemars(length(min = 1))]
    pub teacher_label: Option<String>,
    /// What becomes of rationales that argue for another label than `gold`: `keep` them, or `drop` them, so that their rows teach the label alone; default `keep`.
    #[serde(default)]
    pub wrong_rationales: WrongRationales,
    /// Column with the list of labels to choose from; answers are then chosen by their likelihood as well as written.
    pub choices: Option<Column>,
    /// α of `α · L_label + (1 − α) · L_rationale`, each a mean over the tokens of its task; 0 to 1, default 0.5.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight: f64,
    /// `multi_task` (label and rationale each after its own prompt), `single_task` (the rationale, then the label), or `label_only`; default `multi_task`.
    #[serde(default)]
    pub mode: RationaleMode,
    /// What stands between a prompt and what a decoder writes; default a line break. Encoder-decoders have nothing there.
    #[serde(default = "line_break")]
    pub separator: String,
    /// What stands between rationale and label in `single_task`; default a line break and `Answer: `.
    #[serde(default = "answer")]
    #[schemars(length(min = 1))]
    pub answer_marker: String,
}

/// How rationales are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[schemars(extend("x-aliases" = {
    "multitask": "multi_task", "step_by_step": "multi_task", "task_prefix": "multi_task",
    "chain_of_thought": "single_task", "cot": "single_task", "standard": "label_only", "none": "label_only"
}))]
pub enum RationaleMode {
    /// Two tasks that are told apart by their prompts.
    #[default]
    MultiTask,
    /// One text: the rationale, then the label.
    SingleTask,
    /// The label alone.
    LabelOnly,
}

/// What becomes of rationales that argue for a wrong label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[schemars(extend("x-aliases" = { "all": "keep", "filter": "drop", "remove": "drop" }))]
pub enum WrongRationales {
    /// They are learnt.
    #[default]
    Keep,
    /// Their rows teach the label alone.
    Drop,
}

impl RationaleMode {
    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiTask => "multi_task",
            Self::SingleTask => "single_task",
            Self::LabelOnly => "label_only",
        }
    }
}

fn half() -> f64 {
    0.5
}

fn line_break() -> String {
    "\n".to_owned()
}

fn answer() -> String {
    "\nAnswer: ".to_owned()
}

impl Table for RationaleTable {
    const KEY: &'static str = "rationale";

    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        let templates = [
            ("label_prompt", Some(&self.label_prompt)),
            ("rationale_prompt", self.rationale_prompt.as_ref()),
            ("label", Some(&self.label)),
            ("rationale", self.rationale.as_ref()),
            ("gold", self.gold.as_ref()),
            ("teacher_label", self.teacher_label.as_ref()),
        ];
        for (key, template) in templates {
            if let Some(reason) = template.and_then(|template| template_fault(template)) {
                let help = "name a column as in `{question}`, and write `{{` and `}}` for braces";
                faults.push(written.fault_at(key, format!("`{key}`: {reason}")).with_help(help));
            }
        }
        let needed: &[(&str, bool)] = match self.mode {
            RationaleMode::MultiTask => &[
                ("rationale_prompt", self.rationale_prompt.is_none()),
                ("rationale", self.rationale.is_none()),
            ],
            RationaleMode::SingleTask => &[("rationale", self.rationale.is_none())],
            RationaleMode::LabelOnly => &[],
        };
        for (key, missing) in needed {
            if *missing {
                let message = format!("the mode `{}` needs `{key}`", self.mode.name());
                let help = match *key {
                    "rationale" => {
                        "write `rationale = \"{...}\"`, the column of the rationales; to learn labels alone write `mode = \"label_only\"`"
                    }
                    _ => {
                        "write `rationale_prompt = \"explain: {...}\"`, so that the model can tell the two tasks apart"
                    }
                };
                faults.push(written.fault_at("mode", message).with_help(help));
            }
        }
        if self.mode == RationaleMode::MultiTask
            && self.rationale_prompt.as_deref() == Some(self.label_prompt.as_str())
        {
            let message =
                "`rationale_prompt` is `label_prompt`: the model cannot tell which task is asked for";
            let help = "begin them with different words, as `predict:` and `explain:`";
            faults.push(written.fault_at("rationale_prompt", message).with_help(help));
        }
        if self.wrong_rationales == WrongRationales::Drop && self.teacher_label.is_none() {
            let message = "`wrong_rationales = \"drop\"` needs `teacher_label`, which tells them";
            let help =
                "write `teacher_label = \"{teacher_answer}\"`, the column of what the teacher answered";
            faults.push(written.fault_at("wrong_rationales", message).with_help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Document, Recipe};

    const HEAD: &str =
        "name = \"a\"\n[task]\nkind = \"k\"\n[model]\npath = \"p\"\n[data]\ntrain = \"x.jsonl\"\n";
    const LABEL: &str = "[rationale]\nlabel_prompt = \"predict: {q}\"\nlabel = \"{a}\"\n";

    fn read(keys: &str) -> Result<Recipe, String> {
        let document = Document::parse("r.toml", format!("{HEAD}{LABEL}{keys}"), &[]).expect("is TOML");
        Recipe::from_document(document, &[]).map_err(|faults| faults.to_string())
    }

    #[test]
    fn what_a_mode_needs_is_asked_for() {
        let both = "rationale_prompt = \"explain: {q}\"\nrationale = \"{r}\"\n";
        let table = read(both).unwrap().rationale.unwrap();
        assert_eq!((table.weight, table.separator.as_str()), (0.5, "\n"));
        assert!(read("mode = \"label_only\"").is_ok());
        assert!(read("mode = \"single_task\"\nrationale = \"{r}\"").is_ok());
        for (keys, message) in [
            ("", "the mode `multi_task` needs `rationale_prompt`"),
            ("rationale_prompt = \"explain: {q}\"", "the mode `multi_task` needs `rationale`"),
            ("mode = \"single_task\"", "the mode `single_task` needs `rationale`"),
            (
                "rationale_prompt = \"predict: {q}\"\nrationale = \"{r}\"",
                "cannot tell which task is asked for",
            ),
            ("mode = \"label_only\"\ngold = \"{g\"", "`gold`: a `{` is never closed"),
            ("mode = \"label_only\"\nwrong_rationales = \"drop\"", "needs `teacher_label`"),
            ("mode = \"cot\"\nrationale = \"{r}\"", "did you mean `single_task`?"),
            ("mode = \"label_only\"\nalpha = 0.3", "did you mean `weight`?"),
            ("mode = \"label_only\"\nweight = 1.3", "`weight` must be between 0 and 1"),
        ] {
            let found = read(keys).unwrap_err();
            assert!(found.contains(message), "{keys}: {found}");
        }
    }
}
