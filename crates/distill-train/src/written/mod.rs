//! Texts that models write to train on: a teacher's in place of the data's ([`TeacherTexts`]; Kim and Rush 2016, §3.2,
//! arXiv:1606.07947), and the student's own, corrected by its teacher ([`OnPolicy`]; Agarwal et al. 2023,
//! arXiv:2306.13649).

mod on_policy;
mod prompts;
mod teacher_texts;
mod writing;

pub(crate) use on_policy::OnPolicy;
pub(crate) use teacher_texts::TeacherTexts;

use crate::error::TrainError;
use crate::objectives::{Level, LossConfig, reads_teacher_logits};
use distill_recipe::{Method, Recipe, WrittenTexts};

/// How the teacher writes the texts of a run, where it does.
pub(crate) fn teacher_texts(recipe: &Recipe) -> Option<WrittenTexts> {
    let table = &recipe.distill.as_ref()?.table;
    let asked = table.method == Some(Method::SequenceLevel);
    table.teacher_texts.clone().or_else(|| asked.then(WrittenTexts::default))
}

/// The part of the steps that train on the student's own texts, a fraction.
pub(crate) fn on_policy(recipe: &Recipe) -> f64 {
    let Some(distill) = &recipe.distill else { return 0.0 };
    let usual = if distill.table.method == Some(Method::Gkd) { 0.5 } else { 0.0 };
    distill.table.on_policy.unwrap_or(usual)
}

/// How many of the teacher's likeliest tokens are kept on disk, where they are.
pub(crate) fn cache_top_k(recipe: &Recipe) -> Option<usize> {
    recipe.distill.as_ref()?.table.cache_top_k
}

/// Refuses settings of written texts that mean nothing where they stand.
///
/// # Errors
/// The first of them, at its key.
pub(crate) fn check(
    recipe: &Recipe,
    level: Level,
    configs: &[LossConfig],
    teachers: usize,
) -> Result<(), TrainError> {
    let Some(distill) = &recipe.distill else { return Ok(()) };
    let fault = |key: &str, message: &str, help: &str| {
        let key = format!("distill.{key}");
        Err(recipe.faults(vec![recipe.fault_at(&key, message, Some(help.to_owned()))]).into())
    };
    let table = &distill.table;
    let from_texts = teacher_texts(recipe).is_some();
    let texts_key = if table.teacher_texts.is_some() { "teacher_texts" } else { "method" };
    let own_key = if table.on_policy.is_some() { "on_policy" } else { "method" };
    let own_texts = on_policy(recipe) > 0.0;
    if level != Level::NextToken {
        let given = [
            (texts_key, from_texts),
            (own_key, own_texts),
            ("student_texts", table.student_texts.is_some()),
            ("cache_top_k", table.cache_top_k.is_some()),
        ];
        let Some((key, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
        let help = "leave it out, or take the tasks `language_modeling` and `seq2seq`";
        return fault(key, "this is for models that write texts, and this task trains none", help);
    }
    let compares = configs.iter().any(|config| reads_teacher_logits(config.kind));
    if from_texts && teachers > 1 {
        let help = "name one teacher by `path`";
        return fault(texts_key, "texts are written by one teacher, and there are several", help);
    }
    if own_texts && !compares {
        let help = "add one: `jsd`, `reverse_kl`, `forward_kl` or `soft_labels`";
        let message = "the student's own texts are learnt from by comparing with the teacher alone, and no loss does so";
        return fault(own_key, message, help);
    }
    if table.student_texts.is_some() && !own_texts {
        let help = "say how many of the steps take them: `on_policy = 0.5`";
        return fault("student_texts", "no step trains on the student's own texts", help);
    }
    if table.cache_top_k.is_none() {
        return Ok(());
    }
    if !table.cache_teacher {
        let help = "leave one of them out";
        return fault("cache_top_k", "`cache_top_k` keeps logits on disk, and `cache_teacher` is off", help);
    }
    if own_texts {
        let help = "leave `cache_top_k` out: the teacher runs along";
        return fault(
            "cache_top_k",
            "the student's own texts are new in every step: no cache has them",
            help,
        );
    }
    if teachers > 1 {
        let help = "name one teacher by `path`, or leave it out";
        return fault(
            "cache_top_k",
            "the likeliest tokens are those of one teacher, and there are several",
            help,
        );
    }
    if !compares {
        let help =
            "leave it out, or add a loss that compares: `forward_kl`, `reverse_kl`, `jsd` or `soft_labels`";
        return fault("cache_top_k", "no loss looks at what the teacher says of the next token", help);
    }
    Ok(())
}
