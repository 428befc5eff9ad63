//! Dates in headers.
use std::time::Duration;

/// Time since 1970 of a date as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, §5.6.7); its
/// two obsolete forms are not read.
pub(crate) fn since_1970(date: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = date.trim().split_once(", ")?;
    let parts: Vec<&str> = date.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let times: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = times[..] else { return None };
    if !(1..=31).contains(&day)
        || !(1970..=9999).contains(&year)
        || hours > 23
        || minutes > 59
        || seconds > 60
    {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some(Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60 + seconds))
}

/// Days from 1 January 1970 to a date of the Gregorian calendar; Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `days_from_civil`.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Fri, 01 Mar 2030 12:00:00 GMT", 1_898_596_800),
        ] {
            assert_eq!(since_1970(date), Some(Duration::from_secs(seconds)), "{date}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["", "120", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"]
        {
            assert_eq!(since_1970(text), None, "{text}");
        }
        assert_eq!(since_1970("Sun, 99 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(since_1970("Sun, 06 Nov 1994 24:49:37 GMT"), None);
    }
}
