//! Sizes, times and foreign text, as people read them in a terminal.

use std::time::Duration;

/// A number of bytes.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut amount, mut unit) = (bytes as f64 / 1024.0, 0);
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    match amount {
        0.0..9.95 => format!("{amount:.1} {}", UNITS[unit]),
        _ => format!("{amount:.0} {}", UNITS[unit]),
    }
}

/// A time span in the largest unit that it fills twice.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => "< 1 s".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A short time, in seconds: three digits in the unit that fits.
pub(crate) fn duration(seconds: f64) -> String {
    let (amount, unit) = match seconds {
        ..0.001 => (seconds * 1e6, "µs"),
        0.001..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    match amount {
        ..9.995 => format!("{amount:.2} {unit}"),
        9.995..99.95 => format!("{amount:.1} {unit}"),
        _ => format!("{amount:.0} {unit}"),
    }
}

/// How often something happens in a second.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        ..0.005 => "< 0.01".to_owned(),
        0.005..9.95 => format!("{per_second:.2}"),
        _ => format!("{per_second:.0}"),
    }
}

/// Text that somebody else has written, without what would control the terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control()
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Rows under a head, in columns as wide as they need to be; the last one as it is.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_two_digits_or_more() {
        let shown = [0, 1023, 1024, 1536, 10 << 10, 1_048_575, 5 << 30, 1 << 52].map(size);
        let expected = [
            "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.0 MiB", "5.0 GiB", "4096 TiB",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn spans_take_the_largest_fitting_unit() {
        let shown = [0, 1, 119, 120, 7199, 7200, 172_799, 172_800]
            .map(|seconds| span(Duration::from_secs(seconds)));
        let expected = [
            "< 1 s", "1 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn durations_keep_three_digits() {
        let shown = [2.5e-6, 0.000_25, 0.0123, 0.25, 1.5, 61.0].map(duration);
        let expected = ["2.50 µs", "250 µs", "12.3 ms", "250 ms", "1.50 s", "61.0 s"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn rates_say_when_they_are_not_quite_nothing() {
        let shown = [0.0, 0.001, 0.5, 9.99, 1234.5].map(rate);
        assert_eq!(shown, ["0", "< 0.01", "0.50", "10", "1234"]);
    }

    #[test]
    fn nothing_controls_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mé\n\u{202e}"), "a\\u{1b}[31mé\\n\\u{202e}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["é".to_owned(), "x".to_owned()],
            vec!["longer".to_owned(), String::new()],
        ];
        assert_eq!(table(&["A", "B"], &rows), "A       B\né       x\nlonger\n");
    }
}
