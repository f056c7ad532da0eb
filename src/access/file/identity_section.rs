//! The `[identity]` table of the access file: the identity service, and what its roles allow.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use hashbrown::HashMap;
use toml::Spanned;

use super::message::quoted;
use super::place::Place;
use super::schema::{AccountWord, RawIdentity, RawRole};
use super::{Policies, no_policy, permissions_of};
use crate::access::identity::{Roles, Settings};
use crate::access::policy::Permissions;
use crate::bounded_read;

/// The most bytes of a `ca_file`.
const MAX_CA_BYTES: usize = 1024 * 1024;

/// Checks the table and returns its settings and roles.
pub(super) fn parse_identity(
    raw: RawIdentity,
    place: &Place<'_>,
    dir: &Path,
    policies: &Policies<'_>,
) -> Result<(Settings, Roles), String> {
    let about = |at: Range<usize>, reason: String| format!("identity: line {}: {reason}", place.line(at.start));
    let time = |name: &str, text: &Option<Spanned<String>>, default: u64| match text {
        None => Ok(Duration::from_secs(default)),
        Some(text) => {
            let time =
                text.get_ref().parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
            let time = time.filter(|time| *time <= Duration::from_secs(24 * 60 * 60));
            time.ok_or_else(|| about(text.span(), format!("{name} must be a time as \"60s\", at most 24h")))
        }
    };
    let ca = raw.ca_file.as_ref().map(|file| {
        bounded_read::read_file(&dir.join(file.get_ref()), MAX_CA_BYTES)
            .map_err(|cause| about(file.span(), format!("ca_file: {cause}")))
    });
    let settings = Settings {
        url: raw.url.get_ref().trim_end_matches('/').to_owned(),
        cache: time("cache", &raw.cache, 60)?,
        timeout: time("timeout", &raw.timeout, 3)?,
        ca: ca.transpose()?,
    };
    // The reason begins with the key.
    settings.check().map_err(|reason| {
        let others =
            [("timeout", raw.timeout.as_ref().map(Spanned::span)), ("ca_file", raw.ca_file.map(|ca| ca.span()))];
        let other = others.into_iter().find(|(key, _)| reason.starts_with(key)).and_then(|(_, span)| span);
        about(other.unwrap_or_else(|| raw.url.span()), reason)
    })?;
    let grant = |(name, role): (String, Spanned<RawRole>)| {
        let grant = match role.get_ref() {
            RawRole::Word(AccountWord::Account) => Permissions::ACCOUNT,
            RawRole::Policies(list) => permissions_of(list, policies)
                .map_err(|unknown| about(role.span(), format!("role {}: {}", quoted(&name), no_policy(unknown))))?,
        };
        Ok((name, grant))
    };
    let roles: HashMap<_, _> = raw.roles.into_iter().map(grant).collect::<Result<_, String>>()?;
    Ok((settings, Roles(roles)))
}
