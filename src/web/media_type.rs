//! The media type of a request's body.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Whether the one `Content-Type` is of this media type, in any case and with any parameters.
pub fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return false };
    let essence = only.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_has_any_case_and_any_parameters_and_is_given_once() {
        let is = |values: &[&str]| {
            let headers = values.iter().map(|value| (CONTENT_TYPE, value.parse().unwrap())).collect();
            super::is(&headers, "application/json")
        };
        for good in
            ["application/json", "Application/JSON; charset=utf-8", "application/json ;a=b", "application/json;"]
        {
            assert!(is(&[good]), "{good}");
        }
        for bad in [
            &[][..],
            &[""],
            &["text/plain"],
            &["application/jsonx"],
            &["application/x-ndjson"],
            &["application/json, application/json"],
            &["application/json", "application/json"],
        ] {
            assert!(!is(bad), "{bad:?}");
        }
    }
}
