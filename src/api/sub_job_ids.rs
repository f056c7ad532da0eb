//! The body of a batch delete: `{"items":["…"]}`.
//!
//! Source: the publisher's definition of the operation, which bounds the list and the ids. It is read strictly, since a
//! request that says more than what is understood should delete nothing.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::SubJobId;
use crate::web::error::Error;

/// The most ids, as published.
const MAX_ITEMS: usize = 20;

/// Reads the ids. No two may be equal.
///
/// # Errors
///
/// 400 that names the first rule that the body breaks, and repeats nothing of the body.
pub fn parse(body: &[u8]) -> Result<Vec<SubJobId>, Error> {
    let invalid = |reason| Error::input("body", reason);
    if body.is_empty() {
        return Err(invalid("is missing: it must be a JSON object with items"));
    }
    let object: Object = serde_json::from_slice(body).map_err(|_| invalid("must be one JSON object with items"))?;
    if object.is_repeated {
        return Err(invalid("must have items only once"));
    }
    if object.has_others {
        return Err(invalid("must have items and no other key"));
    }
    let items = object.items.ok_or_else(|| invalid("must have items"))?;
    let out_of_bounds = || Error::input("items", "must be an array of 1 to 20 strings");
    let items: Vec<&RawValue> = serde_json::from_str(items.get()).map_err(|_| out_of_bounds())?;
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        return Err(out_of_bounds());
    }
    let mut ids = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let position = at + 1;
        let Ok(Text(text)) = serde_json::from_str(item.get()) else {
            return Err(Error::input("item", format!("{position} must be a string")));
        };
        let id = SubJobId::parse(&text).map_err(|error| Error::input("item", format!("{position} {error}")))?;
        if let Some(first) = ids.iter().position(|known| *known == id) {
            return Err(Error::input("item", format!("{position} must not repeat item {}", first + 1)));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The object as it came, before its rules are checked.
#[derive(Default)]
struct Object<'a> {
    items: Option<&'a RawValue>,
    is_repeated: bool,
    has_others: bool,
}

/// A string, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                while let Some(Text(key)) = map.next_key()? {
                    if key == "items" {
                        object.is_repeated |= object.items.replace(map.next_value()?).is_some();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        object.has_others = true;
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<Vec<String>, String> {
        let ids = parse(body.as_bytes()).map_err(|error| error.to_string())?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    fn of(ids: impl IntoIterator<Item = String>) -> String {
        serde_json::json!({ "items": ids.into_iter().collect::<Vec<_>>() }).to_string()
    }

    #[test]
    fn ids_are_parsed_in_order_up_to_every_limit() {
        for (body, ids) in [
            (r#"{"items":["b","a"]}"#, &["b", "a"][..]),
            (" {\r\n\t\"\\u0069tems\" : [ \"\\u0061\\/\\\"\\ud83d\\ude00\" , \" \" ] } \n", &["a/\"😀", " "]),
            (r#"{"items":["A","a","é","e\u0301"]}"#, &["A", "a", "é", "e\u{301}"]),
        ] {
            assert_eq!(read(body).unwrap(), ids, "{body}");
        }
        let twenty: Vec<_> = (0..20).map(|at| format!("{at:é>128}")).collect();
        assert_eq!(read(&of(twenty.clone())), Ok(twenty));
    }

    #[test]
    fn an_invalid_body_is_refused_with_the_broken_rule() {
        let no_object = "body must be one JSON object with items";
        let no_array = "items must be an array of 1 to 20 strings";
        let many = of((0..21).map(|at| at.to_string()));
        let long = of(["a".into(), "é".repeat(129)]);
        let deep = format!("{{\"items\":{}", "[".repeat(60_000));
        for (body, reason) in [
            ("", "body is missing: it must be a JSON object with items"),
            (" ", no_object),
            ("null", no_object),
            ("[\"a\"]", no_object),
            ("\"items\"", no_object),
            ("{\"items\":[\"a\"]", no_object),
            ("{\"items\":[\"a\"]}}", no_object),
            ("{\"items\":[\"a\"]}{\"items\":[\"a\"]}", no_object),
            ("{\"items\":[\"a\",]}", no_object),
            ("{\"items\":[\"a\"],}", no_object),
            ("{items:[\"a\"]}", no_object),
            ("{'items':['a']}", no_object),
            ("\u{feff}{\"items\":[\"a\"]}", no_object),
            ("{\"items\":[\"a\n\"]}", no_object),
            (&deep, no_object),
            ("{}", "body must have items"),
            ("{\"Items\":[\"a\"]}", "body must have items and no other key"),
            ("{\"items\":[\"a\"],\"force\":true}", "body must have items and no other key"),
            ("{\"items\":[\"a\"],\"items\":[\"a\"]}", "body must have items only once"),
            ("{\"items\":null,\"i\\u0074ems\":[\"a\"]}", "body must have items only once"),
            ("{\"items\":null}", no_array),
            ("{\"items\":\"a\"}", no_array),
            ("{\"items\":{\"0\":\"a\"}}", no_array),
            ("{\"items\":[]}", no_array),
            (&many, no_array),
            ("{\"items\":[1]}", "item 1 must be a string"),
            ("{\"items\":[\"a\",null]}", "item 2 must be a string"),
            ("{\"items\":[\"a\",[\"b\"]]}", "item 2 must be a string"),
            ("{\"items\":[\"a\",\"\\ud800\"]}", "item 2 must be a string"),
            ("{\"items\":[\"a\",\"\"]}", "item 2 must not be empty"),
            (&long, "item 2 must have at most 128 characters"),
            ("{\"items\":[\"a\",\"b\",\"c\\u0000\"]}", "item 3 must not hold a control character"),
            ("{\"items\":[\"\\u0085\"]}", "item 1 must not hold a control character"),
            ("{\"items\":[\"a\",\"b\",\"a\"]}", "item 3 must not repeat item 1"),
            ("{\"items\":[\"a\",\"\\u0061\"]}", "item 2 must not repeat item 1"),
        ] {
            assert_eq!(read(body), Err(reason.into()), "{body}");
        }
        assert!(parse(b"{\"items\":[\"\xff\"]}").is_err());
        assert!(parse(b"{\"\xff\":1,\"items\":[\"a\"]}").is_err());
    }

    proptest! {
        #[test]
        fn encoded_ids_are_parsed_to_the_same_ids(ids in proptest::collection::btree_set("[^\\p{Cc}]{1,10}", 1..20)) {
            let ids: Vec<_> = ids.into_iter().collect();
            prop_assert_eq!(read(&of(ids.clone())), Ok(ids));
        }

        #[test]
        fn parsing_any_body_never_panics(body in "[\\{\\}\\[\\]\"items:, \\\\ua0]{0,40}") {
            let _ = read(&body);
        }
    }
}
