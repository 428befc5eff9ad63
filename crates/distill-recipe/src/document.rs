//! Reading: TOML text and `--set` overrides to a tree that knows where everything was written.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, Faults, Label};
use crate::node::{Node, Origin, Value, shortened};
use crate::overrides;

/// No recipe comes near this size (bytes); a weight file or a device given by mistake does.
const MAX_BYTES: u64 = 1 << 20;

/// A recipe as written, with its overrides applied; its keys are not checked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The file as it was named.
    pub name: String,
    /// The text of the file.
    pub text: String,
    /// The overrides as given, `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// The whole recipe, always a table.
    pub root: Node,
}

impl Document {
    /// Reads a recipe file and applies `overrides` (`train.epochs=1`) in their order.
    ///
    /// # Errors
    /// [`Faults`] if the file cannot be read, is over 1 MiB, or is not UTF-8, and those of
    /// [`Document::parse`].
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, Faults> {
        let name = path.display().to_string();
        let fail =
            |text: String, fault: Fault| Faults::new(name.clone(), text, overrides.to_vec(), vec![fault]);
        let bytes = read_bytes(path).map_err(|fault| fail(String::new(), fault))?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(name, text, overrides),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let fault = Fault::new(
                    "the recipe is not valid UTF-8",
                    Label::new(Origin::File, offset..offset + char::REPLACEMENT_CHARACTER.len_utf8()),
                )
                .with_help("save the file as UTF-8");
                Err(fail(text, fault))
            }
        }
    }

    /// Parses the text of a recipe and applies `overrides` in their order.
    ///
    /// The value of an override is TOML (`1e-4`, `true`, `["a.csv", "b.csv"]`); what is not TOML
    /// and does not begin like a list, table or quoted string is taken as the text itself
    /// (`model.path=some/folder`). The numbers of list entries are part of the key
    /// (`data.train.0=a.csv`), and the number behind the last one adds an entry.
    ///
    /// # Errors
    /// [`Faults`] with every syntax error, or with every override that cannot be applied.
    pub fn parse(
        name: impl Into<String>,
        text: impl Into<String>,
        overrides: &[String],
    ) -> Result<Self, Faults> {
        let (name, text) = (name.into(), text.into());
        let mut faults = Vec::new();
        let mut root = parse_toml(&text, &mut faults);
        for (index, given) in overrides.iter().enumerate() {
            if let Err(fault) = overrides::apply(&mut root, index, given) {
                faults.push(fault);
            }
        }
        let overrides = overrides.to_vec();
        if faults.is_empty() {
            Ok(Self { name, text, overrides, root })
        } else {
            Err(Faults::new(name, text, overrides, faults))
        }
    }

    /// The recipe with its overrides applied, as TOML; parsing it gives the same values.
    pub fn resolved(&self) -> String {
        self.root.to_toml().to_string_document()
    }

    /// The recipe with its overrides applied, as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        self.root.to_json()
    }

    /// `faults` together with the texts that they point into.
    pub fn faults(&self, faults: Vec<Fault>) -> Faults {
        Faults::new(self.name.clone(), self.text.clone(), self.overrides.clone(), faults)
    }
}

/// A table as a TOML document rather than as an inline value.
pub(crate) trait ToDocument {
    /// The lines of the document.
    fn to_string_document(&self) -> String;
}

impl ToDocument for toml::Value {
    fn to_string_document(&self) -> String {
        // A tree of TOML values always serializes, so there is no error to hand on.
        toml::to_string(self).unwrap_or_default()
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Fault> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        let reason = error.to_string().to_lowercase();
        Fault::without_place(format!("cannot read the recipe `{shown}`: {reason}"))
            .with_help("name a recipe file; `distill recipes` lists those that come along")
    };
    if path.is_dir() {
        return Err(Fault::without_place(format!("cannot read the recipe `{shown}`: it is a folder"))
            .with_help("name a `.toml` file in it"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Fault::without_place(format!(
            "`{shown}` is larger than {MAX_BYTES} bytes, so it is no recipe"
        )));
    }
    Ok(bytes)
}

/// The tree of a TOML document; what the parser could not understand is left out and reported.
fn parse_toml(text: &str, faults: &mut Vec<Fault>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        faults.push(syntax_fault(error, Origin::File, 0, text.len()));
    }
    let root = Spanned::new(0..0, DeValue::Table(table.into_inner()));
    let reader = Reader { origin: Origin::File, offset: 0 };
    reader.node(root, None, faults)
}

