//! From the labels that a file holds to class ids: by name, by integer from 0 or from 1, or by
//! boolean.
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Place, closest, list};

/// Names of the classes in the order of their ids, and how a label in a file names one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct LabelMap {
    names: Vec<String>,
    style: LabelStyle,
}

/// A mapping as it was saved, which someone may have edited since.
#[derive(Deserialize)]
struct Stored {
    names: Vec<String>,
    style: LabelStyle,
}

impl TryFrom<Stored> for LabelMap {
    type Error = DataError;

    fn try_from(stored: Stored) -> Result<Self, DataError> {
        Self::new(&stored.names, stored.style)
    }
}

/// How a label in a file names its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelStyle {
    /// By the name itself.
    Names,
    /// By the id: 0 is the first name.
    IntegersFrom0,
    /// By the id plus one: 1 is the first name.
    IntegersFrom1,
    /// `false` is the first of two names, `true` the second.
    Booleans,
}

/// The integer that stands for the first name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelStart {
    /// Labels are 0 to n - 1.
    Zero,
    /// Labels are 1 to n.
    One,
}

/// A label as a file holds it, with the first row that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLabel {
    /// The label without surrounding white space; integers and booleans as text.
    pub value: String,
    /// Its first row.
    pub place: Place,
}

impl LabelMap {
    /// Classes called `names`, with the labels in the files in `style`.
    ///
    /// # Errors
    /// [`DataError::DeclaredLabels`] for fewer than two names, a blank or a repeated one, or
    /// booleans for another number of names than two.
    pub fn new(names: &[String], style: LabelStyle) -> Result<Self, DataError> {
        let fault = |reason| Err(DataError::DeclaredLabels { reason });
        let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
        if names.len() < 2 {
            return fault(format!("a classifier needs two names or more, found {}", names.len()));
        }
        if style == LabelStyle::Booleans && names.len() != 2 {
            return fault(format!("booleans stand for two names, found {}", names.len()));
        }
        let mut known = BTreeSet::new();
        for (position, name) in names.iter().enumerate() {
            if name.is_empty() {
                return fault(format!("name {} is empty", position + 1));
            }
            if !known.insert(name) {
                return fault(format!("`{name}` is there twice"));
            }
        }
        Ok(Self { names, style })
    }

    /// Finds out how the labels of a data set name their classes.
    ///
    /// `seen` holds each distinct label once. With `declared` names, in this order:
    /// 1. every label is one of the names: [`LabelStyle::Names`], even if the names are digits;
    /// 2. two names and only `true` and `false` (in any case): [`LabelStyle::Booleans`];
    /// 3. only integers, n names: 0 occurs: from 0; n occurs: from 1; neither occurs, so that a class
    ///    has no row: `start` decides, and without it this is an error.
    ///
    /// `start`, if given, is what the labels must agree with. Without `declared`, the names are the
    /// labels themselves: integers in their order, anything else sorted by Unicode code point.
    ///
    /// # Errors
    /// A label outside the list, [`DataError::AmbiguousLabels`], [`DataError::OneClass`], or an
    /// unusable list.
    pub fn infer(
        seen: &[SeenLabel],
        declared: Option<&[String]>,
        start: Option<LabelStart>,
    ) -> Result<Self, DataError> {
        let map = match declared {
            Some(names) => Self::infer_style(seen, names, start)?,
            None => return Self::from_values(seen),
        };
        let ids: BTreeSet<u32> =
            seen.iter().map(|label| map.id_of(&label.value, &label.place)).collect::<Result<_, _>>()?;
        match ids.first() {
            Some(only) if ids.len() == 1 => {
                Err(DataError::OneClass { value: map.names[*only as usize].clone() })
            }
            _ => Ok(map),
        }
    }

