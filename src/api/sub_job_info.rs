//! A subtask as the operations show it: what was reported of it, and nothing that was not.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer as _, IgnoredAny, MapAccess};
use serde::ser::{self, SerializeMap as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::domain::{Details, JobTypes, ProjectId, SubJob};

/// Writes a subtask as a JSON object. A field that was not reported is left out; the two forms in which an error can be
/// reported, flat and in `job_execute_info`, are each made of the other where that one is missing.
pub(super) struct SubJobInfo<'a> {
    /// Whose it is.
    pub(super) project: &'a ProjectId,
    /// What is stored of it.
    pub(super) sub_job: &'a SubJob,
    /// The names of its type.
    pub(super) job_types: &'a JobTypes,
}

impl Serialize for SubJobInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SubJob { id, job_id, job_type, status, details, .. } = self.sub_job;
        let no_details = Details::default();
        let details = details.as_deref().unwrap_or(&no_details);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("id", &Text(id))?;
        object.serialize_entry("job_id", &Text(job_id))?;
        object.serialize_entry("job_type", self.job_types.name(*job_type))?;
        object.serialize_entry("project_id", self.project.as_str())?;
        object.serialize_entry("status", status.as_str())?;
        for (name, time) in [("begin_time", details.begin_time), ("end_time", details.end_time)] {
            if let Some(time) = &time {
                object.serialize_entry(name, &Text(time))?;
            }
        }
        let errors = ErrorTexts::of(details);
        if let Some(code) = &errors.error_code {
            object.serialize_entry("error_code", code)?;
        }
        if let Some(message) = &errors.error_message {
            object.serialize_entry("error_message", message)?;
        }
        match &details.job_execute_info {
            Some(text) => object.serialize_entry("job_execute_info", raw(text)?)?,
            None if errors.is_empty() => {}
            None => object.serialize_entry("job_execute_info", &errors)?,
        }
        if let Some(text) = &details.job_resource_info {
            object.serialize_entry("job_resource_info", raw(text)?)?;
        }
        object.end()
    }
}

/// A JSON object as it came: its numbers, the order of its keys and its white space.
pub(super) fn raw<E: ser::Error>(text: &str) -> Result<&RawValue, E> {
    serde_json::from_str(text).map_err(E::custom)
}

/// A value that is shown as a string.
pub(super) struct Text<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Why a subtask failed, as it was reported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct ErrorTexts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_message: Option<Cow<'a, str>>,
}

impl<'a> ErrorTexts<'a> {
    /// Those that were reported flat; in place of one that was not, the string of that name in the reported
    /// `job_execute_info`.
    pub(super) fn of(details: &'a Details) -> Self {
        let flat = |text: &'a Option<Box<str>>| text.as_deref().map(Cow::Borrowed);
        let texts = Self { error_code: flat(&details.error_code), error_message: flat(&details.error_message) };
        match &details.job_execute_info {
            Some(info) if texts.error_code.is_none() || texts.error_message.is_none() => {
                let in_info = Self::in_object(info);
                Self {
                    error_code: texts.error_code.or(in_info.error_code),
                    error_message: texts.error_message.or(in_info.error_message),
                }
            }
            _ => texts,
        }
    }

    /// Whether there is neither.
    fn is_empty(&self) -> bool {
        self.error_code.is_none() && self.error_message.is_none()
    }

    /// Those in the text of a JSON object, whose other fields may be anything. A field that is no string is none; of several
    /// with one name the last one counts, as for most readers of JSON.
    fn in_object(text: &'a str) -> Self {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = ErrorTexts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                let mut texts = ErrorTexts::default();
                while let Some(Name(name)) = fields.next_key()? {
                    let text = match &*name {
                        "error_code" => &mut texts.error_code,
                        "error_message" => &mut texts.error_message,
                        _ => {
                            fields.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value: &RawValue = fields.next_value()?;
                    *text = serde_json::from_str(value.get()).ok().map(|Name(text)| text);
                }
                Ok(texts)
            }
        }
        serde_json::Deserializer::from_str(text).deserialize_map(Reader).unwrap_or_default()
    }
}

