//! The access file: its form, and the checks that make it an [`Access`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use serde::Deserialize;

use super::identity::{self, Roles};
use super::policy::{Policy, Verdict};
use super::secret::Secret;
use super::{Access, AccessKey, ActionSet, Principal, Projects, TokenDigest, TokenEntry};
use crate::domain::{ProjectId, Timestamp};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    projects: Option<Vec<String>>,
    #[serde(rename = "project", default)]
    named_projects: Vec<NamedProject>,
    #[serde(rename = "principal", default)]
    principals: Vec<RawPrincipal>,
    #[serde(rename = "policy", default)]
    policies: BTreeMap<String, Policy>,
    identity: Option<RawIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedProject {
    id: String,
    name: String,
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
    access_keys: Vec<RawAccessKey>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ id = \"…\", secret = \"…\" }")]
struct RawAccessKey {
    id: toml::Spanned<String>,
    secret: Option<String>,
    secret_env: Option<String>,
    secret_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIdentity {
    url: String,
    cache: Option<String>,
    timeout: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    roles: BTreeMap<String, RawRole>,
}

/// What a role maps to: policies, or the word `account`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a role maps to a list of policies or to \"account\"")]
enum RawRole {
    Policies(Vec<String>),
    Word(AccountWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AccountWord {
    Account,
}

/// The access that a file's text describes, or the reason why it describes none. `dir` is where the files that it names
/// are looked for.
pub(super) fn parse(text: &str, dir: &Path) -> Result<Access, String> {
    // The library's own message quotes the line at fault, which may hold what does not belong in a log.
    let file: File = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => format!("line {}: {}", line(text, span.start), without_value(error.message())),
        None => without_value(error.message()),
    })?;
    let names = named_projects(&file.named_projects)?;
    let mut existing = file.projects.map(|list| projects(&list)).transpose()?;
    if !names.is_empty() {
        existing.get_or_insert_default().extend(names.iter().map(|(project, _)| project.clone()));
    }
    let mut access = Access { projects: existing, names, ..Access::default() };
    let mut taken = HashSet::new();
    for raw in &file.principals {
        let about = |reason: String| format!("principal {:?}: {reason}", raw.name);
        if !taken.insert(&raw.name) {
            return Err(about("the name stands twice".into()));
        }
        let principal = Arc::new(principal(raw, &file.policies).map_err(about)?);
        for token in &raw.tokens {
            add_token(&mut access, text, token, &principal).map_err(about)?;
        }
        for key in &raw.access_keys {
            add_access_key(&mut access, text, dir, key, &principal).map_err(about)?;
        }
    }
    access.identity = file.identity.map(|raw| identity(raw, dir, &file.policies)).transpose()?;
    Ok(access)
}

fn principal(raw: &RawPrincipal, policies: &BTreeMap<String, Policy>) -> Result<Principal, String> {
    let permissions = match raw.kind {
        Kind::Account if raw.policies.is_empty() => ActionSet::ALL,
        Kind::Account => return Err("an account holds every permission; it can have no policies".into()),
        Kind::User => Verdict::of(named(&raw.policies, policies)?.into_iter()).permissions(),
    };
    let projects = if raw.projects == ["*"] { Projects::All } else { Projects::These(self::projects(&raw.projects)?) };
    Ok(Principal { name: raw.name.clone(), projects, permissions })
}

fn named<'a>(names: &[String], policies: &'a BTreeMap<String, Policy>) -> Result<Vec<&'a Policy>, String> {
    names.iter().map(|name| policies.get(name).ok_or_else(|| format!("there is no policy {name:?}"))).collect()
}

fn named_projects(list: &[NamedProject]) -> Result<Vec<(ProjectId, String)>, String> {
    let mut taken = HashSet::new();
    list.iter()
        .map(|NamedProject { id, name }| {
            let project = ProjectId::parse(id).map_err(|error| format!("project {id:?} {error}"))?;
            if name.is_empty() {
                Err(format!("project {id:?} has an empty name"))
            } else if !taken.insert(id) {
                Err(format!("project {id:?} stands twice"))
            } else {
                Ok((project, name.clone()))
            }
        })
        .collect()
}

