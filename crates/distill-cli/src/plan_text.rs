//! A plan as people read it.

use crate::commands::Context;
use crate::failure::Failure;
use crate::output;
use crate::terminal::table::{Align, Facts, Table, shorten, wrap};
use crate::terminal::units::{bytes, count, percent, short_count};
use crate::terminal::{Paint, width};
use distill_train::needs::Need;
use distill_train::plan::DistillationPlan;
use distill_train::{PlanReport, StageRecipe};

/// Beyond so many labels, only the most and the least frequent are shown.
const MOST_LABELS: usize = 20;

/// Resolves the stages of a recipe, with progress on stderr.
///
/// # Errors
/// Whatever would stop the run before its first step.
pub fn resolve(stages: &[StageRecipe], context: &Context) -> Result<Vec<PlanReport>, Failure> {
    let mut plans = Vec::with_capacity(stages.len());
    for stage in distill_train::planned(stages) {
        let mut observer = context.voice.observer();
        let plan = distill_train::plan(&stage.recipe, observer.as_mut());
        drop(observer);
        plans.push(plan?);
    }
    Ok(plans)
}

/// Resolves a recipe and writes its plan, or that of each stage, to stdout, its warnings to stderr.
///
/// # Errors
/// As [`resolve`].
pub fn show(stages: &[StageRecipe], context: &Context) -> Result<(), Failure> {
    let plans = resolve(stages, context)?;
    let paint = Paint::stdout();
    for (number, (plan, stage)) in plans.iter().zip(stages).enumerate() {
        let mut text = String::new();
        if stages.len() > 1 {
            let title = format!("stage {} of {}: {}", number + 1, stages.len(), stage.name);
            text.push_str(&format!("{}{}\n\n", if number > 0 { "\n" } else { "" }, paint.bold(title)));
        }
        text.push_str(&render(plan, paint, width()));
        output::print(&text)?;
        for warning in &plan.warnings {
            context.voice.warning(warning);
        }
    }
    Ok(())
}

fn render(plan: &PlanReport, paint: Paint, width: usize) -> String {
    let mut lines = Vec::new();
    let mut facts = Facts::new(paint);
    facts.add("run", plan.name.clone());
    facts.add("task", plan.task.clone());
    if let Some(beside) = &plan.task_beside {
        facts.add("", beside.clone());
    }
    facts.add("model", format!("{} ({})", plan.model.source, plan.model.architecture));
    let parameters = (plan.model.parameters, plan.model.trainable_parameters);
    facts.add(
        "parameters",
        match parameters {
            (all, trained) if all == trained => format!("{}, all trained", count(all)),
            (all, trained) => format!("{}, {} of them trained", count(all), count(trained)),
        },
    );
    if !plan.model.newly_initialised.is_empty() {
        facts.add("new", format!("{} start at random", tensors(&plan.model.newly_initialised)));
    }
    if !plan.model.unused.is_empty() {
        facts.add("left out", format!("{} of the checkpoint are not used", tensors(&plan.model.unused)));
    }
    if let Some(distillation) = &plan.distillation {
        distillation_facts(distillation, &mut facts);
    }
    facts.add("device", plan.computing.to_string());
    let rows = &plan.rows;
    let parts = [("training", rows.train), ("validation", rows.validation), ("test", rows.test)];
    let parts: Vec<String> = parts.iter().map(|(name, rows)| format!("{} {name}", count(*rows))).collect();
    facts.add("rows", parts.join(", "));
    let lengths = &plan.token_lengths;
    facts.add(
        "tokens",
        format!(
            "mean {:.1}, median {}, 90% {}, 95% {}, 99% {}, longest {}",
            lengths.mean, lengths.p50, lengths.p90, lengths.p95, lengths.p99, lengths.max
        ),
    );
    facts.add(
        "cut",
        format!("{} of the texts, at `max_length` {}", percent(plan.truncated_share), plan.max_length),
    );
    let steps = &plan.steps;
    facts.add(
        "steps",
        format!(
            "{} ({} epochs of {}), {} of them warm-up",
            count(steps.total),
            plan.epochs,
            count(steps.per_epoch),
            count(steps.warmup)
        ),
    );
    let checkpointing = if plan.gradient_checkpointing { ", with gradient checkpointing" } else { "" };
    facts.add("memory", need(&plan.memory, paint) + checkpointing);
    facts.add("disk", need(&plan.disk, paint));
    facts.add("writes to", plan.output_dir.clone());
    lines.extend(facts.lines(width));
    if !plan.labels.is_empty() {
        lines.push(String::new());
        lines.extend(labels(plan, paint));
        let mapping = wrap(&plan.label_mapping, width.saturating_sub(2));
        lines.extend(mapping.iter().map(|line| format!("  {}", paint.dim(line))));
    }
    lines.join("\n") + "\n"
}