/// A string, borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::from_load_line;

    /// The JSON of a record without the fields that every record has.
    fn shown(fields: &str) -> String {
        let job_types = JobTypes::default();
        let line = format!(
            r#"{{"project_id":"p","id":"s","job_id":"j","job_type":"BUILD_IMAGE","family":"image","status":"FAILED"{fields}}}"#
        );
        let (project, sub_job) = from_load_line(line.as_bytes(), &job_types).unwrap();
        let info = SubJobInfo { project: &project, sub_job: &sub_job, job_types: &job_types };
        let text = serde_json::to_string(&info).unwrap();
        let always = r#"{"id":"s","job_id":"j","job_type":"BUILD_IMAGE","project_id":"p","status":"FAILED""#;
        text.strip_prefix(always).and_then(|rest| rest.strip_suffix('}')).unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    fn absent_details_are_omitted() {
        assert_eq!(shown(""), "");
        assert_eq!(shown(r#","version":7,"begin_time":null,"end_time":null,"error_code":null"#), "");
        let nulls = r#","error_message":null,"job_resource_info":null,"job_execute_info":null"#;
        assert_eq!(shown(nulls), "");
    }

    #[test]
    fn times_are_in_utc_without_trailing_zeros() {
        for (reported, text) in [
            ("2022-03-07T10:40:43.858Z", "2022-03-07T10:40:43.858Z"),
            ("2022-03-07T10:40:43.610+00:00", "2022-03-07T10:40:43.61Z"),
            ("2022-03-07T18:40:43.123456789000+08:00", "2022-03-07T10:40:43.123456789Z"),
            ("2022-03-07T10:40:43.000Z", "2022-03-07T10:40:43Z"),
            ("2016-12-31T23:59:60z", "2017-01-01T00:00:00Z"),
        ] {
            for field in ["begin_time", "end_time"] {
                assert_eq!(shown(&format!(r#","{field}":"{reported}""#)), format!(r#","{field}":"{text}""#));
            }
        }
    }

    #[test]
    fn an_object_is_returned_as_reported() {
        let object =
            r#"{ "z":1.50e+3, "a":12345678901234567890123456789, "é":"\u00e9\ud83d\ude00/\/", "n":null,"z":[{}] }"#;
        for field in ["job_execute_info", "job_resource_info"] {
            let field = format!(r#","{field}":{object}"#);
            assert_eq!(shown(&field), field);
        }
        let deep = format!(r#","job_resource_info":{{"a":{}{}}}"#, "[".repeat(4000), "]".repeat(4000));
        assert_eq!(shown(&deep), deep);
    }

    /// Each form of an error is derived from the other.
    #[test]
    fn an_error_is_shown_flat_and_as_an_object() {
        let (code, message) = (r#""error_code":"E""#, r#""error_message":"é \"no\"""#);
        for (reported, text) in [
            (format!(",{code}"), format!(r#",{code},"job_execute_info":{{{code}}}"#)),
            (format!(",{message}"), format!(r#",{message},"job_execute_info":{{{message}}}"#)),
            (format!(",{message},{code}"), format!(r#",{code},{message},"job_execute_info":{{{code},{message}}}"#)),
            (r#","error_code":"""#.into(), r#","error_code":"","job_execute_info":{"error_code":""}"#.into()),
            (
                format!(r#","job_execute_info":{{"x":[1],{message},{code}}}"#),
                format!(r#",{code},{message},"job_execute_info":{{"x":[1],{message},{code}}}"#),
            ),
            // A flat field overrides the field of the object, and each field is decided separately.
            (
                format!(r#",{code},"job_execute_info":{{"error_code":"other",{message}}}"#),
                format!(r#",{code},{message},"job_execute_info":{{"error_code":"other",{message}}}"#),
            ),
            (
                r#","job_execute_info":{"error_code":7,"error_message":null}"#.into(),
                r#","job_execute_info":{"error_code":7,"error_message":null}"#.into(),
            ),
            (
                r#","job_execute_info":{"error_\u0063ode":"\u0045","error_code_":"x","a":{"error_message":"x"}}"#.into(),
                r#","error_code":"E","job_execute_info":{"error_\u0063ode":"\u0045","error_code_":"x","a":{"error_message":"x"}}"#
                    .into(),
            ),
            (
                r#","job_execute_info":{"error_code":"first","error_code":"E","a":"\ud800"}"#.into(),
                r#","error_code":"E","job_execute_info":{"error_code":"first","error_code":"E","a":"\ud800"}"#.into(),
            ),
            (r#","job_execute_info":{}"#.into(), r#","job_execute_info":{}"#.into()),
        ] {
            assert_eq!(shown(&reported), text, "{reported}");
        }
    }
}