    fn from_values(seen: &[SeenLabel]) -> Result<Self, DataError> {
        let integers: Option<BTreeSet<i64>> = seen.iter().map(|label| integer(&label.value)).collect();
        let names: Vec<String> = match integers {
            Some(integers) => integers.iter().map(i64::to_string).collect(),
            None => {
                let distinct: BTreeSet<&str> = seen.iter().map(|label| label.value.trim()).collect();
                distinct.into_iter().map(str::to_owned).collect()
            }
        };
        match names.as_slice() {
            [only] => Err(DataError::OneClass { value: only.clone() }),
            _ => Self::new(&names, LabelStyle::Names),
        }
    }

    fn infer_style(
        seen: &[SeenLabel],
        names: &[String],
        start: Option<LabelStart>,
    ) -> Result<Self, DataError> {
        let by_name = Self::new(names, LabelStyle::Names)?;
        let all = |test: &dyn Fn(&str) -> bool| seen.iter().all(|label| test(&label.value));
        if all(&|value| by_name.position(value).is_some()) {
            return Ok(by_name);
        }
        if names.len() == 2 && all(&|value| boolean(value).is_some()) {
            return Self::new(names, LabelStyle::Booleans);
        }
        if !all(&|value| integer(value).is_some()) {
            return Ok(by_name);
        }
        let classes = names.len() as i64;
        let values: BTreeSet<i64> = seen.iter().filter_map(|label| integer(&label.value)).collect();
        let style = match (start, values.contains(&0), values.contains(&classes)) {
            (Some(LabelStart::Zero), ..) => LabelStyle::IntegersFrom0,
            (Some(LabelStart::One), ..) => LabelStyle::IntegersFrom1,
            (None, true, _) => LabelStyle::IntegersFrom0,
            (None, false, true) => LabelStyle::IntegersFrom1,
            (None, false, false) => match (values.first(), values.last()) {
                // Beyond both ranges: whichever is taken, the label is named as not allowed.
                (Some(lowest), Some(highest)) if *lowest < 0 || *highest > classes => {
                    LabelStyle::IntegersFrom0
                }
                (Some(lowest), Some(highest)) => {
                    let (lowest, highest) = (*lowest, *highest);
                    return Err(DataError::AmbiguousLabels { lowest, highest, classes: names.len() });
                }
                _ => LabelStyle::Names,
            },
        };
        Self::new(names, style)
    }

    /// Names in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: there are at least two classes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How labels in files name their class.
    pub fn style(&self) -> LabelStyle {
        self.style
    }

    /// Class id of a label; `place` is for the error message.
    ///
    /// A name is understood in every style.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`].
    pub fn id_of(&self, value: &str, place: &Place) -> Result<u32, DataError> {
        let value = value.trim();
        let by_style = match self.style {
            LabelStyle::Names => None,
            LabelStyle::IntegersFrom0 => integer(value).and_then(|label| self.in_range(label)),
            LabelStyle::IntegersFrom1 => {
                integer(value).and_then(|label| self.in_range(label.checked_sub(1)?))
            }
            LabelStyle::Booleans => boolean(value).map(u32::from),
        };
        by_style.or_else(|| self.position(value)).ok_or_else(|| self.unknown(value, place))
    }

    /// What each class is called in the files and here, in the order of ids: `(label, name)`.
    pub fn pairs(&self) -> Vec<(String, &str)> {
        let raw = |id: usize| match self.style {
            LabelStyle::Names => self.names[id].clone(),
            LabelStyle::IntegersFrom0 => id.to_string(),
            LabelStyle::IntegersFrom1 => (id + 1).to_string(),
            LabelStyle::Booleans => (id == 1).to_string(),
        };
        self.names.iter().enumerate().map(|(id, name)| (raw(id), name.as_str())).collect()
    }

