//! Ranges of numbers, lengths of texts, counts of lists: what is allowed, in words.

use serde_json::Value as Json;

/// `must be between 0 and 1` if `number` is out of the range that `schema` gives.
pub(super) fn range(schema: &Json, number: f64) -> Option<String> {
    let bound = |keyword: &str| schema.get(keyword).and_then(Json::as_f64);
    let format = schema.get("format").and_then(Json::as_str).unwrap_or("");
    let below = bound("exclusiveMinimum");
    let minimum = bound("minimum").or(match format {
        "int32" => Some(f64::from(i32::MIN)),
        _ => None,
    });
    let above = bound("exclusiveMaximum");
    let maximum = bound("maximum").or(match format {
        "int32" => Some(f64::from(i32::MAX)),
        "uint32" => Some(f64::from(u32::MAX)),
        _ => None,
    });
    let inside = below.is_none_or(|low| number > low)
        && minimum.is_none_or(|low| number >= low)
        && above.is_none_or(|high| number < high)
        && maximum.is_none_or(|high| number <= high);
    if inside {
        return None;
    }
    // An exclusive bound beside a plain one (an unsigned integer's 0) is the narrower of the two.
    let low = match (below, minimum) {
        (Some(low), _) => Some(format!("above {}", plain(low))),
        (None, Some(low)) => Some(format!("at least {}", plain(low))),
        (None, None) => None,
    };
    let high = match (above, maximum) {
        (Some(high), _) => Some(format!("below {}", plain(high))),
        (None, Some(high)) => Some(format!("at most {}", plain(high))),
        (None, None) => None,
    };
    Some(match (below, minimum, above, maximum) {
        (None, Some(low), None, Some(high)) => {
            format!("must be between {} and {}", plain(low), plain(high))
        }
        _ => {
            let both: Vec<String> = low.into_iter().chain(high).collect();
            format!("must be {}", both.join(" and "))
        }
    })
}

/// `must not be empty` and the like if a text of `length` characters is not allowed.
pub(super) fn length(schema: &Json, length: usize) -> Option<String> {
    let (least, most) = limits(schema, "minLength", "maxLength", length)?;
    Some(match (least, most) {
        (Some(1), Some(1)) => "must be one character".to_string(),
        (Some(1), _) if length == 0 => "must not be empty".to_string(),
        _ => format!("must have {}", amount(least, most, "character")),
    })
}

/// `must have at least 1 item` and the like if a list of `count` items is not allowed.
pub(super) fn count(schema: &Json, count: usize) -> Option<String> {
    let (least, most) = limits(schema, "minItems", "maxItems", count)?;
    Some(format!("must have {}", amount(least, most, "item")))
}

fn limits(schema: &Json, least: &str, most: &str, found: usize) -> Option<(Option<u64>, Option<u64>)> {
    let least = schema.get(least).and_then(Json::as_u64);
    let most = schema.get(most).and_then(Json::as_u64);
    let found = found as u64;
    let inside = least.is_none_or(|least| found >= least) && most.is_none_or(|most| found <= most);
    (!inside).then_some((least, most))
}

fn amount(least: Option<u64>, most: Option<u64>, unit: &str) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    match (least, most) {
        (Some(least), Some(most)) if least == most => format!("{least} {unit}{}", plural(least)),
        (Some(least), Some(most)) => format!("between {least} and {most} {unit}s"),
        (Some(least), None) => format!("at least {least} {unit}{}", plural(least)),
        (None, Some(most)) => format!("at most {most} {unit}{}", plural(most)),
        (None, None) => format!("any number of {unit}s"),
    }
}

/// Whole numbers without a decimal point.
fn plain(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { format!("{number:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_in_words() {
        for (schema, number, wanted) in [
            (json!({"minimum": 0, "maximum": 1.0}), 500.0, "must be between 0 and 1"),
            (json!({"minimum": 0, "exclusiveMaximum": 1}), 1.0, "must be at least 0 and below 1"),
            (json!({"exclusiveMinimum": 0, "maximum": 1}), 0.0, "must be above 0 and at most 1"),
            (json!({"exclusiveMinimum": 0}), -1.0, "must be above 0"),
            (json!({"minimum": 1}), 0.0, "must be at least 1"),
            (json!({"maximum": 0.5}), 0.6, "must be at most 0.5"),
            (json!({"format": "uint32", "minimum": 0}), 5e9, "must be between 0 and 4294967295"),
        ] {
            assert_eq!(range(&schema, number).as_deref(), Some(wanted), "{schema}");
        }
        assert_eq!(range(&json!({"minimum": 0, "maximum": 1}), 1.0), None);
        assert_eq!(range(&json!({"exclusiveMaximum": 1}), 0.999), None);
        assert_eq!(range(&json!({}), 1e300), None);
    }

    #[test]
    fn lengths_and_counts_in_words() {
        let one = json!({"minLength": 1, "maxLength": 1});
        assert_eq!(length(&one, 2).as_deref(), Some("must be one character"));
        assert_eq!(length(&one, 1), None);
        let some = json!({"minLength": 1});
        assert_eq!(length(&some, 0).as_deref(), Some("must not be empty"));
        let most = json!({"maxLength": 3});
        assert_eq!(length(&most, 4).as_deref(), Some("must have at most 3 characters"));
        let items = json!({"minItems": 1});
        assert_eq!(count(&items, 0).as_deref(), Some("must have at least 1 item"));
        let pair = json!({"minItems": 2, "maxItems": 2});
        assert_eq!(count(&pair, 3).as_deref(), Some("must have 2 items"));
        let few = json!({"minItems": 2, "maxItems": 4});
        assert_eq!(count(&few, 1).as_deref(), Some("must have between 2 and 4 items"));
        assert_eq!(count(&few, 2), None);
    }
}
