//! Sizes and durations as people write them.

/// Reads a size. `None`: not one.
///
/// Source: `dask/utils.py`, `parse_bytes`: powers of ten without `i`, of two with it, case does not matter.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.replace(' ', "");
    let (number, unit) = split_number(&text);
    let number = if number.is_empty() { 1.0 } else { number.parse::<f64>().ok()? };
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "p" | "pb" => 1e15,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024f64.powi(2),
        "gi" | "gib" => 1024f64.powi(3),
        "ti" | "tib" => 1024f64.powi(4),
        "pi" | "pib" => 1024f64.powi(5),
        _ => return None,
    };
    let bytes = number * factor;
    (bytes.is_finite() && (0.0..1.8e19).contains(&bytes)).then_some(bytes as u64)
}

/// Reads a duration in seconds: `1.5`, `100 ms`, `5 minutes`, `h`. `None`: not one, or below zero.
///
/// Source: `dask/utils.py`, `parse_timedelta`: spaces and case do not matter, a unit alone is one of it, no unit means
/// seconds. `sec`, `min` and `hr` are ours.
pub fn parse_secs(text: &str) -> Option<f64> {
    let text = text.replace(' ', "");
    let (number, unit) = split_number(&text);
    if number.is_empty() && unit.is_empty() {
        return None;
    }
    let number = if number.is_empty() { 1.0 } else { number.parse::<f64>().ok()? };
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "us" | "microsecond" | "microseconds" => 1e-6,
        "ns" | "nanosecond" | "nanoseconds" => 1e-9,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    };
    let secs = number * factor;
    (secs.is_finite() && secs >= 0.0).then_some(secs)
}

/// A leading number and what follows. `1e3kB` is one number, `5e` is five and `e`.
fn split_number(text: &str) -> (&str, &str) {
    let unit = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number_len =
        if unit.is_empty() && text.starts_with(|c: char| c.is_ascii_alphabetic()) { 0 } else { unit.len() };
    text.split_at(number_len)
}

/// Bytes for people: `3.7 GiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("kiB", 1 << 10)];
    UNITS.iter().find(|(_, unit)| bytes >= *unit).map_or_else(
        || format!("{bytes} B"),
        |(name, unit)| {
            let number = format!("{:.1}", bytes as f64 / *unit as f64);
            format!("{} {name}", number.strip_suffix(".0").unwrap_or(&number))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dask_reads_them() {
        for (text, bytes) in [("4 GiB", 4 << 30), ("64MiB", 64 << 20), ("5GB", 5_000_000_000), ("5000M", 5_000_000_000)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for (text, bytes) in [("1kiB", 1024), ("12", 12), ("1e3 B", 1000), ("MB", 1_000_000), ("2.5k", 2500)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["4 GB of ram", "-1", "lots", "nan"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_dask_reads_them() {
        for (text, secs) in [
            ("5 minutes", 300.0),
            ("100 ms", 0.1),
            ("100ms", 0.1),
            ("30 s", 30.0),
            ("1h", 3600.0),
            ("2", 2.0),
            ("1.5", 1.5),
            ("1us", 1e-6),
            ("1e3", 1000.0),
            ("1e3MS", 1.0),
            (" 2 W ", 1_209_600.0),
            ("hour", 3600.0),
        ] {
            assert_eq!(parse_secs(text), Some(secs), "{text}");
        }
        for text in ["", " ", "soon", "-3s", "inf", "nan", "5e", "1 h 30 m"] {
            assert_eq!(parse_secs(text), None, "{text}");
        }
    }
}