fn projects(list: &[String]) -> Result<HashSet<ProjectId>, String> {
    let project = |text: &String| match text.as_str() {
        "*" => Err("\"*\" can only stand alone, in a principal's projects".to_owned()),
        text => ProjectId::parse(text).map_err(|error| format!("project {text:?} {error}")),
    };
    list.iter().map(project).collect()
}

fn add_token(access: &mut Access, text: &str, raw: &RawToken, principal: &Arc<Principal>) -> Result<(), String> {
    let line = line(text, raw.sha256.span().start);
    let digest = TokenDigest::from_hex(raw.sha256.get_ref())
        .ok_or_else(|| format!("line {line}: sha256 must be 64 hexadecimal digits"))?;
    let moment = |expires_at: toml::value::Datetime| -> Result<Timestamp, String> {
        let text = expires_at.to_string().replace(' ', "T");
        text.parse().map_err(|_| format!("line {line}: expires_at must be a date and time with an offset"))
    };
    let expires_at = raw.expires_at.map(moment).transpose()?;
    let known = access.tokens.entry(digest.prefix()).or_default();
    if known.iter().any(|entry| entry.digest == digest) {
        return Err(format!("line {line}: the token stands twice"));
    }
    known.push(TokenEntry { digest, expires_at, principal: principal.clone() });
    Ok(())
}

fn add_access_key(
    access: &mut Access,
    text: &str,
    dir: &Path,
    raw: &RawAccessKey,
    principal: &Arc<Principal>,
) -> Result<(), String> {
    let id = raw.id.get_ref();
    let about = |reason: &str| format!("line {}: access key {id:?}: {reason}", line(text, raw.id.span().start));
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        return Err(about("the id must be visible ASCII characters without a comma"));
    }
    let secret = match (&raw.secret, &raw.secret_env, &raw.secret_file) {
        (Some(secret), None, None) => secret.clone(),
        (None, Some(name), None) => {
            std::env::var(name).map_err(|_| about(&format!("the environment has no {name}")))?
        }
        (None, None, Some(file)) => {
            let secret = std::fs::read_to_string(dir.join(file));
            let secret = secret.map_err(|cause| about(&format!("{}: {cause}", file.display())))?;
            secret.trim_end_matches(['\r', '\n']).to_owned()
        }
        _ => return Err(about("give one of secret, secret_env and secret_file")),
    };
    let secret = Secret::new(&secret).ok_or_else(|| about("the secret is empty"))?;
    match access.keys.insert(id.as_str().into(), AccessKey { secret, principal: principal.clone() }) {
        None => Ok(()),
        Some(_) => Err(about("it stands twice")),
    }
}

fn identity(
    raw: RawIdentity,
    dir: &Path,
    policies: &BTreeMap<String, Policy>,
) -> Result<(identity::Settings, Roles), String> {
    let about = |reason: String| format!("identity: {reason}");
    let time = |name: &str, text: Option<String>, default: u64| match text {
        None => Ok(Duration::from_secs(default)),
        Some(text) => {
            let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
            let time = time.filter(|time| *time <= Duration::from_secs(24 * 60 * 60));
            time.ok_or_else(|| about(format!("{name} must be a time as \"60s\", at most 24h")))
        }
    };
    let ca = raw.ca_file.map(|file| {
        std::fs::read(dir.join(&file)).map_err(|cause| about(format!("ca_file: {}: {cause}", file.display())))
    });
    let settings = identity::Settings {
        url: raw.url.trim_end_matches('/').to_owned(),
        cache: time("cache", raw.cache, 60)?,
        timeout: time("timeout", raw.timeout, 3)?,
        ca: ca.transpose()?,
    };
    settings.check().map_err(about)?;
    let grant = |(name, role): (String, RawRole)| {
        let grant = match role {
            RawRole::Word(AccountWord::Account) => Verdict::ACCOUNT,
            RawRole::Policies(list) => {
                let own = named(&list, policies).map_err(|reason| about(format!("role {name:?}: {reason}")))?;
                Verdict::of(own.into_iter())
            }
        };
        Ok((name, grant))
    };
    let roles: HashMap<_, _> = raw.roles.into_iter().map(grant).collect::<Result<_, String>>()?;
    Ok((settings, Roles(roles)))
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