    /// The mapping in one line, such as ``labels, integers from 1: `1` = World, `2` = Sports``.
    ///
    /// Beyond 20 classes the rest is counted.
    pub fn describe(&self) -> String {
        const SHOWN: usize = 20;
        let style = match self.style {
            LabelStyle::Names => "labels",
            LabelStyle::IntegersFrom0 => "labels, integers from 0",
            LabelStyle::IntegersFrom1 => "labels, integers from 1",
            LabelStyle::Booleans => "labels, booleans",
        };
        let pairs = self.pairs();
        let shown: Vec<String> = pairs
            .iter()
            .take(SHOWN)
            .enumerate()
            .map(|(id, (raw, name))| match self.style {
                LabelStyle::Names => format!("`{raw}` = {id}"),
                _ => format!("`{raw}` = {name}"),
            })
            .collect();
        let rest = pairs.len().saturating_sub(SHOWN);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{style}: {}{rest}", shown.join(", "))
    }

    /// Position of a name; integers in it may be written otherwise, as `01` for `1`.
    fn position(&self, value: &str) -> Option<u32> {
        let value = value.trim();
        let exact = self.names.iter().position(|name| name == value);
        let equal = || {
            let wanted = integer(value)?;
            self.names.iter().position(|name| integer(name) == Some(wanted))
        };
        exact.or_else(equal).map(|id| id as u32)
    }

    fn in_range(&self, id: i64) -> Option<u32> {
        let id = u32::try_from(id).ok()?;
        ((id as usize) < self.names.len()).then_some(id)
    }

    fn unknown(&self, value: &str, place: &Place) -> DataError {
        let last = self.names.len() - 1;
        let allowed = match self.style {
            LabelStyle::Names => list(&self.names),
            LabelStyle::IntegersFrom0 => format!("`0` to `{last}`"),
            LabelStyle::IntegersFrom1 => format!("`1` to `{}`", last + 1),
            LabelStyle::Booleans => "`false` and `true`".to_owned(),
        };
        let near = closest(value, self.names.iter().map(String::as_str)).filter(|_| integer(value).is_none());
        let hint = match (self.style, near) {
            (_, Some(near)) => Some(format!("did you mean `{near}`?")),
            (LabelStyle::IntegersFrom0, None) if integer(value) == Some(self.names.len() as i64) => Some(
                "labels were taken to count from 0, since `0` occurs; declare one name more in `labels`, or correct the row".into(),
            ),
            (LabelStyle::IntegersFrom1, None) if integer(value) == Some(0) => {
                Some("labels were taken to count from 1; set `labels_start = 0` if they count from 0".into())
            }
            _ => Some("add the label to `labels`, or remove the row".into()),
        };
        DataError::UnknownLabel { place: place.clone(), value: value.to_owned(), allowed, hint }
    }
}

fn integer(value: &str) -> Option<i64> {
    value.trim().parse().ok()
}

