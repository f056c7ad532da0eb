//! The tables and keys of the access file, as serde reads them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::access::policy::Policy;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File<'a> {
    #[serde(borrow)]
    pub(super) projects: Option<Spanned<Vec<Text<'a>>>>,
    #[serde(rename = "project", default)]
    pub(super) named_projects: Vec<NamedProject>,
    #[serde(rename = "principal", default, borrow)]
    pub(super) principals: Vec<RawPrincipal<'a>>,
    #[serde(rename = "policy", default)]
    pub(super) policies: BTreeMap<String, Policy>,
    pub(super) identity: Option<RawIdentity>,
}

/// A chunk of the file that has only principals.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Principals<'a> {
    #[serde(rename = "principal", borrow)]
    pub(super) principals: Vec<RawPrincipal<'a>>,
}

/// A string, which borrows from the file unless it has escapes: a file may list a million projects.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedProject {
    pub(super) id: Spanned<String>,
    pub(super) name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrincipal<'a> {
    pub(super) name: Spanned<String>,
    pub(super) kind: Kind,
    #[serde(borrow)]
    pub(super) projects: Spanned<Vec<Text<'a>>>,
    #[serde(default)]
    pub(super) tokens: Vec<RawToken>,
    #[serde(default)]
    pub(super) access_keys: Vec<RawAccessKey>,
    pub(super) policies: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Account,
    User,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ sha256 = \"…\" }")]
pub(super) struct RawToken {
    pub(super) sha256: Spanned<String>,
    pub(super) expires_at: Option<toml::value::Datetime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ id = \"…\", secret = \"…\" }")]
pub(super) struct RawAccessKey {
    pub(super) id: Spanned<String>,
    pub(super) secret: Option<String>,
    pub(super) secret_env: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIdentity {
    pub(super) url: Spanned<String>,
    pub(super) cache: Option<Spanned<String>>,
    pub(super) timeout: Option<Spanned<String>>,
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) roles: BTreeMap<String, Spanned<RawRole>>,
}

/// What a role maps to: policies, or the word `account`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a role maps to a list of policies or to \"account\"")]
pub(super) enum RawRole {
    Policies(Vec<String>),
    Word(AccountWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AccountWord {
    Account,
}
