//! Parses and checks the access file.

mod chunks;
mod identity_section;
mod message;
mod parallel;
mod schema;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use self::chunks::Chunks;
use self::message::{line, quoted};
use self::schema::{File, Kind, NamedProject, Principals, RawAccessKey, RawPrincipal, RawToken, Text};
use super::policy::Permissions;
use super::secret::Secret;
use super::{Access, AccessKey, ActionSet, Principal, Projects, TokenDigest, TokenEntry};
use crate::bounded_read;
use crate::domain::{ProjectId, Timestamp};

/// The most bytes of a file that holds a secret.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Parses an access file. Relative paths in it start at `dir`. The error is the reason, with the line if it is known.
pub(super) fn parse(text: &str, dir: &Path) -> Result<Access, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let chunks = Chunks::split(text);
    let line_of_rest = |at: usize| line(text, chunks.position_in_text(at));
    let file: File<'_> = toml::from_str(&chunks.rest).map_err(|error| message::describe(&error, line_of_rest))?;
    // Each policy is evaluated once, not for each principal that names it.
    let policies: Policies =
        file.policies.iter().map(|(name, policy)| (name.as_str(), Permissions::from_policy(policy))).collect();
    let names = named_projects(&file.named_projects)?;
    let mut existing = file.projects.map(|list| projects(&list)).transpose()?;
    if !names.is_empty() {
        existing.get_or_insert_default().extend(names.iter().map(|(project, _)| project.clone()));
    }
    let access = Access { projects: existing, names, ..Access::default() };
    let mut builder = AccessBuilder { access, seen_names: HashSet::new(), policies: &policies, dir };
    file.principals.into_iter().try_for_each(|raw| builder.add(raw, &line_of_rest))?;
    let parse = |range: &Range<usize>| toml::from_str::<Principals<'_>>(&text[range.clone()]);
    parallel::parse_each(&chunks.principals, parse, |range, parsed| {
        let line = |at: usize| line(text, range.start + at);
        let chunk = parsed.map_err(|error| message::describe(&error, line))?;
        chunk.principals.into_iter().try_for_each(|raw| builder.add(raw, &line))
    })?;
    let mut access = Access { principals: builder.seen_names.len(), ..builder.access };
    access.identity =
        file.identity.map(|raw| identity_section::parse_identity(raw, line_of_rest, dir, &policies)).transpose()?;
    if access.tokens.is_empty() && access.keys.is_empty() && access.identity.is_none() {
        return Err(
            "it has no credentials: no principal has a token or an access key, and there is no [identity]".into()
        );
    }
    Ok(access)
}

/// Adds principals one by one and checks each against those before.
struct AccessBuilder<'a> {
    access: Access,
    /// The names of the principals so far.
    seen_names: HashSet<Box<str>>,
    policies: &'a Policies<'a>,
    dir: &'a Path,
}

impl AccessBuilder<'_> {
    /// Adds a principal with its credentials. `line` converts a byte offset to a line number, for errors.
    fn add(&mut self, raw: RawPrincipal<'_>, line: &dyn Fn(usize) -> usize) -> Result<(), String> {
        let about = |reason: String| format!("principal {}: {reason}", quoted(&raw.name));
        if !self.seen_names.insert(raw.name.as_str().into()) {
            return Err(about("the name is used twice".into()));
        }
        let principal = Arc::new(principal(&raw, self.policies).map_err(about)?);
        for token in &raw.tokens {
            add_token(&mut self.access, line, token, &principal).map_err(about)?;
        }
        for key in &raw.access_keys {
            add_access_key(&mut self.access, line, self.dir, key, &principal).map_err(about)?;
        }
        Ok(())
    }
}

/// The reason for a file that is not UTF-8.
pub(super) fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    format!("line {}: it is not UTF-8", good.iter().filter(|byte| **byte == b'\n').count() + 1)
}

/// The permissions of each policy, by its name.
type Policies<'a> = HashMap<&'a str, Permissions>;

fn principal(raw: &RawPrincipal<'_>, policies: &Policies<'_>) -> Result<Principal, String> {
    let permissions = match raw.kind {
        Kind::Account if raw.policies.is_empty() => ActionSet::ALL,
        Kind::Account => return Err("an account holds every permission; it can have no policies".into()),
        Kind::User => permissions_of(&raw.policies, policies)?.effective(),
    };
    let projects = match &raw.projects[..] {
        [Text(only)] if only == "*" => Projects::All,
        list => Projects::These(self::projects(list)?),
    };
    Ok(Principal { name: raw.name.clone(), projects, permissions })
}

