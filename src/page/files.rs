//! The files of the page, which are part of the program.

use http::Uri;

use crate::web::error::Error;
use crate::web::operation::path_segment;

/// The template of their paths.
pub(super) const PATH: &str = "/page/{file}";

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file: its name, media type and text.
const FILES: [(&str, &str, &str); 9] = [
    ("page.css", CSS, include_str!("files/page.css")),
    ("icon.svg", "image/svg+xml", include_str!("files/icon.svg")),
    ("main.js", SCRIPT, include_str!("files/main.js")),
    ("live.js", SCRIPT, include_str!("files/live.js")),
    ("overview.js", SCRIPT, include_str!("files/overview.js")),
    ("table.js", SCRIPT, include_str!("files/table.js")),
    ("chart.js", SCRIPT, include_str!("files/chart.js")),
    ("lookup.js", SCRIPT, include_str!("files/lookup.js")),
    ("format.js", SCRIPT, include_str!("files/format.js")),
];

/// The media type and the text of the file that a target names.
///
/// # Errors
///
/// 404 if there is no such file.
pub(super) fn file(uri: &Uri) -> Result<(&'static str, &'static str), Error> {
    let name = path_segment(PATH, uri.path(), "file").unwrap_or_default();
    let found = FILES.iter().find(|(known, ..)| *known == name);
    found.map(|(_, media_type, text)| (*media_type, *text)).ok_or(Error::Path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_file_or_the_page_names_exists() {
        let page = include_str!("page.html");
        let mut named: Vec<&str> = page.split("\"/page/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for (name, _, text) in FILES {
            assert!(!text.contains("://") || name == "icon.svg", "{name} names a host");
            named.extend(text.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()));
        }
        assert!(named.len() > 9, "{named:?}");
        for name in &named {
            assert!(FILES.iter().any(|(known, ..)| known == name), "{name}");
        }
        for (name, ..) in FILES {
            assert!(named.contains(&name), "no file uses {name}");
        }
    }
}
