//! The page with the numbers of one moment, so that it is of use without JavaScript.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use crate::domain::Status;
use crate::metrics::Listener;
use crate::overview::{Overview, Reading};
use crate::store::StoreKind;

const TEMPLATE: &str = include_str!("page.html");

/// A cell whose number the store cannot say.
const UNKNOWN: &str = "<td>unknown</td>";

/// The page.
pub(super) fn page(reading: &Reading, overview: &Overview, listener: Listener) -> String {
    let (rows, empty) = rows(reading, overview);
    let last_report = jiff::Timestamp::from_second(reading.activity.last_report).ok().filter(|at| at.as_second() > 0);
    fill(|name| {
        let text: Cow<'_, str> = match name {
            "version" => env!("CARGO_PKG_VERSION").into(),
            "state" => reading.state.as_str().into(),
            "reason" => escape(&reading.state.reason().unwrap_or_default()).into(),
            "at" => moment(Some(reading.at)).into(),
            "status_cards" => status_cards(reading).into(),
            "rate_cards" => rate_cards(reading).into(),
            "status_headers" => Status::ALL.map(|status| format!("<th scope=\"col\">{status}</th>")).concat().into(),
            "rows" => rows.as_str().into(),
            "sums" => match reading.by_status() {
                Some(counts) => row(None, &counts).into(),
                None => {
                    format!("<tr><th scope=\"row\">all types</th>{}</tr>", UNKNOWN.repeat(Status::COUNT + 1)).into()
                }
            },
            "empty_types_hidden" => if empty.is_empty() { " hidden" } else { "" }.into(),
            "empty_types_count" => empty.len().to_string().into(),
            "empty_types" => escape(&empty.join(", ")).into(),
            "store" => store(overview.store_kind()).into(),
            "reports_storable" => if reading.takes_reports { "yes" } else { "no" }.into(),
            "last_report" => moment(last_report).into(),
            "drift" => grouped(reading.drift).into(),
            "verifications" => grouped(reading.activity.verifications).into(),
            "started" => moment(Some(overview.started_at())).into(),
            "refusals" => refusals(reading).into(),
            "links" => links(listener).into(),
            _ => "".into(),
        };
        text
    })
}

/// The template with a text for each `{{name}}`. What a text has is never taken for a name.
fn fill<'a>(text: impl Fn(&str) -> Cow<'a, str>) -> String {
    let mut page = String::with_capacity(2 * TEMPLATE.len());
    let mut parts = TEMPLATE.split("{{");
    page.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or_default();
        page.push_str(&text(name));
        page.push_str(rest);
    }
    page
}

/// A row for each type that has subtasks, and the labels of the other types.
fn rows<'a>(reading: &Reading, overview: &'a Overview) -> (String, Vec<&'a str>) {
    let (mut rows, mut empty) = (String::new(), Vec::new());
    let types = overview.job_types();
    for (job_type, counts) in types.iter().zip(reading.totals.iter().flatten()) {
        let label = types.label(job_type);
        match counts.iter().sum::<u64>() {
            0 => empty.push(label),
            _ => rows.push_str(&row(Some(label), counts)),
        }
    }
    (rows, empty)
}

/// A row of the table: of a type, or of all.
fn row(label: Option<&str>, counts: &[u64; Status::COUNT]) -> String {
    let label = escape(label.unwrap_or_default());
    let title = if label.is_empty() { "all types" } else { &label };
    let mut row = format!("<tr data-type=\"{label}\"><th scope=\"row\">{title}</th>");
    for count in counts.iter().copied().chain([counts.iter().sum()]) {
        let class = if count == 0 { " class=\"zero\"" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(row, "<td{class}>{}</td>", grouped(count));
    }
    row + "</tr>\n"
}

fn status_cards(reading: &Reading) -> String {
    let counts = reading.by_status();
    let text = |count: Option<u64>| count.map_or_else(|| "unknown".into(), grouped);
    let of = |status: Status| text(counts.map(|counts| counts[status as usize]));
    let cards = Status::ALL.map(|status| card(status.as_str(), status.as_str(), of(status)));
    cards.concat() + &card("all", "all", text(counts.map(|counts| counts.iter().sum())))
}

fn rate_cards(reading: &Reading) -> String {
    let rates = reading.rates;
    let cards = [
        ("reports", "reports accepted", rates.reports),
        ("counts", "counts answered", rates.counts),
        ("requests", "public requests", rates.requests),
        ("refusals", "refusals", rates.refusals),
    ];
    cards.map(|(name, title, rate)| card(name, title, format!("{rate}/s"))).concat()
}

fn card(name: &str, title: &str, number: impl Display) -> String {
    format!(
        "<li data-name=\"{name}\"><span class=\"name\">{title}</span><span class=\"number\">{number}</span>\
         <svg role=\"img\" aria-label=\"{title}: no history yet\" viewBox=\"0 0 120 32\" preserveAspectRatio=\"none\">\
         <path d=\"\"/></svg><span class=\"range\"></span></li>\n"
    )
}

fn refusals(reading: &Reading) -> String {
    let refusals = reading.activity.refusals.iter().filter(|(_, count)| *count > 0);
    let rows: String = refusals
        .map(|(reason, count)| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(reason), grouped(*count))
        })
        .collect();
    if rows.is_empty() { "<tr><td colspan=\"2\">none</td></tr>\n".into() } else { rows }
}

/// Links to what the listener serves.
fn links(listener: Listener) -> String {
    let paths: &[_] = match listener {
        Listener::Public => &["/overview"],
        Listener::Internal => &["/overview", "/metrics", "/readyz", "/openapi.json"],
    };
    paths.iter().map(|path| format!("<li><a href=\"{path}\">{path}</a></li>")).collect()
}

fn store(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Memory => "in memory only",
        StoreKind::DataDir => "in a data directory",
        StoreKind::Postgres => "in a PostgreSQL database",
    }
}

/// A moment to the second, in UTC.
fn moment(at: Option<jiff::Timestamp>) -> String {
    at.map_or_else(|| "never".into(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A number with a comma between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// A text in which no character means anything in HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_filled_in_once() {
        assert_eq!(escape(r#"<a b="c" d='e'>&"#), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        let page = fill(|name| if name == "reason" { "{{state}}".into() } else { "".into() });
        assert_eq!(page.matches("{{state}}").count(), 1);
        assert!(row(Some("<b>"), &[0; 7]).contains("<th scope=\"row\">&lt;b&gt;</th>"));
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn every_name_of_the_template_has_a_text() {
        let source = include_str!("html.rs");
        let names = TEMPLATE.split("{{").skip(1).filter_map(|part| Some(part.split_once("}}")?.0));
        for name in names {
            assert!(source.contains(&format!("\"{name}\" =>")), "{name}");
        }
    }
}
