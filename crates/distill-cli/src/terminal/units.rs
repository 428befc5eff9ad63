//! Numbers as people read them.

/// `12345` as `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 row`, `2 rows`.
pub fn counted(value: u64, noun: &str) -> String {
    if value == 1 { format!("1 {noun}") } else { format!("{} {noun}s", count(value)) }
}

/// A large count in about three figures: `987`, `9.1k`, `120k`, `22.7M`.
pub fn short_count(value: f64) -> String {
    const STEPS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    for (size, suffix) in STEPS {
        // 999.96k would round to 1000.0k
        if value >= size * 0.9995 {
            let scaled = value / size;
            return if scaled < 99.95 {
                format!("{scaled:.1}{suffix}")
            } else {
                format!("{scaled:.0}{suffix}")
            };
        }
    }
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// Bytes as `512 B`, `3.6 MiB`, `1.2 GiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// A time that was measured: `0.42 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`.
pub fn seconds(value: f64) -> String {
    if value < 9.995 {
        return format!("{value:.2} s");
    }
    if value < 59.95 {
        return format!("{value:.1} s");
    }
    let whole = value.round() as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// A time that is estimated, as on a clock: `0:43`, `12:05`, `1:02:33`.
pub fn clock(value: f64) -> String {
    let whole = value.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole % 3600 / 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A fraction as a percentage: `91.67%`.
pub fn percent(fraction: f64) -> String {
    format!("{:.2}%", fraction * 100.0)
}

/// A learning rate: `9.8e-5`.
pub fn learning_rate(value: f64) -> String {
    format!("{value:.1e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let texts: Vec<String> = [0, 7, 999, 1000, 12345, 1234567].map(count).into();
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(0, "row"), "0 rows");
    }

    #[test]
    fn short_counts_keep_three_figures() {
        let texts: Vec<String> =
            [0.4, 12.3, 987.0, 999.6, 9_123.0, 120_400.0, 22_713_216.0].map(short_count).into();
        assert_eq!(texts, ["0.4", "12", "987", "1.0k", "9.1k", "120k", "22.7M"]);
    }

    #[test]
    fn bytes_step_up_at_1024() {
        let texts: Vec<String> = [0, 1023, 1024, 3_774_874, 4_187_593_113].map(bytes).into();
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "3.6 MiB", "3.9 GiB"]);
    }

    #[test]
    fn times_choose_their_unit() {
        let texts: Vec<String> = [0.418, 12.34, 59.97, 185.2, 7620.0].map(seconds).into();
        assert_eq!(texts, ["0.42 s", "12.3 s", "1 min 00 s", "3 min 05 s", "2 h 07 min"]);
        let clocks: Vec<String> = [43.4, 725.0, 3753.0, -1.0].map(clock).into();
        assert_eq!(clocks, ["0:43", "12:05", "1:02:33", "0:00"]);
    }
}
