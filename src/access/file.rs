//! Parses and checks the access file.

mod chunks;
mod identity_section;
mod message;
mod parallel;
mod place;
mod schema;

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use toml::Spanned;

use self::chunks::Chunks;
use self::message::quoted;
use self::place::Place;
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
    // The parser would skip another one.
    if text.starts_with('\u{feff}') {
        return Err("line 1: it begins with two byte order marks".into());
    }
    let chunks = Chunks::split(text);
    let rest = Place { text, position: &|at| chunks.position_in_text(at) };
    let file: File<'_> = toml::from_str(&chunks.rest).map_err(|error| message::describe(&error, &rest))?;
    // Each policy is evaluated once, not for each principal that names it.
    let policies: Policies =
        file.policies.iter().map(|(name, policy)| (name.as_str(), Permissions::from_policy(policy))).collect();
    let names = named_projects(&file.named_projects, &rest)?;
    let mut existing = file.projects.map(|list| projects(&list, &rest)).transpose()?;
    if !names.is_empty() {
        existing.get_or_insert_default().extend(names.iter().map(|(project, _)| project.clone()));
    }
    let access = Access { projects: existing, names, ..Access::default() };
    let mut builder = AccessBuilder { access, seen_names: HashSet::new(), policies: &policies, dir };
    file.principals.into_iter().try_for_each(|raw| builder.add(raw, &rest))?;
    let parse = |range: &Range<usize>| toml::from_str::<Principals<'_>>(&text[range.clone()]);
    parallel::parse_each(&chunks.principals, parse, |range, parsed| {
        let place = Place { text, position: &|at| range.start + at };
        let chunk = parsed.map_err(|error| message::describe(&error, &place))?;
        chunk.principals.into_iter().try_for_each(|raw| builder.add(raw, &place))
    })?;
    let mut access = Access { principals: builder.seen_names.len(), ..builder.access };
    access.identity =
        file.identity.map(|raw| identity_section::parse_identity(raw, &rest, dir, &policies)).transpose()?;
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
    /// Adds a principal with its credentials. `place` is that of the principal, for errors.
    fn add(&mut self, raw: RawPrincipal<'_>, place: &Place<'_>) -> Result<(), String> {
        let name = raw.name.get_ref();
        let about = |reason: String| format!("principal {}: {reason}", quoted(name));
        if !self.seen_names.insert(name.as_str().into()) {
            return Err(about(format!("line {}: the name is used twice", place.line(raw.name.span().start))));
        }
        let principal = Arc::new(principal(&raw, self.policies, place).map_err(about)?);
        for token in &raw.tokens {
            add_token(&mut self.access, place, token, &principal).map_err(about)?;
        }
        for key in &raw.access_keys {
            add_access_key(&mut self.access, place, self.dir, key, &principal).map_err(about)?;
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

fn principal(raw: &RawPrincipal<'_>, policies: &Policies<'_>, place: &Place<'_>) -> Result<Principal, String> {
    let permissions = match (&raw.kind, &raw.policies) {
        (Kind::Account, None) => ActionSet::ALL,
        (Kind::Account, Some(list)) => {
            let line = place.line(list.span().start);
            return Err(format!(
                "line {line}: policies: an account holds every permission; it can have no policies, not even an empty list"
            ));
        }
        (Kind::User, None) => ActionSet::default(),
        (Kind::User, Some(list)) => {
            let granted = permissions_of(list.get_ref(), policies).map_err(|unknown| {
                let line = place.line_of_item(list.span(), unknown);
                format!("line {line}: policies: {}", no_policy(unknown))
            });
            granted?.effective()
        }
    };
    let projects = match &raw.projects.get_ref()[..] {
        [Text(only)] if only == "*" => Projects::All,
        _ => Projects::These(self::projects(&raw.projects, place)?),
    };
    Ok(Principal { name: raw.name.get_ref().clone(), projects, permissions })
}

/// The permissions of all policies with those names, or the first name of none.
fn permissions_of<'n>(names: &'n [String], policies: &Policies<'_>) -> Result<Permissions, &'n str> {
    names.iter().try_fold(Permissions::default(), |all, name| match policies.get(name.as_str()) {
        Some(granted) => Ok(all.union(*granted)),
        None => Err(name.as_str()),
    })
}

fn no_policy(name: &str) -> String {
    format!("there is no policy {}", quoted(name))
}

fn named_projects(list: &[NamedProject], place: &Place<'_>) -> Result<Vec<(ProjectId, String)>, String> {
    let mut seen_names = HashSet::new();
    list.iter()
        .map(|NamedProject { id: id_there, name }| {
            let (id, line) = (id_there.get_ref(), |at: &Spanned<String>| place.line(at.span().start));
            let project = ProjectId::parse(id)
                .map_err(|error| format!("line {}: id: project {} {error}", line(id_there), quoted(id)))?;
            if name.get_ref().is_empty() {
                Err(format!("line {}: name: project {} has an empty name", line(name), quoted(id)))
            } else if !seen_names.insert(id) {
                Err(format!("line {}: id: project {} is listed twice", line(id_there), quoted(id)))
            } else {
                Ok((project, name.get_ref().clone()))
            }
        })
        .collect()
}

fn projects(list: &Spanned<Vec<Text<'_>>>, place: &Place<'_>) -> Result<HashSet<ProjectId>, String> {
    let mut projects = HashSet::with_capacity(list.get_ref().len());
    let about = |text: &str, reason: &dyn Display| {
        format!("line {}: projects: {reason}", place.line_of_item(list.span(), text))
    };
    for Text(text) in list.get_ref() {
        if text == "*" {
            return Err(about(text, &"\"*\" must be the only item, and only in the projects of a principal"));
        }
        let project = ProjectId::parse(text);
        projects.insert(project.map_err(|error| about(text, &format_args!("project {} {error}", quoted(text))))?);
    }
    Ok(projects)
}

fn add_token(access: &mut Access, place: &Place<'_>, raw: &RawToken, principal: &Arc<Principal>) -> Result<(), String> {
    let about = |reason: &str| format!("line {}: {reason}", place.line(raw.sha256.span().start));
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
    place: &Place<'_>,
    dir: &Path,
    raw: &RawAccessKey,
    principal: &Arc<Principal>,
) -> Result<(), String> {
    let id = raw.id.get_ref();
    let start = || format!("line {}: access key", place.line(raw.id.span().start));
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        return Err(format!("{}: the id must be visible ASCII characters without a comma", start()));
    }
    // A secret may have been pasted in place of the name of its variable or file, so no name is repeated.
    let about = |reason: &str| format!("{} {}: {reason}", start(), quoted(id));
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
