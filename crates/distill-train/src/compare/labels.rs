//! Labels of several models, which may number them differently.

use super::Contender;
use crate::error::TrainError;
use crate::events::{Event, Observer};
use distill_data::{DataSpec, LabelMap, LabelSource, Scan, scan_classification};
use distill_eval::Predictions;

/// Labels that a message lists before it counts the rest.
const SHOWN: usize = 5;

/// Checks that all models know the same labels, in whatever order.
///
/// # Errors
/// [`TrainError::Unusable`] with the labels that only one of two models has.
pub(super) fn check_names(contenders: &[Contender]) -> Result<(), TrainError> {
    let Some((first, others)) = contenders.split_first() else { return Ok(()) };
    let names = |model: &Contender| model.predictor().labels().to_vec();
    for other in others {
        if let Some(message) =
            difference((first.reference(), &names(first)), (other.reference(), &names(other)))
        {
            return Err(TrainError::Unusable {
                message,
                help: "compare classifiers of one task; where only names differ, correct `id2label` in `config.json`"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

fn difference(first: (&str, &[String]), other: (&str, &[String])) -> Option<String> {
    let lacking = |of: &[String], known: &[String]| {
        of.iter().filter(|name| !known.contains(name)).cloned().collect::<Vec<_>>()
    };
    let parts: Vec<String> = [(first, other), (other, first)]
        .into_iter()
        .map(|((model, own), (_, known))| (model, lacking(own, known)))
        .filter(|(_, names)| !names.is_empty())
        .map(|(model, names)| format!("only `{model}` has {}", list(&names)))
        .collect();
    if parts.is_empty() && first.1.len() == other.1.len() {
        return None;
    }
    let message = format!("`{}` and `{}` know different labels", first.0, other.0);
    Some(if parts.is_empty() { message } else { format!("{message}: {}", parts.join(", ")) })
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// Reads the data, its labels as the runs read them that made the models.
///
/// # Errors
/// Whatever is wrong with the files; a row whose label two runs read differently.
pub(super) fn read(
    contenders: &[Contender],
    spec: &DataSpec,
    observer: &mut dyn Observer,
) -> Result<Scan, TrainError> {
    let mut reading =
        |done| observer.event(&Event::Progress { what: "reading rows".to_owned(), done, total: None });
    // Every way in which a run read the label column, and whose it is.
    let mut readings: Vec<(&str, &LabelMap, Scan)> = Vec::new();
    let mut refusal = None;
    for (model, map) in contenders.iter().filter_map(|model| Some((model.reference(), model.label_map()?))) {
        if readings.iter().any(|(_, known, _)| *known == map) {
            continue;
        }
        // A run that learned from names says nothing of files with numbers, which another may know.
        let scan = match scan_classification(spec, LabelSource::Map(map), &mut reading) {
            Ok(scan) => scan,
            Err(error) => {
                refusal.get_or_insert(error);
                continue;
            }
        };
        if let Some((first, its_map, its_scan)) = readings.first() {
            let ids = |scan: &Scan| scan.labels.clone().unwrap_or_default();
            check_alike((first, &ids(its_scan), its_map.names()), (model, &ids(&scan), map.names()))?;
        }
        readings.push((model, map, scan));
    }
    match (readings.into_iter().next(), refusal) {
        (Some((_, _, scan)), _) => return Ok(scan),
        (None, Some(error)) => return Err(error.into()),
        (None, None) => {}
    }
    let names = contenders.first().map(|model| model.predictor().labels());
    Ok(scan_classification(spec, LabelSource::Infer { names, start: None }, &mut reading)?)
}

/// Whether two runs read every row's label as the same name.
fn check_alike(one: (&str, &[u32], &[String]), other: (&str, &[u32], &[String])) -> Result<(), TrainError> {
    let name = |names: &[String], id: u32| names.get(id as usize).cloned().unwrap_or_default();
    for (row, (&id, &its_id)) in one.1.iter().zip(other.1).enumerate() {
        let (read, its_read) = (name(one.2, id), name(other.2, its_id));
        if read != its_read {
            return Err(TrainError::Unusable {
                message: format!(
                    "the label of row {} is `{read}` as the run of `{}` read its data, and `{its_read}` as that of `{}` did",
                    row + 1,
                    one.0,
                    other.0,
                ),
                help: "the runs numbered the labels differently: give data whose labels are names".to_owned(),
            });
        }
    }
    Ok(())
}

/// What a model with the labels `own` predicts, its logits in the order of `names`, which is that of the rows' labels.
///
/// # Errors
/// [`TrainError::Eval`] if a name is missing, which [`check_names`] has ruled out.
pub(super) fn reorder(
    predictions: &Predictions,
    own: &[String],
    names: &[String],
) -> Result<Predictions, TrainError> {
    let column = |name: &String| own.iter().position(|other| other.trim() == name.trim());
    let columns: Vec<usize> = names.iter().filter_map(column).collect();
    let rows = predictions.logit_rows();
    let logits = rows.flat_map(|row| columns.iter().filter_map(|&column| row.get(column).copied())).collect();
    Ok(Predictions::new(logits, predictions.labels().to_vec(), names.len())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn logits_follow_their_names() {
        let logits = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let predictions = Predictions::new(logits, vec![0, 2], 3).unwrap();
        let (own, wanted) = (names(&["b", "c", "a"]), names(&["a", "b", "c"]));
        let found = reorder(&predictions, &own, &wanted).unwrap();
        assert_eq!(found.logit_rows().collect::<Vec<_>>(), [[3.0, 1.0, 2.0], [6.0, 4.0, 5.0]]);
        assert_eq!(found.labels(), [0, 2]);
        assert!(reorder(&predictions, &own, &names(&["a", "b", "d"])).is_err());
    }

    #[test]
    fn another_order_is_no_difference() {
        let one = names(&["spam", "ham"]);
        assert_eq!(difference(("a", &one), ("b", &names(&["ham", "spam"]))), None);
    }

    #[test]
    fn different_labels_are_named() {
        let one = names(&["spam", "ham"]);
        let told = |other: &[&str]| difference(("a", &one), ("b", &names(other))).unwrap();
        assert_eq!(
            told(&["ham", "eggs"]),
            "`a` and `b` know different labels: only `a` has `spam`, only `b` has `eggs`"
        );
        assert_eq!(told(&["ham"]), "`a` and `b` know different labels: only `a` has `spam`");
        let many = told(&["spam", "ham", "1", "2", "3", "4", "5", "6", "7"]);
        assert!(many.ends_with("only `b` has `1`, `2`, `3`, `4`, `5` and 2 more"), "{many}");
    }

    #[test]
    fn a_label_that_is_read_in_two_ways_is_named() {
        let (one, other) = (names(&["spam", "ham"]), names(&["ham", "spam"]));
        assert!(check_alike(("a", &[0, 1], &one), ("b", &[1, 0], &other)).is_ok());
        let error = check_alike(("a", &[0, 1], &one), ("b", &[1, 1], &other)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the label of row 2 is `ham` as the run of `a` read its data, and `spam` as that of `b` did"
        );
    }
}
