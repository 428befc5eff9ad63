//! Columns of text, aligned; cells may be painted.

use super::Paint;
use console::{measure_text_width, truncate_str};

/// To which side the cells of a column lean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells, the heading among them.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: impl Into<Vec<Align>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<I: IntoIterator<Item = S>, S: Into<String>>(&mut self, cells: I) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// The lines of the table without their line ends: `indent` spaces, then the cells, two spaces between.
    pub fn lines(&self, indent: usize) -> Vec<String> {
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                self.rows.iter().map(|row| measure_text_width(&cell(row, column))).max().unwrap_or(0)
            })
            .collect();
        self.rows
            .iter()
            .map(|row| {
                let mut line = " ".repeat(indent);
                for (column, (align, width)) in self.columns.iter().zip(&widths).enumerate() {
                    if column > 0 {
                        line.push_str("  ");
                    }
                    let text = cell(row, column);
                    let padding = " ".repeat(width - measure_text_width(&text));
                    match align {
                        Align::Left => line.extend([text, padding]),
                        Align::Right => line.extend([padding, text]),
                    }
                }
                line.truncate(line.trim_end().len());
                line
            })
            .collect()
    }

    /// Columns that the widest line takes.
    pub fn width(&self, indent: usize) -> usize {
        self.lines(indent).iter().map(|line| measure_text_width(line)).max().unwrap_or(0)
    }
}

/// Names and what is to be said of them, one beneath the other; what is too long goes on in the next line.
#[derive(Debug)]
pub struct Facts {
    paint: Paint,
    facts: Vec<(String, String)>,
}

impl Facts {
    /// No facts yet.
    pub fn new(paint: Paint) -> Self {
        Self { paint, facts: Vec::new() }
    }

    /// Adds a fact.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.facts.push((name.into(), text.into()));
    }

    /// The facts in lines of at most `width` columns, if their words allow it.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let names = self.facts.iter().map(|(name, _)| measure_text_width(name)).max().unwrap_or(0);
        let mut table = Table::new([Align::Left, Align::Left]);
        for (name, text) in &self.facts {
            let mut name = self.paint.bold(name);
            for line in wrap(text, width.saturating_sub(names + 2)) {
                table.row([std::mem::take(&mut name), line]);
            }
        }
        table.lines(0)
    }
}

/// Cuts a text to a width in columns, the last of them `…` where something was cut.
pub fn shorten(text: &str, width: usize) -> String {
    truncate_str(text, width, "…").into_owned()
}

/// Breaks a text into lines of at most `width` columns, between words only.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Breaks a line that is too long into several, the later ones indented; shorter ones stay as they are.
pub fn fold(line: &str, width: usize) -> String {
    const INDENT: &str = "  ";
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let begin: String = line.chars().take_while(|character| character.is_whitespace()).collect();
    let room = width.saturating_sub(begin.len() + INDENT.len());
    begin.clone() + &wrap(line, room).join(&format!("\n{begin}{INDENT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_width_on_screen() {
        let mut table = Table::new([Align::Left, Align::Right]);
        table.row(["label", "rows"]).row(["世界", "12"]).row(["\u{1b}[1msport\u{1b}[0m"]);
        assert_eq!(table.lines(1), [" label  rows", " 世界     12", " \u{1b}[1msport\u{1b}[0m"]);
        assert_eq!(table.width(1), 12);
    }

    #[test]
    fn facts_stay_in_their_column() {
        let mut facts = Facts::new(Paint::PLAIN);
        facts.add("model", "bert");
        facts.add("labels", "one, two, three, four");
        assert_eq!(facts.lines(20), ["model   bert", "labels  one, two,", "        three, four"]);
    }

    #[test]
    fn texts_break_between_words() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("unbreakable a", 5), ["unbreakable", "a"]);
        assert!(wrap(" ", 5).is_empty());
    }

    #[test]
    fn only_long_lines_are_folded() {
        assert_eq!(fold("short  line", 20), "short  line");
        assert_eq!(fold("  a longer line of words", 18), "  a longer line\n    of words");
        assert_eq!(fold("unbreakable", 5), "unbreakable");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("a long label", 6), "a lon…");
        assert_eq!(shorten("世界世界", 5), "世界…");
    }
}
