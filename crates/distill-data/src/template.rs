//! Texts with places for columns: `Summarize: {document}\nSummary:`.
use std::fmt;

use crate::error::DataError;
use crate::source::Column;

/// A text with places for columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The name of a column; digits are a position in files without a header.
    Column(String),
}

impl Template {
    /// Reads a template: `{name}` is the place of a column, `{{` and `}}` are braces.
    ///
    /// # Errors
    /// [`DataError::Template`] for braces that do not match, or a place without a name.
    pub fn parse(written: &str) -> Result<Self, DataError> {
        let fault = |reason| DataError::Template { template: written.to_owned(), reason };
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = written;
        while let Some(brace) = rest.find(['{', '}']) {
            text.push_str(&rest[..brace]);
            let (open, after) = (rest[brace..].starts_with('{'), &rest[brace + 1..]);
            if after.starts_with(if open { '{' } else { '}' }) {
                text.push_str(&after[..1]);
                rest = &after[1..];
                continue;
            }
            if !open {
                return Err(fault("a `}` closes nothing"));
            }
            let (name, after) = after.split_once('}').ok_or_else(|| fault("a `{` is never closed"))?;
            if name.contains('{') {
                return Err(fault("a `{` is never closed"));
            }
            if name.trim().is_empty() {
                return Err(fault("`{}` names no column"));
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Column(name.trim().to_owned()));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { written: written.to_owned(), parts })
    }

    /// Its columns in the order of their places, one as often as it is named; `header` as in
    /// [`DataSpec`](crate::DataSpec).
    pub fn columns(&self, header: bool) -> Vec<Column> {
        let names = self.parts.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name),
            Part::Text(_) => None,
        });
        names
            .map(|name| match name.parse() {
                Ok(number) if !header => Column::Number(number),
                _ => Column::Name(name.clone()),
            })
            .collect()
    }

    /// The text with `values` in the places, in the order of [`Template::columns`].
    pub fn fill<S: AsRef<str>>(&self, values: &[S]) -> String {
        let mut values = values.iter().map(AsRef::as_ref);
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Column(_) => values.next().unwrap_or_default().to_owned(),
        };
        self.parts.iter().map(text).collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_braces_kept() {
        let template = Template::parse("{{{ a }}}: {0}\n{a}}}").unwrap();
        assert_eq!(template.columns(true), ["a".into(), "0".into(), "a".into()]);
        assert_eq!(template.columns(false)[1], Column::Number(0));
        assert_eq!(template.fill(&["x{y}", "\u{e9}", "z"]), "{x{y}}: \u{e9}\nz}");
        assert_eq!(Template::parse("no place").unwrap().fill::<&str>(&[]), "no place");
    }

    #[test]
    fn braces_that_do_not_match_are_named() {
        for (written, reason) in [
            ("a {b", "a `{` is never closed"),
            ("a {b {c}", "a `{` is never closed"),
            ("a } b", "a `}` closes nothing"),
            ("a { } b", "`{}` names no column"),
            ("{a}}", "a `}` closes nothing"),
        ] {
            let error = Template::parse(written).unwrap_err();
            assert_eq!(error.to_string(), format!("`{written}` is not a valid template: {reason}"));
            assert!(error.help().unwrap().contains("`{{`"));
        }
    }
}
