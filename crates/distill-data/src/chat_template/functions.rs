//! What chat templates may call beside Jinja's own filters and functions.
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// The kind of error that [`raise_exception`] makes, and nothing else here.
pub(super) const RAISED: ErrorKind = ErrorKind::WriteFailure;

/// Refuses the conversation.
pub(super) fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(RAISED, message))
}

/// The present time, in UTC, by a format of C's `strftime`.
pub(super) fn strftime_now(format: String) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    strftime(&format, since.map_or(0, |since| since.as_secs()))
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The time `seconds` after 1970; what is no known place stays as it is.
fn strftime(format: &str, seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day, day_of_year) = date(days);
    let (month_name, day_name) = (MONTHS[month], DAYS[((days + 4) % 7) as usize]);
    let half_day = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('Y') => text.push_str(&year.to_string()),
            Some('y') => text.push_str(&format!("{:02}", year % 100)),
            Some('m') => text.push_str(&format!("{:02}", month + 1)),
            Some('B') => text.push_str(month_name),
            Some('b' | 'h') => text.push_str(&month_name[..3]),
            Some('d') => text.push_str(&format!("{day:02}")),
            Some('e') => text.push_str(&format!("{day:2}")),
            Some('j') => text.push_str(&format!("{day_of_year:03}")),
            Some('A') => text.push_str(day_name),
            Some('a') => text.push_str(&day_name[..3]),
            Some('H') => text.push_str(&format!("{hour:02}")),
            Some('I') => text.push_str(&format!("{half_day:02}")),
            Some('M') => text.push_str(&format!("{minute:02}")),
            Some('S') => text.push_str(&format!("{second:02}")),
            Some('p') => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => text.push_str(&format!("{year}-{:02}-{day:02}", month + 1)),
            Some('T') => text.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Year, month from 0, day from 1, and day of the year from 1, of the day `days` after 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let (day_of_year, mut month) = (days + 1, 0);
    for length in [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, day_of_year)
}

/// JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it, with `indent` if it is given.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(value, indent, 0, &mut text)?;
    Ok(text.into())
}

fn write_json(value: &Value, indent: Option<usize>, depth: usize, text: &mut String) -> Result<(), Error> {
    let line = |depth: usize, text: &mut String| {
        if let Some(width) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let separate = |index: usize, text: &mut String| {
        if index > 0 {
            text.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(depth + 1, text);
    };
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&value.to_string()),
        ValueKind::String => text.push_str(&quoted(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            let mut length = 0;
            for item in value.try_iter()? {
                separate(length, text);
                write_json(&item, indent, depth + 1, text)?;
                length += 1;
            }
            if length > 0 {
                line(depth, text);
            }
            text.push(']');
        }
        ValueKind::Map => {
            text.push('{');
            let mut length = 0;
            for key in value.try_iter()? {
                separate(length, text);
                text.push_str(&quoted(&key));
                text.push_str(": ");
                write_json(&value.get_item(&key)?, indent, depth + 1, text)?;
                length += 1;
            }
            if length > 0 {
                line(depth, text);
            }
            text.push('}');
        }
        kind => {
            let message = format!("{kind} has no form in JSON");
            return Err(Error::new(ErrorKind::BadSerialization, message));
        }
    }
    Ok(())
}

fn quoted(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    serde_json::Value::String(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @SECONDS`.
        for (seconds, expected) in [
            (0, "Thursday 01 January 1970 00:00:00 001"),
            (951_782_400, "Tuesday 29 February 2000 00:00:00 060"),
            (1_735_689_599, "Tuesday 31 December 2024 23:59:59 366"),
            (1_740_787_200, "Saturday 01 March 2025 00:00:00 060"),
            (4_107_542_400, "Monday 01 March 2100 00:00:00 060"),
        ] {
            assert_eq!(strftime("%A %d %B %Y %H:%M:%S %j", seconds), expected);
        }
        assert_eq!(
            strftime("%e %b %y, %I:%M %p; %F %T %a %% %Q %", 951_782_400),
            "29 Feb 00, 12:00 AM; 2000-02-29 00:00:00 Tue % %Q %"
        );
    }

    #[test]
    fn json_is_as_python_writes_it() {
        let text = |value: &str, options: &[(&str, Value)]| {
            let value = minijinja::Environment::new().compile_expression(value).unwrap().eval(()).unwrap();
            to_json(&value, options.iter().cloned().collect()).map(|text| text.to_string())
        };
        let value = "{'a': [1, 2.5, true, none], 'b': {}, '<': 'x\\n\"\u{e9}', 'c': []}";
        // `json.dumps(value, ensure_ascii=False)`, and with `indent=2`.
        assert_eq!(
            text(value, &[]).unwrap(),
            "{\"a\": [1, 2.5, true, null], \"b\": {}, \"<\": \"x\\n\\\"\u{e9}\", \"c\": []}"
        );
        assert_eq!(
            text(value, &[("indent", 2.into())]).unwrap(),
            "{\n  \"a\": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  \"b\": {},\n  \"<\": \"x\\n\\\"\u{e9}\",\n  \"c\": []\n}"
        );
        assert!(text("1", &[("indnt", 2.into())]).is_err());
    }
}
