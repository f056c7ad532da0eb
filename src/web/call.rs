//! A request on its way through the decisions that all operations share, as a chain of types: none can be left out.
//!
//! ```text
//! Request -> Call (503, 401, 403, 400 of the message and the project id) -> with_input (400) -> in_existing_project (404)
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::Guard;
use http::HeaderMap;
use http::request::Parts;

use super::authorize::{Caller, RequestHeaders, authenticate, check_framing_headers};
use super::body::Payload;
use super::concurrency::Permit;
use super::decode;
use super::error::Error;
use super::operation::path_segment;
use crate::access::{Access, Action};
use crate::domain::ProjectId;

/// A request of which nothing is known yet but that it may be worked on.
pub struct UnauthorizedRequest {
    /// The template of its path.
    pub template: &'static str,
    /// Its head.
    pub parts: Parts,
    /// Its body, read or not.
    pub payload: Payload,
    /// What it may be worked on by.
    pub permit: Permit,
    /// Who may call, as it is when the request has come.
    pub access: Guard<Arc<Access>>,
}

/// A request whose caller may do what it asks for, in the project `P` that its path names, or in none: `()`.
pub struct Call<P> {
    /// Who calls.
    pub caller: Caller,
    /// The project that the path names.
    pub project: P,
    /// Boxed, since it is handed on from step to step, and in every future on its way.
    request: Box<UnauthorizedRequest>,
}

/// A call whose own inputs are right.
pub struct ValidCall<P, T> {
    call: Call<P>,
    input: T,
}

impl UnauthorizedRequest {
    /// A call of whoever has a good credential, for an operation that needs no permission.
    ///
    /// # Errors
    ///
    /// 401, or 503 if the credential cannot be checked now; 400 for a message that two readers may take for two.
    pub async fn authenticate(mut self: Box<Self>) -> Result<Call<()>, Error> {
        let Self { access, parts, payload, permit, .. } = &mut *self;
        let headers = RequestHeaders::of(&parts.headers);
        let caller = authenticate(access, parts, &headers, payload, permit).await?;
        check_framing_headers(parts, &headers)?;
        Ok(Call { caller, project: (), request: self })
    }

    /// A call in the project that stands in the path as `{project_id}`, if the caller may do `action` there.
    ///
    /// # Errors
    ///
    /// Those of [`UnauthorizedRequest::authenticate`], 403 before 400, and 400 for a segment that is no project's id.
    pub async fn authorize(mut self: Box<Self>, action: Action) -> Result<Call<ProjectId>, Error> {
        let Self { access, parts, payload, permit, .. } = &mut *self;
        let headers = RequestHeaders::of(&parts.headers);
        let caller = authenticate(access, parts, &headers, payload, permit).await?;
        let framing = check_framing_headers(parts, &headers);
        let project = self.project();
        caller.principal.authorize(project.as_ref().ok(), action)?;
        framing?;
        Ok(Call { caller, project: project?, request: self })
    }

    fn project(&self) -> Result<ProjectId, Error> {
        let text = self.path_parameter("project_id")?;
        ProjectId::parse(&text).map_err(|error| Error::input("project_id", error.to_string()))
    }

    fn path_parameter(&self, name: &'static str) -> Result<Cow<'_, str>, Error> {
        let segment = path_segment(self.template, self.parts.uri.path(), name).unwrap_or_default();
        decode::segment(segment).map_err(|error| Error::input(name, error.to_string()))
    }
}

impl<P> Call<P> {
    /// The target's query, as it was sent.
    pub fn query(&self) -> &str {
        self.request.parts.uri.query().unwrap_or_default()
    }

    /// The target, as it was sent.
    pub fn target(&self) -> String {
        self.request.parts.uri.to_string()
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.request.parts.headers
    }

    /// Who may call, as it was when the request came.
    pub fn access(&self) -> &Access {
        &self.request.access
    }

    /// The segment of the path that stands where the template has `{name}`, decoded.
    ///
    /// # Errors
    ///
    /// 400 if it is not percent-encoded UTF-8.
    pub fn path_parameter(&self, name: &'static str) -> Result<Cow<'_, str>, Error> {
        self.request.path_parameter(name)
    }

    /// The call with what `parse` makes of its own inputs.
    ///
    /// # Errors
    ///
    /// What `parse` finds wrong.
    pub fn with_input<T>(self, parse: impl FnOnce(&Self) -> Result<T, Error>) -> Result<ValidCall<P, T>, Error> {
        let input = parse(&self)?;
        Ok(ValidCall { call: self, input })
    }

    /// Reads the body of an operation that has none, so that the connection can be used again.
    ///
    /// # Errors
    ///
    /// 503 if the body takes too long, or too many are waited for.
    pub async fn ignore_body(&mut self) -> Result<(), Error> {
        let UnauthorizedRequest { payload, permit, .. } = &mut *self.request;
        Ok(payload.ignore(permit).await?)
    }

    /// The body, for an operation that has one, and who has sent it.
    pub fn into_payload(self) -> (Caller, P, Payload) {
        (self.caller, self.project, self.request.payload)
    }
}

impl Call<ProjectId> {
    /// Whether the project exists. For an operation that reads its body before the last decision.
    ///
    /// # Errors
    ///
    /// 404 if the access file lists the projects that exist and this is not one.
    pub fn project_exists(&self) -> Result<(), Error> {
        if self.access().project_exists(&self.project) { Ok(()) } else { Err(Error::Project) }
    }
}

impl<T> ValidCall<ProjectId, T> {
    /// The call and its input, if its project exists: the last decision.
    ///
    /// # Errors
    ///
    /// 404, see [`Call::project_exists`].
    pub fn in_existing_project(self) -> Result<(Call<ProjectId>, T), Error> {
        self.call.project_exists()?;
        Ok((self.call, self.input))
    }
}

impl<T> ValidCall<(), T> {
    /// The call and its input, of an operation that is in no project.
    pub fn in_no_project(self) -> (Call<()>, T) {
        (self.call, self.input)
    }
}