fn boolean(value: &str) -> Option<bool> {
    let value = value.trim();
    match (value.eq_ignore_ascii_case("true"), value.eq_ignore_ascii_case("false")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn seen(values: &[&str]) -> Vec<SeenLabel> {
        let place = |line: usize| Place::line(Path::new("a.csv"), line as u64 + 2);
        values
            .iter()
            .enumerate()
            .map(|(line, value)| SeenLabel { value: (*value).into(), place: place(line) })
            .collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ids(map: &LabelMap, values: &[&str]) -> Vec<u32> {
        seen(values).iter().map(|label| map.id_of(&label.value, &label.place).unwrap()).collect()
    }

    fn style(values: &[&str], declared: &[&str]) -> LabelStyle {
        LabelMap::infer(&seen(values), Some(&names(declared)), None).unwrap().style()
    }

    #[test]
    fn without_declared_names_labels_are_sorted() {
        let map = LabelMap::infer(&seen(&["b", "a", "C"]), None, None).unwrap();
        assert_eq!(map.names(), names(&["C", "a", "b"]));
        assert_eq!(map.describe(), "labels: `C` = 0, `a` = 1, `b` = 2");
        let map = LabelMap::infer(&seen(&["10", "2", "-1"]), None, None).unwrap();
        assert_eq!(map.names(), names(&["-1", "2", "10"]));
        assert_eq!(ids(&map, &["10", "02"]), [2, 1]);
    }

    #[test]
    fn declared_names_in_every_style() {
        let four = ["World", "Sports", "Business", "Sci/Tech"];
        assert_eq!(style(&["Sports", " World "], &four), LabelStyle::Names);
        assert_eq!(style(&["3", "0"], &four), LabelStyle::IntegersFrom0);
        assert_eq!(style(&["3", "4"], &four), LabelStyle::IntegersFrom1);
        assert_eq!(style(&["True", "false"], &["no", "yes"]), LabelStyle::Booleans);
        assert_eq!(style(&["true", "false"], &["true", "false"]), LabelStyle::Names);
        assert_eq!(style(&["1", "2"], &["2", "1"]), LabelStyle::Names);
        let map = LabelMap::infer(&seen(&["3", "4", "1"]), Some(&names(&four)), None).unwrap();
        assert_eq!(ids(&map, &["1", "4", "World"]), [0, 3, 0]);
        assert_eq!(
            map.describe(),
            "labels, integers from 1: `1` = World, `2` = Sports, `3` = Business, `4` = Sci/Tech"
        );
    }

    #[test]
    fn neither_end_seen_is_open_until_the_start_is_set() {
        let four = names(&["a", "b", "c", "d"]);
        let error = LabelMap::infer(&seen(&["1", "3"]), Some(&four), None).unwrap_err();
        assert!(matches!(error, DataError::AmbiguousLabels { lowest: 1, highest: 3, classes: 4 }));
        assert!(error.help().unwrap().contains("`labels_start = 0`"));
        for (start, expected) in [(LabelStart::Zero, [1, 3]), (LabelStart::One, [0, 2])] {
            let map = LabelMap::infer(&seen(&["1", "3"]), Some(&four), Some(start)).unwrap();
            assert_eq!(ids(&map, &["1", "3"]), expected);
        }
    }

    #[test]
    fn a_label_outside_the_list_is_named_with_its_row() {
        let two = names(&["spam", "ham"]);
        let fault = |values: &[&str]| LabelMap::infer(&seen(values), Some(&two), None).unwrap_err();
        let error = fault(&["ham", "spam", "spma"]);
        assert_eq!(error.to_string(), "`a.csv:4`: label `spma` is not allowed; allowed are `spam`, `ham`");
        assert_eq!(error.help().as_deref(), Some("did you mean `spam`?"));
        let error = fault(&["0", "1", "2"]);
        assert_eq!(error.to_string(), "`a.csv:4`: label `2` is not allowed; allowed are `0` to `1`");
        assert!(error.help().unwrap().contains("since `0` occurs"));
        assert!(matches!(fault(&["5", "1"]), DataError::UnknownLabel { value, .. } if value == "5"));
        assert!(matches!(fault(&["ham", "1"]), DataError::UnknownLabel { value, .. } if value == "1"));
        assert!(matches!(fault(&["-1", "1"]), DataError::UnknownLabel { value, .. } if value == "-1"));
    }

    #[test]
    fn one_class_is_an_error() {
        for declared in [None, Some(names(&["a", "b"]))] {
            let error = LabelMap::infer(&seen(&["a"]), declared.as_deref(), None).unwrap_err();
            assert!(matches!(error, DataError::OneClass { value } if value == "a"));
        }
    }

    #[test]
    fn unusable_names() {
        for wrong in [&["a"][..], &["a", "a "], &["a", " "], &[]] {
            let error = LabelMap::infer(&seen(&["a"]), Some(&names(wrong)), None).unwrap_err();
            assert!(matches!(error, DataError::DeclaredLabels { .. }), "{wrong:?}");
        }
    }

    #[test]
    fn survives_a_round_trip() {
        let map = LabelMap::infer(&seen(&["1", "2"]), Some(&names(&["a", "b"])), None).unwrap();
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, r#"{"names":["a","b"],"style":"integers_from1"}"#);
        assert_eq!(serde_json::from_str::<LabelMap>(&json).unwrap(), map);
        assert!(serde_json::from_str::<LabelMap>(r#"{"names":["a"],"style":"names"}"#).is_err());
    }
}