/// The permissions of all policies with those names.
fn permissions_of(names: &[String], policies: &Policies<'_>) -> Result<Permissions, String> {
    names.iter().try_fold(Permissions::default(), |all, name| match policies.get(name.as_str()) {
        Some(granted) => Ok(all.union(*granted)),
        None => Err(format!("there is no policy {}", quoted(name))),
    })
}

fn named_projects(list: &[NamedProject]) -> Result<Vec<(ProjectId, String)>, String> {
    let mut seen_names = HashSet::new();
    list.iter()
        .map(|NamedProject { id, name }| {
            let project = ProjectId::parse(id).map_err(|error| format!("project {} {error}", quoted(id)))?;
            if name.is_empty() {
                Err(format!("project {} has an empty name", quoted(id)))
            } else if !seen_names.insert(id) {
                Err(format!("project {} is listed twice", quoted(id)))
            } else {
                Ok((project, name.clone()))
            }
        })
        .collect()
}

fn projects(list: &[Text<'_>]) -> Result<HashSet<ProjectId>, String> {
    let mut projects = HashSet::with_capacity(list.len());
    for Text(text) in list {
        if text == "*" {
            return Err("\"*\" must be the only item, and only in the projects of a principal".into());
        }
        projects.insert(ProjectId::parse(text).map_err(|error| format!("project {} {error}", quoted(text)))?);
    }
    Ok(projects)
}

fn add_token(
    access: &mut Access,
    line: &dyn Fn(usize) -> usize,
    raw: &RawToken,
    principal: &Arc<Principal>,
) -> Result<(), String> {
    let about = |reason: &str| format!("line {}: {reason}", line(raw.sha256.span().start));
    let digest =
        TokenDigest::from_hex(raw.sha256.get_ref()).ok_or_else(|| about("sha256 must be 64 hexadecimal digits"))?;
    let moment = |expires_at: toml::value::Datetime| -> Result<Timestamp, String> {
        let text = expires_at.to_string().replace(' ', "T");
        text.parse().map_err(|_| about("expires_at must be a date and time with an offset"))
    };
    let expires_at = raw.expires_at.map(moment).transpose()?;
    match access.tokens.insert(digest, TokenEntry { expires_at, principal: principal.clone() }) {
        None => Ok(()),
        Some(_) => Err(about("the token is used twice")),
    }
}

fn add_access_key(
    access: &mut Access,
    line: &dyn Fn(usize) -> usize,
    dir: &Path,
    raw: &RawAccessKey,
    principal: &Arc<Principal>,
) -> Result<(), String> {
    let id = raw.id.get_ref();
    let place = || format!("line {}: access key", line(raw.id.span().start));
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        return Err(format!("{}: the id must be visible ASCII characters without a comma", place()));
    }
    // A secret may have been pasted in place of the name of its variable or file, so no name is repeated.
    let about = |reason: &str| format!("{} {}: {reason}", place(), quoted(id));
    let secret = match (&raw.secret, &raw.secret_env, &raw.secret_file) {
        (Some(secret), None, None) => secret.clone(),
        (None, Some(name), None) => {
            access.secret_variables.insert(name.as_str().into());
            read_variable(name).map_err(|reason| about(&format!("secret_env: {reason}")))?
        }
        (None, None, Some(file)) => {
            let secret = bounded_read::read_file(&dir.join(file), MAX_SECRET_BYTES);
            let secret = secret.map_err(|reason| about(&format!("secret_file: {reason}")))?;
            let secret = String::from_utf8(secret).map_err(|_| about("secret_file: it is not UTF-8"))?;
            secret.trim_end_matches(['\r', '\n']).to_owned()
        }
        _ => return Err(about("give one of secret, secret_env and secret_file")),
    };
    let secret = Secret::new(&secret).ok_or_else(|| about("the secret is empty"))?;
    match access.keys.insert(id.as_str().into(), AccessKey { secret, principal: principal.clone() }) {
        None => Ok(()),
        Some(_) => Err(about("the id is used twice")),
    }
}

fn read_variable(name: &str) -> Result<String, &'static str> {
    // `std::env::var` panics at such names.
    let is_valid_name = !name.is_empty() && !name.contains(['=', '\0']);
    match is_valid_name.then(|| std::env::var(name)) {
        Some(Ok(value)) => Ok(value),
        Some(Err(std::env::VarError::NotUnicode(_))) => Err("the environment variable is not UTF-8"),
        Some(Err(std::env::VarError::NotPresent)) | None => Err("the environment variable is not set"),
    }
}

#[cfg(test)]
mod tests;
