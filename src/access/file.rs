//! The access file: its form, and the checks that make it an [`Access`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::policy::{self, Policy};
use super::{Access, ActionSet, Principal, Projects, TokenDigest, TokenEntry};
use crate::domain::{ProjectId, Timestamp};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    projects: Option<Vec<String>>,
    #[serde(rename = "principal", default)]
    principals: Vec<RawPrincipal>,
    #[serde(rename = "policy", default)]
    policies: BTreeMap<String, Policy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrincipal {
    name: String,
    kind: Kind,
    projects: Vec<String>,
    #[serde(default)]
    tokens: Vec<RawToken>,
    #[serde(default)]
    policies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Account,
    User,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ sha256 = \"…\" }")]
struct RawToken {
    sha256: toml::Spanned<String>,
    expires_at: Option<toml::value::Datetime>,
}

/// The access that a file's text describes, or the reason why it describes none.
pub(super) fn parse(text: &str) -> Result<Access, String> {
    // The library's own message quotes the line at fault, which may hold what does not belong in a log.
    let file: File = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => format!("line {}: {}", line(text, span.start), without_value(error.message())),
        None => without_value(error.message()),
    })?;
    let mut access = Access { projects: file.projects.map(|list| projects(&list)).transpose()?, ..Access::default() };
    let mut names = HashSet::new();
    for raw in file.principals {
        let name = raw.name.clone();
        let about = |reason: String| format!("principal {name:?}: {reason}");
        if !names.insert(raw.name.clone()) {
            return Err(about("the name stands twice".into()));
        }
        let tokens: Vec<_> =
            raw.tokens.iter().map(|token| self::token(text, token)).collect::<Result<_, _>>().map_err(about)?;
        let principal = Arc::new(principal(raw, &file.policies).map_err(about)?);
        for (line, digest, expires_at) in tokens {
            let known = access.tokens.entry(digest.prefix()).or_default();
            if known.iter().any(|entry| entry.digest == digest) {
                return Err(about(format!("line {line}: the token stands twice")));
            }
            known.push(TokenEntry { digest, expires_at, principal: principal.clone() });
        }
    }
    Ok(access)
}

fn principal(raw: RawPrincipal, policies: &BTreeMap<String, Policy>) -> Result<Principal, String> {
    let permissions = match raw.kind {
        Kind::Account if raw.policies.is_empty() => ActionSet::ALL,
        Kind::Account => return Err("an account holds every permission; it can have no policies".into()),
        Kind::User => {
            let named = |name| policies.get(name).ok_or_else(|| format!("there is no policy {name:?}"));
            let own: Vec<_> = raw.policies.iter().map(named).collect::<Result<_, _>>()?;
            policy::permissions(own.into_iter())
        }
    };
    let projects = if raw.projects == ["*"] { Projects::All } else { Projects::These(self::projects(&raw.projects)?) };
    Ok(Principal { name: raw.name, projects, permissions })
}

fn projects(list: &[String]) -> Result<HashSet<ProjectId>, String> {
    let project = |text: &String| match text.as_str() {
        "*" => Err("\"*\" can only stand alone, in a principal's projects".to_owned()),
        text => ProjectId::parse(text).map_err(|error| format!("project {text:?} {error}")),
    };
    list.iter().map(project).collect()
}

/// A token's line in the file, its digest, and when it expires.
fn token(text: &str, raw: &RawToken) -> Result<(usize, TokenDigest, Option<Timestamp>), String> {
    let line = line(text, raw.sha256.span().start);
    let digest = TokenDigest::from_hex(raw.sha256.get_ref())
        .ok_or_else(|| format!("line {line}: sha256 must be 64 hexadecimal digits"))?;
    let moment = |expires_at: toml::value::Datetime| {
        let text = expires_at.to_string().replace(' ', "T");
        text.parse().map_err(|_| format!("line {line}: expires_at must be a date and time with an offset"))
    };
    Ok((line, digest, raw.expires_at.map(moment).transpose()?))
}

/// A message without the value that it says is of the wrong type: that may be a token where its hash belongs.
fn without_value(message: &str) -> String {
    let is_of_value = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match (message.find(['`', '"']), message.rfind(", expected ")) {
        (Some(from), Some(to)) if is_of_value && from < to => {
            format!("{}{}", message[..from].trim_end(), &message[to..])
        }
        _ => message.to_owned(),
    }
}

/// The number of the line that holds the byte at `at`.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
