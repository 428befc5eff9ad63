//! The scores of a classifier: totals, a line a class, and what was taken for what.

use crate::terminal::Paint;
use crate::terminal::table::{Align, Table, shorten};
use crate::terminal::units::{count, counted, percent};
use distill_eval::{ClassReport, ClassificationReport};

/// Beyond so many classes, only the telling part of a table is shown.
const MOST_CLASSES: usize = 20;
/// Lines of a table that shows only a part.
const PART: usize = 10;
/// Widest label in a heading or a first column.
const LABEL_WIDTH: usize = 24;

/// All of a report, with a line end.
pub fn render(data_set: &str, report: &ClassificationReport, paint: Paint, width: usize) -> String {
    let mut lines = vec![format!(
        "{} ({})  accuracy {}  macro F1 {:.4}  loss {:.4}",
        paint.bold(data_set),
        counted(report.rows, "row"),
        paint.green(percent(report.accuracy)),
        report.macro_f1,
        report.loss
    )];
    lines.push(format!(
        "Matthews {:.4}  kappa {:.4}  calibration error {:.4}",
        report.mcc, report.kappa, report.ece
    ));
    lines.push(String::new());
    lines.extend(classes(report, paint));
    lines.push(String::new());
    lines.extend(confusion(report, paint, width));
    lines.join("\n") + "\n"
}

fn classes(report: &ClassificationReport, paint: Paint) -> Vec<String> {
    let mut shown: Vec<&ClassReport> = report.per_class.iter().collect();
    let mut heading = "class".to_owned();
    if shown.len() > MOST_CLASSES {
        heading = format!("class ({PART} lowest F1 of {})", shown.len());
        shown.sort_by(|a, b| a.f1.total_cmp(&b.f1));
        shown.truncate(PART);
    }
    let mut table = Table::new([Align::Left, Align::Right, Align::Right, Align::Right, Align::Right]);
    table.row([heading.as_str(), "precision", "recall", "F1", "rows"].map(|text| paint.bold(text)));
    for class in shown {
        table.row(scores(&class.label, [class.precision, class.recall, class.f1], class.support));
    }
    let macros = [report.macro_precision, report.macro_recall, report.macro_f1];
    table.row(scores("macro average", macros, report.rows).map(|text| paint.dim(text)));
    let weighted = [report.weighted_precision, report.weighted_recall, report.weighted_f1];
    table.row(scores("weighted average", weighted, report.rows).map(|text| paint.dim(text)));
    table.lines(2)
}

fn scores(name: &str, values: [f64; 3], rows: u64) -> [String; 5] {
    let [precision, recall, f1] = values.map(|value| format!("{value:.4}"));
    [shorten(name, LABEL_WIDTH), precision, recall, f1, count(rows)]
}

/// The confusion matrix with names, with numbers where names are too wide, or its largest cells where even those are.
fn confusion(report: &ClassificationReport, paint: Paint, width: usize) -> Vec<String> {
    let names: Vec<String> =
        report.per_class.iter().map(|class| shorten(&class.label, LABEL_WIDTH)).collect();
    if names.len() <= MOST_CLASSES {
        let numbers: Vec<String> = (1..=names.len()).map(|number| number.to_string()).collect();
        let numbered: Vec<String> =
            numbers.iter().zip(&names).map(|(number, name)| format!("{number:>2} {name}")).collect();
        for (rows, columns) in [(&names, &names), (&numbered, &numbers)] {
            let table = matrix(report, rows, columns, paint);
            if table.width(2) <= width {
                let mut lines =
                    vec![format!("  {}", paint.dim("rows: true class, columns: predicted class"))];
                lines.extend(table.lines(2));
                return lines;
            }
        }
    }
    top_confusions(report, &names, paint)
}

fn matrix(report: &ClassificationReport, rows: &[String], columns: &[String], paint: Paint) -> Table {
    let mut aligns = vec![Align::Left];
    aligns.extend(columns.iter().map(|_| Align::Right));
    let mut table = Table::new(aligns);
    table.row([String::new()].into_iter().chain(columns.iter().map(|name| paint.bold(name))));
    for (row, (name, counts)) in rows.iter().zip(&report.confusion_matrix).enumerate() {
        let cells = counts.iter().enumerate().map(|(column, &count)| match count {
            0 => paint.dim("."),
            _ if row == column => paint.green(count),
            _ => count.to_string(),
        });
        table.row([name.clone()].into_iter().chain(cells));
    }
    table
}

fn top_confusions(report: &ClassificationReport, names: &[String], paint: Paint) -> Vec<String> {
    let mut wrong: Vec<(u64, usize, usize)> = Vec::new();
    for (row, counts) in report.confusion_matrix.iter().enumerate() {
        let of_row = counts.iter().enumerate().filter(|&(column, &count)| column != row && count > 0);
        wrong.extend(of_row.map(|(column, &count)| (count, row, column)));
    }
    if wrong.is_empty() {
        return vec!["  no row was taken for another class".to_owned()];
    }
    wrong.sort_by_key(|&(count, row, column)| (std::cmp::Reverse(count), row, column));
    let name = |index: usize| names.get(index).cloned().unwrap_or_default();
    let mut table = Table::new([Align::Right, Align::Left, Align::Left]);
    table.row(["rows", "true class", "predicted class"].map(|text| paint.bold(text)));
    for &(count, row, column) in wrong.iter().take(PART) {
        table.row([count.to_string(), name(row), name(column)]);
    }
    let mut lines = vec![format!("  {}", paint.dim("most frequent confusions"))];
    lines.extend(table.lines(2));
    lines
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use distill_eval::Predictions;

    /// A report over `classes` classes, each with ten rows, of which one is taken for the next class.
    pub fn sample(classes: usize) -> ClassificationReport {
        let mut labels = Vec::new();
        let mut logits = Vec::new();
        for class in 0..classes {
            for row in 0..10 {
                let predicted = if row == 0 { (class + 1) % classes } else { class };
                labels.push(class as u32);
                logits.extend((0..classes).map(|index| if index == predicted { 3.0f32 } else { 0.0 }));
            }
        }
        let names: Vec<String> = (0..classes).map(|class| format!("class number {class}")).collect();
        let predictions = Predictions::new(logits, labels, classes).unwrap();
        ClassificationReport::from_predictions(&predictions, &names).unwrap()
    }

    #[test]
    fn few_classes_have_a_matrix_with_names() {
        insta::assert_snapshot!(render("test", &sample(3), Paint::PLAIN, 80));
    }

    #[test]
    fn more_classes_have_numbers_in_the_heading() {
        let text = render("test", &sample(12), Paint::PLAIN, 80);
        insta::assert_snapshot!(text);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn many_classes_have_their_worst_confusions() {
        insta::assert_snapshot!(render("test", &sample(77), Paint::PLAIN, 80));
    }
}
