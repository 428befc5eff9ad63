//! What is wrong with a recipe, and where.

use std::fmt;
use std::ops::Range;

use crate::node::Origin;

/// A stretch of the recipe file, or of one `--set` override, that a fault points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text that `span` indexes: the file, or the override with this number.
    pub origin: Origin,
    /// Bytes of that text; empty where something is missing.
    pub span: Range<usize>,
    /// What to write beside the stretch, if anything.
    pub text: Option<String>,
}

impl Label {
    /// A label without a text of its own.
    pub fn new(origin: Origin, span: Range<usize>) -> Self {
        Self { origin, span, text: None }
    }

    /// The same stretch, with `text` beside it.
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

/// One mistake: what was found, what is allowed, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong; lower case, no final full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where it is, the most telling place first; empty where the file could not be read.
    pub labels: Vec<Label>,
}

impl Fault {
    /// A fault at `label`.
    pub fn new(message: impl Into<String>, label: Label) -> Self {
        Self { message: message.into(), help: None, labels: vec![label] }
    }

    /// A fault with no place in the recipe.
    pub fn without_place(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, labels: Vec::new() }
    }

    /// The same fault, with advice.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same fault, pointing at one more place.
    pub fn with_label(mut self, label: Label) -> Self {
        self.labels.push(label);
        self
    }
}

/// A place as people read it; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named, or `--set KEY=VALUE`.
    pub source: String,
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column just behind the last character.
    pub end_column: usize,
}

/// Every fault of one recipe, with the texts that their labels point into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file as it was named.
    pub source_name: String,
    /// The text of the file.
    pub source_text: String,
    /// The `--set` overrides as given, `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// The faults, in the order of the file, then of the overrides.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// Gathers `faults`, ordered as a reader of the file meets them; none is given twice.
    pub fn new(
        source_name: impl Into<String>,
        source_text: impl Into<String>,
        overrides: Vec<String>,
        mut faults: Vec<Fault>,
    ) -> Self {
        faults.sort_by_key(|fault| fault.labels.first().map(|label| (label.origin, label.span.start)));
        faults.dedup();
        Self { source_name: source_name.into(), source_text: source_text.into(), overrides, faults }
    }

    /// The text that labels of this origin index.
    pub fn text(&self, origin: Origin) -> &str {
        match origin {
            Origin::File => &self.source_text,
            Origin::Override(index) => self.overrides.get(index).map_or("", String::as_str),
        }
    }

    /// The name of the text that labels of this origin index: the file, or `--set KEY=VALUE`.
    pub fn name(&self, origin: Origin) -> String {
        match origin {
            Origin::File => self.source_name.clone(),
            Origin::Override(_) => format!("--set {}", self.text(origin)),
        }
    }

    /// Where a label begins and ends.
    pub fn locate(&self, label: &Label) -> Location {
        let text = self.text(label.origin);
        let (line, column) = line_and_column(text, label.span.start);
        let (end_line, end_column) = line_and_column(text, label.span.end);
        Location { source: self.name(label.origin), line, column, end_line, end_column }
    }

    /// One fault as plain lines: message, a `-->` line for its places, help.
    pub fn render(&self, fault: &Fault) -> String {
        let mut out = format!("error: {}", fault.message);
        let mut previous: Option<Origin> = None;
        for label in &fault.labels {
            let at = self.locate(label);
            let place = match label.origin {
                Origin::File if previous == Some(Origin::File) => {
                    format!("{}:{}", at.line, at.column)
                }
                Origin::File => format!("{}:{}:{}", at.source, at.line, at.column),
                Origin::Override(_) => at.source,
            };
            out.push_str(if previous.is_none() { "\n  --> " } else { " and " });
            out.push_str(&place);
            previous = Some(label.origin);
        }
        if fault.labels.is_empty() {
            out.push_str(&format!("\n  --> {}", self.source_name));
        }
        if let Some(help) = &fault.help {
            out.push_str(&format!("\nhelp: {help}"));
        }
        out
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&self.render(fault))?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Line and column, from 1, of a byte of `text`; a byte behind the end counts as the end.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let offset = text.floor_char_boundary(offset.min(text.len()));
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(faults: Vec<Fault>) -> Faults {
        Faults::new("a.toml", "é = 1\nb = 22\n", vec!["train.epochz=1".to_string()], faults)
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        let faults = sample(Vec::new());
        let at = faults.locate(&Label::new(Origin::File, 5..6));
        assert_eq!((at.line, at.column, at.end_column), (1, 5, 6));
        let at = faults.locate(&Label::new(Origin::File, 11..13));
        assert_eq!((at.line, at.column, at.end_line, at.end_column), (2, 5, 2, 7));
    }

    #[test]
    fn a_place_inside_a_character_or_behind_the_end_is_no_panic() {
        let faults = sample(Vec::new());
        assert_eq!(faults.locate(&Label::new(Origin::File, 1..900)).end_line, 3);
        assert_eq!(faults.locate(&Label::new(Origin::Override(7), 3..4)).column, 1);
    }

    #[test]
    fn faults_come_in_the_order_of_the_file_then_of_the_overrides() {
        let faults = sample(vec![
            Fault::new("in the override", Label::new(Origin::Override(0), 0..1)),
            Fault::new("later", Label::new(Origin::File, 7..8)).with_help("do this"),
            Fault::new("first", Label::new(Origin::File, 0..2)),
        ]);
        assert_eq!(
            faults.to_string(),
            "error: first\n  --> a.toml:1:1\n\n\
             error: later\n  --> a.toml:2:1\nhelp: do this\n\n\
             error: in the override\n  --> --set train.epochz=1"
        );
    }

    #[test]
    fn a_fault_with_two_places_names_both_and_one_without_names_the_file() {
        let two = Fault::new("clash", Label::new(Origin::File, 0..2))
            .with_label(Label::new(Origin::File, 7..8))
            .with_label(Label::new(Origin::Override(0), 0..1));
        let none = Fault::without_place("cannot read");
        let faults = sample(vec![two, none]);
        assert_eq!(
            faults.to_string(),
            "error: cannot read\n  --> a.toml\n\n\
             error: clash\n  --> a.toml:1:1 and 2:1 and --set train.epochz=1"
        );
    }
}
