//! A recipe as a tree of values, each with the place it was written at.

use std::ops::Range;

use indexmap::IndexMap;
use toml::value::Datetime;

use crate::fault::{Fault, Label};

/// The text that a value was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The recipe file.
    File,
    /// The `--set` override with this number, from 0.
    Override(usize),
}

/// The entries of a table, in the order in which they were written.
pub type Table = IndexMap<String, Node>;

/// A TOML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `[table]` or `{ inline = "table" }`.
    Table(Table),
    /// `[1, 2]` or `[[array.of.tables]]`.
    Array(Vec<Node>),
    /// `"text"`.
    String(String),
    /// `1`.
    Integer(i64),
    /// `1.0`; may be `nan` or `inf`.
    Float(f64),
    /// `true`.
    Boolean(bool),
    /// `1979-05-27`.
    Datetime(Datetime),
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where the value stands, in bytes of the origin's text; a table's header for `[table]`.
    pub span: Range<usize>,
    /// Where its key stands; none for items of a list and for the whole recipe.
    pub key_span: Option<Range<usize>>,
    /// The text that the spans index.
    pub origin: Origin,
}

impl Node {
    /// The table's entries, if this is a table.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of a table, or the item of a list whose number is written as `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(table) => table.get(key),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The node at a dotted path (`train.freeze.0`), if it was written.
    pub fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// The node at a dotted path, or the nearest one above it that was written.
    pub fn nearest(&self, path: &str) -> &Node {
        let mut node = self;
        for key in path.split('.') {
            match node.get(key) {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// The place of the value; for a table the place of its name, as its body may fill the file.
    pub fn label(&self) -> Label {
        match self.value {
            Value::Table(_) => self.key_label(),
            _ => Label::new(self.origin, self.span.clone()),
        }
    }

    /// The place of the key, or of the value where there is no key.
    pub fn key_label(&self) -> Label {
        let span = self.key_span.clone().unwrap_or_else(|| self.span.clone());
        Label::new(self.origin, span)
    }

    /// A fault at [`Node::label`] of the node at a dotted path, or of the nearest one above it.
    pub fn fault_at(&self, path: &str, message: impl Into<String>) -> Fault {
        Fault::new(message, self.nearest(path).label())
    }

    /// The kind of value with its article, as messages name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Table(_) => "a table",
            Value::Array(_) => "a list",
            Value::String(_) => "the string",
            Value::Integer(_) => "the integer",
            Value::Float(_) => "the number",
            Value::Boolean(_) => "the boolean",
            Value::Datetime(_) => "the date",
        }
    }

    /// The value as messages show it: as TOML writes it, cut to 60 characters.
    pub(crate) fn shown(&self) -> String {
        let text = match &self.value {
            Value::String(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}").to_lowercase(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Datetime(date) => date.to_string(),
            Value::Array(_) | Value::Table(_) => self.to_toml().to_string(),
        };
        shortened(&text)
    }

    /// ``the string `"abc"` ``; lists and tables by their kind alone.
    pub(crate) fn described(&self) -> String {
        match self.value {
            Value::Table(_) | Value::Array(_) => self.kind().to_string(),
            _ => format!("{} `{}`", self.kind(), self.shown()),
        }
    }

    /// The value as JSON. Dates become strings, and so do `nan` and `inf`, which JSON does not have.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Table(table) => table
                .iter()
                .map(|(key, node)| (key.clone(), node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(Node::to_json).collect(),
            Value::String(text) => text.clone().into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => serde_json::Number::from_f64(*number)
                .map_or_else(|| number.to_string().into(), serde_json::Value::Number),
            Value::Boolean(truth) => (*truth).into(),
            Value::Datetime(date) => date.to_string().into(),
        }
    }

    /// The value without its places.
    pub fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), node.to_toml())).collect())
            }
            Value::Array(items) => toml::Value::Array(items.iter().map(Node::to_toml).collect()),
            Value::String(text) => toml::Value::String(text.clone()),
            Value::Integer(number) => toml::Value::Integer(*number),
            Value::Float(number) => toml::Value::Float(*number),
            Value::Boolean(truth) => toml::Value::Boolean(*truth),
            Value::Datetime(date) => toml::Value::Datetime(*date),
        }
    }
}

/// `text` on one line, cut to 60 characters.
pub(crate) fn shortened(text: &str) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= 60 {
        return line;
    }
    let mut cut: String = line.chars().take(57).collect();
    cut.push_str("...");
    cut
}

#[cfg(test)]
mod tests {
    use crate::document::Document;

    fn root(text: &str) -> crate::Node {
        Document::parse("a.toml", text, &[]).unwrap().root
    }

    #[test]
    fn paths_reach_into_tables_and_lists() {
        let root = root("a = [1, { b = \"x\" }]\n[c.d]\ne = true\n");
        assert_eq!(root.at("a.1.b").unwrap().as_str(), Some("x"));
        assert_eq!(root.at("c.d.e").unwrap().shown(), "true");
        assert!(root.at("a.2").is_none());
        assert!(root.at("a.b").is_none());
        assert!(root.at("c.d.e.f").is_none());
    }

    #[test]
    fn the_nearest_node_stands_in_for_one_that_was_not_written() {
        let root = root("name = 1\n[train]\nepochs = 1\n");
        let fault = root.fault_at("train.warmup_ratio.x", "m");
        assert_eq!(fault.labels[0].span, 10..15, "the key of the header");
        assert_eq!(root.fault_at("train.epochs", "m").labels[0].span, 26..27);
        assert_eq!(root.fault_at("model", "m").labels[0].span.start, 0);
    }

    #[test]
    fn values_are_shown_as_toml_writes_them_and_cut() {
        let root = root(
            "a = 5e-5\nb = \"q\\\"\"\nc = inf\nd = 2024-01-02\ne = [1, 2]\nf = 3.0\ng = \"0123456789012345678901234567890123456789012345678901234567890123456789\"",
        );
        let shown = |key: &str| root.at(key).unwrap().shown();
        assert_eq!(shown("a"), "5e-5");
        assert_eq!(shown("b"), "\"q\\\"\"");
        assert_eq!(shown("c"), "inf");
        assert_eq!(shown("d"), "2024-01-02");
        assert_eq!(shown("e"), "[1, 2]");
        assert_eq!(shown("f"), "3.0");
        assert_eq!(shown("g").chars().count(), 60);
    }

    #[test]
    fn json_has_every_value_in_the_order_of_the_file() {
        let root = root("z = 1\na = 0.5\nd = 2024-01-02\nn = nan\nl = [true, \"x\"]\n");
        assert_eq!(
            root.to_json().to_string(),
            r#"{"z":1,"a":0.5,"d":"2024-01-02","n":"NaN","l":[true,"x"]}"#
        );
    }
}
