//! The projects a caller may enter, by name: `GET /v3/projects?name=`.
//!
//! An SDK that is given no project id asks the identity endpoint for the project that has its region's name, and takes the
//! one in the answer. Source: the Identity API v3, of which this is the part that the SDKs read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use super::Api;
use crate::web::authorize::{Caller, RequestHeaders, authenticate, check_framing_headers};
use crate::web::body::Payload;
use crate::web::decode;
use crate::web::error::Error;

#[derive(Serialize)]
pub(super) struct Projects {
    projects: Vec<Project>,
    links: Links,
}

#[derive(Serialize)]
struct Project {
    id: String,
    name: String,
    enabled: bool,
}

/// There is one page, so only the link to itself.
#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: String,
    previous: Option<String>,
    next: Option<String>,
}

/// The caller's own projects that have names; with `name`, those of that name.
pub(super) async fn list_projects(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Projects>, Error> {
    let mut permit = api.limit.try_acquire(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let mut payload = Payload::ignored(body);
    let access = api.access.load();
    let headers = RequestHeaders::of(&parts.headers);
    let Caller { principal, .. } = authenticate(&access, &parts, &headers, &mut payload, &mut permit).await?;
    check_framing_headers(&parts, &headers)?;
    let wanted = name(parts.uri.query().unwrap_or_default())?;
    payload.ignore(&mut permit).await?;
    let named =
        access.named_projects(&principal).filter(|(_, name)| wanted.as_ref().is_none_or(|wanted| wanted == name));
    let projects =
        named.map(|(id, name)| Project { id: id.to_string(), name: name.to_owned(), enabled: true }).collect();
    let links = Links { own: parts.uri.to_string(), previous: None, next: None };
    Ok(Json(Projects { projects, links }))
}

/// The parameter `name`; one of another name is ignored.
fn name(query: &str) -> Result<Option<String>, Error> {
    let mut wanted = None;
    for (key, value) in decode::pairs(query) {
        if decode::query(key).as_deref() != Ok("name") {
            continue;
        }
        let value = decode::query(value).map_err(|error| Error::input("name", error.to_string()))?;
        if wanted.replace(value.into_owned()).is_some() {
            return Err(Error::input("name", "must be given only once"));
        }
    }
    Ok(wanted)
}
