//! The `[identity]` table of the access file: the identity service, and what its roles allow.

use std::path::Path;
use std::time::Duration;

use hashbrown::HashMap;

use super::message::quoted;
use super::schema::{AccountWord, RawIdentity, RawRole};
use super::{Policies, permissions_of};
use crate::access::identity::{Roles, Settings};
use crate::access::policy::Permissions;
use crate::bounded_read;

/// The most bytes of a `ca_file`.
const MAX_CA_BYTES: usize = 1024 * 1024;

/// Checks the table and returns its settings and roles.
pub(super) fn parse_identity(
    raw: RawIdentity,
    line: impl Fn(usize) -> usize,
    dir: &Path,
    policies: &Policies<'_>,
) -> Result<(Settings, Roles), String> {
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
        let at = line(file.span().start);
        bounded_read::read_file(&dir.join(file.get_ref()), MAX_CA_BYTES)
            .map_err(|cause| about(format!("line {at}: ca_file: {cause}")))
    });
    let settings = Settings {
        url: raw.url.get_ref().trim_end_matches('/').to_owned(),
        cache: time("cache", raw.cache, 60)?,
        timeout: time("timeout", raw.timeout, 3)?,
        ca: ca.transpose()?,
    };
    settings.check().map_err(about)?;
    let grant = |(name, role): (String, RawRole)| {
        let grant = match role {
            RawRole::Word(AccountWord::Account) => Permissions::ACCOUNT,
            RawRole::Policies(list) => {
                permissions_of(&list, policies).map_err(|reason| about(format!("role {}: {reason}", quoted(&name))))?
            }
        };
        Ok((name, grant))
    };
    let roles: HashMap<_, _> = raw.roles.into_iter().map(grant).collect::<Result<_, String>>()?;
    Ok((settings, Roles(roles)))
}