/// A fault for an error of the TOML parser over a text that starts at `offset` and ends at `end`.
pub(crate) fn syntax_fault(error: &toml::de::Error, origin: Origin, offset: usize, end: usize) -> Fault {
    let span = error.span().unwrap_or(0..0);
    let span = (span.start + offset).min(end)..(span.end + offset).min(end);
    Fault::new(format!("invalid TOML: {}", shortened(error.message())), Label::new(origin, span))
}

/// Turns the parser's tree into nodes whose spans index the whole text of their origin.
pub(crate) struct Reader {
    pub(crate) origin: Origin,
    /// Bytes of the origin's text in front of the parsed stretch.
    pub(crate) offset: usize,
}

impl Reader {
    pub(crate) fn node(
        &self,
        value: Spanned<DeValue<'_>>,
        key_span: Option<Range<usize>>,
        faults: &mut Vec<Fault>,
    ) -> Node {
        let span = self.shifted(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(truth) => Value::Boolean(truth),
            DeValue::Datetime(date) => Value::Datetime(date),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    let message = format!(
                        "integers must lie between -2^63 and 2^63 - 1, found `{}`",
                        shortened(&number.to_string())
                    );
                    faults.push(Fault::new(message, Label::new(self.origin, span.clone())));
                    Value::Integer(0)
                }
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(parsed) if parsed.is_finite() || number.as_str().contains(['i', 'n']) => {
                    Value::Float(parsed)
                }
                _ if number.as_str().is_empty() => Value::Float(0.0),
                _ => {
                    let message = format!(
                        "numbers must lie between -1.8e308 and 1.8e308, found `{}`",
                        shortened(number.as_str())
                    );
                    faults.push(Fault::new(message, Label::new(self.origin, span.clone())));
                    Value::Float(0.0)
                }
            },
            DeValue::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.node(item, None, faults)).collect())
            }
            DeValue::Table(entries) => {
                let mut table = IndexMap::new();
                for (key, value) in entries {
                    let key_span = self.shifted(key.span());
                    let node = self.node(value, Some(key_span), faults);
                    table.insert(key.into_inner().into_owned(), node);
                }
                Value::Table(table)
            }
        };
        Node { value, span, key_span, origin: self.origin }
    }

    fn shifted(&self, span: Range<usize>) -> Range<usize> {
        span.start + self.offset..span.end + self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        Document::parse("a.toml", text, &[]).unwrap_err().to_string()
    }

    #[test]
    fn every_syntax_error_is_reported_with_its_place() {
        let text = "name = \nseed = 1e\n[train]\nepochs = 1 2\n[data\n";
        let rendered = faults(text);
        for place in ["a.toml:1:8", "a.toml:2:10", "a.toml:4:10", "a.toml:5:6"] {
            assert!(rendered.contains(place), "{rendered}");
        }
        assert_eq!(rendered.matches("error: ").count(), 4, "{rendered}");
    }

    #[test]
    fn a_key_given_twice_is_a_fault_at_the_second() {
        assert_eq!(
            faults("name = \"a\"\nname = \"b\"\n"),
            "error: invalid TOML: duplicate key\n  --> a.toml:2:1"
        );
    }

    #[test]
    fn numbers_that_do_not_fit_are_faults() {
        assert_eq!(
            faults("seed = 99999999999999999999\nx = 1e999\n"),
            "error: integers must lie between -2^63 and 2^63 - 1, found `99999999999999999999`\n  \
             --> a.toml:1:8\n\n\
             error: numbers must lie between -1.8e308 and 1.8e308, found `1e999`\n  \
             --> a.toml:2:5"
        );
    }

    #[test]
    fn every_way_to_write_a_number_is_read() {
        let text = "a = 0xff\nb = 0o17\nc = 0b11\nd = 1_000\ne = +5\nf = -inf\ng = 1_0.5e-1\n";
        let document = Document::parse("a.toml", text, &[]).unwrap();
        let value = |key: &str| document.root.at(key).unwrap().value.clone();
        assert_eq!(value("a"), Value::Integer(255));
        assert_eq!(value("b"), Value::Integer(15));
        assert_eq!(value("c"), Value::Integer(3));
        assert_eq!(value("d"), Value::Integer(1000));
        assert_eq!(value("e"), Value::Integer(5));
        assert_eq!(value("f"), Value::Float(f64::NEG_INFINITY));
        assert_eq!(value("g"), Value::Float(1.05));
    }

    #[test]
    fn windows_files_with_a_byte_order_mark_are_read() {
        let text = "\u{feff}name = \"a\"\r\n[train]\r\nepochs = 2\r\n";
        let document = Document::parse("a.toml", text, &[]).unwrap();
        let epochs = document.root.at("train.epochs").unwrap();
        assert_eq!(&text[epochs.span.clone()], "2");
    }

    #[test]
    fn spans_cover_what_was_written() {
        let text = "name = \"é\"\n[train]\nfreeze = ['a', \"b\"]\n[[stage]]\nx.y = 1\n";
        let document = Document::parse("a.toml", text, &[]).unwrap();
        let cut = |path: &str| &text[document.root.at(path).unwrap().span.clone()];
        assert_eq!(cut("name"), "\"é\"");
        assert_eq!(cut("train.freeze"), "['a', \"b\"]");
        assert_eq!(cut("train.freeze.1"), "\"b\"");
        assert_eq!(cut("stage.0.x.y"), "1");
        let train = document.root.at("train").unwrap();
        assert_eq!(&text[train.key_span.clone().unwrap()], "train");
    }

    #[test]
    fn the_resolved_text_parses_to_the_same_values() {
        let text = "z = 1\na = [1.5, \"q\\\"\\n\"]\n[c]\nd = 2024-01-02\n[[s]]\nx = {y = true}\n[[s]]\n";
        let document =
            Document::parse("a.toml", text, &["c.e=1e-4".to_string(), "s.1.x=z".to_string()]).unwrap();
        let again = Document::parse("b.toml", document.resolved(), &[]).unwrap();
        assert_eq!(again.to_json(), document.to_json());
        assert_eq!(document.to_json()["c"]["e"], 1e-4);
        assert_eq!(document.to_json()["s"][1]["x"], "z");
    }

    #[test]
    fn files_that_cannot_be_read_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Document::read(&folder.path().join("no.toml"), &[]).unwrap_err();
        assert!(missing.to_string().contains("no.toml`: no such file"), "{missing}");
        let directory = Document::read(folder.path(), &[]).unwrap_err();
        assert!(directory.to_string().contains("it is a folder"));

        let bad = folder.path().join("bad.toml");
        std::fs::write(&bad, b"a = 1\nb = \"\xff\"\n").unwrap();
        let faults = Document::read(&bad, &[]).unwrap_err();
        let at = faults.locate(&faults.faults[0].labels[0]);
        assert_eq!((at.line, at.column), (2, 6));

        let large = folder.path().join("large.toml");
        std::fs::write(&large, vec![b'#'; (MAX_BYTES + 1) as usize]).unwrap();
        let faults = Document::read(&large, &[]).unwrap_err();
        assert!(faults.to_string().contains("larger than 1048576 bytes"));

        let good = folder.path().join("good.toml");
        std::fs::write(&good, "a = 1\n").unwrap();
        let document = Document::read(&good, &["a=2".to_string()]).unwrap();
        assert_eq!(document.resolved(), "a = 2\n");
    }

    #[test]
    fn deep_nesting_is_a_fault_and_no_overflow() {
        let text = format!("a = {}", "[".repeat(100_000));
        assert!(faults(&text).contains("invalid TOML"));
    }
}
