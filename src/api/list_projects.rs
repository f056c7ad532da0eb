//! ListProjects: `GET /v3/projects?name=`, the named projects of the caller.
//!
//! An SDK that is given no project id asks the identity endpoint for the project that has its region's name, and takes the
//! one in the answer. Source: the Identity API v3, of which this is the part that the SDKs read.

use std::sync::Arc;

use axum::Json;
use serde::Serialize;

use crate::access::Principal;
use crate::web::call::Call;
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

/// Only `self` is set, because there is one page.
#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: String,
    previous: Option<String>,
    next: Option<String>,
}

/// Lists the caller's projects that have names; with `name`, only those with that name.
pub(super) async fn list_projects(call: Call<()>, principal: Arc<Principal>) -> Result<Json<Projects>, Error> {
    let (mut call, wanted) = call.with_input(|call| name(call.query()))?.in_no_project();
    call.ignore_body().await?;
    let named = call.access().named_projects(&principal);
    let projects = named
        .filter(|(_, name)| wanted.as_ref().is_none_or(|wanted| wanted == name))
        .map(|(id, name)| Project { id: id.to_string(), name: name.to_owned(), enabled: true })
        .collect();
    let links = Links { own: call.target(), previous: None, next: None };
    Ok(Json(Projects { projects, links }))
}

/// Parses the parameter `name`. Other parameters are ignored.
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
