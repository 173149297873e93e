//! Prometheus' text format, versions 0.0.4 and OpenMetrics 1.0: what series there are, and their values.

use std::collections::BTreeMap;

/// One series at one time.
#[derive(Debug, PartialEq)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, String>,
    pub(super) value: f64,
}

impl Series<'_> {
    /// The value of a label, empty where there is none, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The series of a page. Comments, and lines that are none, are passed over.
pub(super) fn series(page: &str) -> impl Iterator<Item = Series<'_>> {
    page.lines().filter_map(line)
}

fn line(line: &str) -> Option<Series<'_>> {
    let line = line.trim();
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A time or an example may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series {
        name,
        labels,
        value,
    })
}

/// Labels up to the closing brace, and what is behind it.
fn labels(mut rest: &str) -> Option<(BTreeMap<&str, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once('=')?;
        let (value, behind) = unquoted(quoted.trim_start().strip_prefix('"')?)?;
        labels.insert(name.trim(), value);
        rest = behind;
    }
}

/// Text up to the closing quote, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_series() {
        for (text, name, labels, value) in [
            ("a_total 3", "a_total", &[][..], 3.0),
            ("a{} 1e3 1700000000", "a", &[], 1000.0),
            (
                r#"a{x="1",y="}, \"\\\n"} +Inf"#,
                "a",
                &[("x", "1"), ("y", "}, \"\\\n")],
                f64::INFINITY,
            ),
            (
                r#" a { x = "é" , } 0.5 # {trace="1"} 2"#,
                "a",
                &[("x", "é")],
                0.5,
            ),
        ] {
            let labels = labels
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()));
            let expected = Series {
                name,
                labels: labels.collect(),
                value,
            };
            assert_eq!(line(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_series_is_passed_over() {
        let page = "# HELP a A.\n\na 1\nb\nc{x=\"1\nd{x} 1\ne{x=\"\\\n<html>\nf one\ng 2";
        let names: Vec<_> = series(page).map(|series| series.name).collect();
        assert_eq!(names, ["a", "g"]);
    }
}