fn distillation_facts(plan: &DistillationPlan, facts: &mut Facts) {
    for teacher in &plan.teachers {
        let mut line = format!(
            "{} ({}, {} parameters)",
            teacher.name,
            teacher.architecture,
            short_count(teacher.parameters as f64)
        );
        if plan.teachers.len() > 1 {
            line.push_str(&format!(", weight {:.2}", teacher.weight));
        }
        if teacher.own_tokenizer {
            line.push_str(", with a tokenizer of its own");
        }
        if let Some(columns) = &teacher.text {
            let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
            line.push_str(&format!(", reads {}", columns.join(", ")));
        }
        if teacher.other_label_order {
            line.push_str(", labels in another order, matched by name");
        }
        facts.add("teacher", line);
    }
    facts.add(
        "asked",
        match (plan.cached, plan.cache_top_k) {
            (_, Some(k)) => {
                format!("once, its {} likeliest tokens of each place are kept on disk", count(k as u64))
            }
            (true, None) => "once, its logits are kept on disk".to_owned(),
            (false, None) => "in each step".to_owned(),
        },
    );
    if let Some(texts) = &plan.teacher_texts {
        let most = texts
            .max_new_tokens
            .map_or(String::new(), |most| format!(", up to {} tokens each", count(most as u64)));
        facts.add("texts", format!("the teacher's{most}, written before the first step and kept on disk"));
    }
    if let Some(fraction) = plan.on_policy {
        facts.add("on policy", format!("in {} of the steps, the student's own texts", percent(fraction)));
    }
    if !plan.copied_layers.is_empty() {
        let layers: Vec<String> = plan.copied_layers.iter().map(usize::to_string).collect();
        facts.add("layers", format!("the teacher's {}", layers.join(", ")));
    }
    if let Some(kept) = plan.kept_energy {
        facts.add("embeddings", format!("the teacher's, projected: {} of their energy kept", percent(kept)));
    }
    if let Some(method) = plan.method {
        facts.add("method", format!("{method}, which stands for:"));
    }
    for loss in &plan.losses {
        facts.add("loss", inline(loss));
    }
    if let Some(copies) = plan.copies {
        let copies = format!(
            "up to {} changed copies of each text, made by the run; more rows, more steps",
            count(copies as u64)
        );
        facts.add("augment", copies);
    }
    if plan.transfer_rows > 0 {
        facts.add(
            "transfer",
            format!("{} of the rows are labelled by the teacher alone", count(plan.transfer_rows)),
        );
    }
}

/// A loss as a recipe writes it.
fn inline(loss: &serde_json::Value) -> String {
    let keys = loss.as_object().into_iter().flatten();
    let keys: Vec<String> = keys.map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", keys.join(", "))
}

fn tensors(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => quoted.join(", "),
        more => format!("{} and {more} more tensors", quoted.join(", ")),
    }
}

fn need(need: &Need, paint: Paint) -> String {
    let needed = format!("about {}", bytes(need.needed_bytes));
    match need.available_bytes {
        None => needed,
        Some(available) if need.is_short() => paint.red(format!("{needed}, only {} there", bytes(available))),
        Some(available) => format!("{needed} of {} there", bytes(available)),
    }
}

fn labels(plan: &PlanReport, paint: Paint) -> Vec<String> {
    let mut table = Table::new([Align::Left, Align::Right, Align::Right, Align::Right]);
    table.row(["label", "training", "validation", "test"].map(|text| paint.bold(text)));
    let mut shown: Vec<_> = plan.labels.iter().collect();
    if shown.len() > MOST_LABELS {
        shown.sort_by_key(|label| std::cmp::Reverse(label.train));
        let cut = shown.len() - MOST_LABELS / 2;
        shown.drain(MOST_LABELS / 2..cut);
    }
    for (index, label) in shown.iter().enumerate() {
        if plan.labels.len() > MOST_LABELS && index == MOST_LABELS / 2 {
            table.row([format!("... {} labels in between", plan.labels.len() - MOST_LABELS)]);
        }
        let rows = [label.train, label.validation, label.test].map(count);
        table.row([shorten(&label.name, 40)].into_iter().chain(rows));
    }
    table.lines(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_train::Computing;
    use distill_train::plan::{LabelCount, ModelPlan, Rows, Steps, TokenLengths};

    fn sample(labels: usize) -> PlanReport {
        let label = |index: usize| LabelCount {
            name: format!("label {index}"),
            train: 100 + index as u64,
            validation: 5,
            test: 20,
        };
        PlanReport {
            task_beside: None,
            name: "tickets".to_owned(),
            output_dir: "checkpoints/tickets".to_owned(),
            computing: Computing {
                device: "flex".to_owned(),
                dtype: "bf16".to_owned(),
                instruction_set: Some("amx".to_owned()),
                threads: 8,
            },
            task: "classification".to_owned(),
            labels: (0..labels).map(label).collect(),
            label_mapping: "labels are names".to_owned(),
            rows: Rows { train: 10_000, validation: 500, test: 7600 },
            token_lengths: TokenLengths { mean: 51.26, p50: 48, p90: 70, p95: 81, p99: 120, max: 213 },
            truncated_share: 0.0071,
            max_length: 128,
            model: ModelPlan {
                source: "all-MiniLM-L6-v2".to_owned(),
                architecture: "bert".to_owned(),
                parameters: 22_714_372,
                trainable_parameters: 22_714_372,
                newly_initialised: vec!["classifier.weight".to_owned(), "classifier.bias".to_owned()],
                unused: Vec::new(),
            },
            distillation: None,
            steps: Steps { per_epoch: 313, total: 939, warmup: 57 },
            epochs: 3.0,
            memory: Need { needed_bytes: 2 << 30, available_bytes: Some(20 << 30) },
            gradient_checkpointing: false,
            disk: Need { needed_bytes: 3 << 30, available_bytes: Some(1 << 30) },
            warnings: Vec::new(),
        }
    }

    #[test]
    fn tells_everything_that_a_run_depends_on() {
        insta::assert_snapshot!(render(&sample(2), Paint::PLAIN, 80));
    }

    #[test]
    fn many_labels_are_shortened() {
        let text = render(&sample(77), Paint::PLAIN, 80);
        assert!(text.contains("... 57 labels in between"), "{text}");
        assert!(
            text.contains("label 76 ") && text.contains("label 0 ") && !text.contains("label 40 "),
            "{text}"
        );
    }
}
