//! What a PromQL expression reads, and the series of a scrape.

use std::collections::BTreeMap;

/// Words of PromQL before a parenthesis with names of labels.
const WITH_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words of PromQL that no parenthesis needs to follow.
const WORDS: [&str; 9] = ["and", "or", "unless", "offset", "bool", "sum", "max", "min", "count"];

/// Labels that Prometheus adds to each series of a scrape.
pub(crate) const LABELS_OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// A metric with labels: a series, or what an expression selects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector {
    pub(crate) name: String,
    /// The label, the operator and the value of each matcher.
    pub(crate) matchers: Vec<(String, String, String)>,
}

impl Selector {
    /// The labels and their values, without those of Prometheus.
    pub(crate) fn own_labels(&self) -> BTreeMap<&str, &str> {
        let own = self.matchers.iter().filter(|(label, ..)| !LABELS_OF_PROMETHEUS.contains(&label.as_str()));
        own.map(|(label, _, value)| (label.as_str(), value.as_str())).collect()
    }

    /// Whether it selects this series. Labels of Prometheus select every series.
    pub(crate) fn selects(&self, series: &Self) -> bool {
        let labels = series.own_labels();
        let is_match = |(label, operator, value): &(String, String, String)| {
            let found = labels.get(label.as_str()).copied();
            match operator.as_str() {
                _ if LABELS_OF_PROMETHEUS.contains(&label.as_str()) => true,
                "=" => found == Some(value),
                "=~" => value.split('|').any(|value| found == Some(value)),
                _ => found.is_some(),
            }
        };
        self.name == series.name && self.matchers.iter().all(is_match)
    }
}

/// The selectors of an expression.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.';
        rest = match first {
            '"' => after(&rest[1..], '"'),
            '[' => after(rest, ']'),
            _ if first.is_ascii_digit() => rest.trim_start_matches(is_part),
            _ if is_part(first) => {
                let (name, more) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
                let more = more.trim_start();
                if WITH_LABELS.contains(&name) {
                    after(more, ')')
                } else if WORDS.contains(&name) || more.starts_with('(') {
                    more
                } else {
                    let (matchers, more) = matchers(more);
                    found.push(Selector { name: name.to_owned(), matchers });
                    more
                }
            }
            _ => &rest[first.len_utf8()..],
        };
    }
    found
}

/// What comes after the next such character.
fn after(text: &str, end: char) -> &str {
    text.split_once(end).unwrap_or_else(|| panic!("no {end} in {text}")).1
}

/// The matchers in braces at the start of a text, and the text after them.
fn matchers(text: &str) -> (Vec<(String, String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut matchers = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return (matchers, rest);
        }
        let (label, value) = rest.split_once('"').unwrap_or_else(|| panic!("no value in {rest}"));
        let (value, more) = value.split_once('"').unwrap_or_else(|| panic!("no end of {value}"));
        let name = label.trim_end_matches(['=', '!', '~']);
        matchers.push((name.to_owned(), label[name.len()..].to_owned(), value.to_owned()));
        rest = more;
    }
}

/// The series of a scrape.
pub(crate) fn series(scrape: &str) -> Vec<Selector> {
    let lines = scrape.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(|line| selectors(line.rsplit_once(' ').unwrap().0)).collect()
}

#[test]
fn selectors_are_found_and_functions_and_labels_are_not() {
    let found = selectors(
        r#"histogram_quantile(0.99, sum by (le, route) (rate(a_bucket{listener="public",x=~"b|c"}[5m]))) > ignoring(lane) 0.1 * b offset 5m unless c{y!=""}"#,
    );
    let names: Vec<_> = found.iter().map(|selector| selector.name.as_str()).collect();
    assert_eq!(names, ["a_bucket", "b", "c"]);
    let own = found[0].own_labels();
    assert_eq!(own, BTreeMap::from([("listener", "public"), ("x", "b|c")]));
    let [series] = &series(r#"a_bucket{le="1",listener="public",x="c"} 3"#)[..] else { panic!() };
    assert!(found[0].selects(series) && !found[1].selects(series));
    assert!(!selectors(r#"a_bucket{x="b"}"#)[0].selects(series));
}
