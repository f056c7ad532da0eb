//! The decisions that all operations share, as a chain of types, so that a handler cannot omit one.
//!
//! ```text
//! UnauthorizedRequest -> authorize -> Call -> with_input -> ValidCall -> in_existing_project
//! 503                    401, 403, 400        400                        404
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::Guard;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};

use super::answered::CallerSlot;
use super::authorize::{Caller, RequestHeaders, authenticate, check_framing_headers};
use super::body::Payload;
use super::concurrency::Permit;
use super::decode;
use super::error::Error;
use super::operation::path_segment;
use crate::access::{Access, Action, Principal, SignatureId};
use crate::domain::ProjectId;

/// The most headers that a map has place for which a connection keeps. A larger one is freed with its request.
const MAX_REUSED_HEADERS: usize = 24;

/// A request that has a permit and has not been authenticated.
pub struct UnauthorizedRequest {
    /// The path template of its operation.
    pub template: &'static str,
    /// The request's head.
    pub parts: Parts,
    /// The request's body, read or unread.
    pub payload: Payload,
    /// The request's permit.
    pub permit: Permit,
    /// The access configuration when the request arrived.
    pub access: Guard<Arc<Access>>,
}

/// A request whose caller is authorized. `P` is the project that its path names, or `()`.
pub struct Call<P> {
    /// The project in the path.
    pub project: P,
    /// Boxed, so that the steps of the chain move a pointer only.
    request: Box<UnauthorizedRequest>,
}

/// A call whose own inputs are valid.
pub struct ValidCall<P, T> {
    call: Call<P>,
    input: T,
}

/// Tells the access log and the spans, if there are any, who calls.
fn record_caller(parts: &Parts, caller: &Caller<'_>, project: Option<&ProjectId>) {
    if let Some(slot) = parts.extensions.get::<CallerSlot>() {
        slot.set(&caller.principal, project);
    }
}

impl UnauthorizedRequest {
    /// Authenticates the caller, for an operation that needs no permission.
    ///
    /// # Errors
    ///
    /// 401, or 503 if the credential cannot be checked now; 400 for wrong framing headers.
    pub async fn authenticate(mut self: Box<Self>) -> Result<(Call<()>, Arc<Principal>), Error> {
        let Self { access, parts, payload, permit, .. } = &mut *self;
        let headers = RequestHeaders::of(&parts.headers);
        let caller = authenticate(access, parts, &headers, payload, permit).await?;
        record_caller(parts, &caller, None);
        check_framing_headers(parts, &headers)?;
        let principal = caller.principal.into_owned();
        Ok((Call { project: (), request: self }, principal))
    }

    /// Authenticates the caller and checks its permission for `action` in the project of the path's `{project_id}`.
    ///
    /// # Errors
    ///
    /// Those of [`UnauthorizedRequest::authenticate`]; 403; 400 for an invalid project id. 403 comes before 400.
    pub async fn authorize(mut self: Box<Self>, action: Action) -> Result<Call<ProjectId>, Error> {
        let (project, _) = self.decide(action).await?;
        Ok(Call { project, request: self })
    }

    /// The same, for an operation that needs to know who calls, and by which signature.
    ///
    /// # Errors
    ///
    /// Those of [`UnauthorizedRequest::authorize`].
    pub async fn authorize_caller(
        mut self: Box<Self>,
        action: Action,
    ) -> Result<(Call<ProjectId>, Arc<Principal>, Option<SignatureId>), Error> {
        let (project, Caller { principal, signature }) = self.decide(action).await?;
        let principal = principal.into_owned();
        Ok((Call { project, request: self }, principal, signature))
    }

    async fn decide(&mut self, action: Action) -> Result<(ProjectId, Caller<'_>), Error> {
        let Self { template, access, parts, payload, permit } = self;
        let headers = RequestHeaders::of(&parts.headers);
        let caller = authenticate(access, parts, &headers, payload, permit).await?;
        let framing = check_framing_headers(parts, &headers);
        let project = path_parameter(template, &parts.uri, "project_id")
            .and_then(|text| ProjectId::parse(&text).map_err(|error| Error::input("project_id", error.to_string())));
        record_caller(parts, &caller, project.as_ref().ok());
        caller.principal.authorize(project.as_ref().ok(), action)?;
        framing?;
        Ok((project?, caller))
    }
}

/// The path segment at the template's `{name}`, decoded.
fn path_parameter<'u>(template: &str, uri: &'u Uri, name: &'static str) -> Result<Cow<'u, str>, Error> {
    let segment = path_segment(template, uri.path(), name).unwrap_or_default();
    decode::segment(segment).map_err(|error| Error::input(name, error.to_string()))
}

impl<P> Call<P> {
    /// The query of the request target, undecoded.
    pub fn query(&self) -> &str {
        self.request.parts.uri.query().unwrap_or_default()
    }

    /// The request target, undecoded.
    pub fn target(&self) -> String {
        self.request.parts.uri.to_string()
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.request.parts.headers
    }

    /// The access configuration when the request arrived.
    pub fn access(&self) -> &Access {
        &self.request.access
    }

    /// The path segment at the template's `{name}`, decoded.
    ///
    /// # Errors
    ///
    /// 400 if it is not percent-encoded UTF-8.
    pub fn path_parameter(&self, name: &'static str) -> Result<Cow<'_, str>, Error> {
        path_parameter(self.request.template, self.uri(), name)
    }

    /// Parses the operation's own inputs.
    ///
    /// # Errors
    ///
    /// Those of `parse`.
    pub fn with_input<T>(self, parse: impl FnOnce(&Self) -> Result<T, Error>) -> Result<ValidCall<P, T>, Error> {
        let input = parse(&self)?;
        Ok(ValidCall { call: self, input })
    }

    /// Reads and discards the body, for an operation that expects none, so that the connection can be reused.
    ///
    /// # Errors
    ///
    /// 503 if the body takes too long, or too many requests wait for theirs.
    pub async fn ignore_body(&mut self) -> Result<(), Error> {
        let UnauthorizedRequest { payload, permit, .. } = &mut *self.request;
        Ok(payload.ignore(permit).await?)
    }

    /// The body, read to its end within the time for bodies of the public listener.
    ///
    /// # Errors
    ///
    /// 413 for one that is too long; 400 for one that is cut off; 503 if it takes too long, or too many requests wait for
    /// theirs.
    pub async fn read_body(&mut self) -> Result<&[u8], Error> {
        let UnauthorizedRequest { payload, permit, .. } = &mut *self.request;
        Box::pin(permit.await_body(payload.read_all())).await??;
        Ok(payload.read())
    }

    /// The response with status 200. The request's header map becomes that of the response, and the HTTP layer reads the next
    /// request into the same map, so none of them allocates.
    pub fn into_response(mut self, media_type: HeaderValue, body: Bytes) -> Response {
        let mut headers = std::mem::take(&mut self.request.parts.headers);
        if headers.capacity() > MAX_REUSED_HEADERS {
            headers = HeaderMap::new();
        }
        headers.clear();
        headers.insert(CONTENT_TYPE, media_type);
        let mut response = Response::new(body.into());
        *response.headers_mut() = headers;
        response
    }

    /// The project and the body, for an operation that expects a body.
    pub fn into_payload(self) -> (P, Payload) {
        (self.project, self.request.payload)
    }
}

impl<P> Call<P> {
    /// The target as it was sent, parsed.
    pub fn uri(&self) -> &Uri {
        &self.request.parts.uri
    }

    /// Gives up what a call must not hold that waits for longer than its body takes: its permit, and one of the few places
    /// from which the current access is read without a shared counter.
    pub fn prepare_to_wait(&mut self) {
        self.request.permit = Permit::unbounded();
        self.request.access = Guard::from_inner(Arc::clone(&self.request.access));
    }
}

impl Call<ProjectId> {
    /// Decides again whether the caller may do `action`, by the current access.
    ///
    /// # Errors
    ///
    /// 401, 403, or 503 if the credential cannot be checked now.
    pub async fn authorize_again(&mut self, access: Arc<Access>, action: Action) -> Result<(), Error> {
        let UnauthorizedRequest { parts, payload, permit, .. } = &mut *self.request;
        let headers = RequestHeaders::of(&parts.headers);
        let caller = authenticate(&access, parts, &headers, payload, permit).await?;
        caller.principal.authorize(Some(&self.project), action)?;
        self.request.access = Guard::from_inner(access);
        Ok(())
    }

    /// Whether this is the access by which the call was decided last.
    pub fn is_decided_by(&self, access: &Arc<Access>) -> bool {
        Arc::ptr_eq(&self.request.access, access)
    }

    /// Checks that the project exists. For an operation that reads its body before this last decision.
    ///
    /// # Errors
    ///
    /// 404 if the access file lists the existing projects and this one is not among them.
    pub fn project_exists(&self) -> Result<(), Error> {
        if self.access().project_exists(&self.project) { Ok(()) } else { Err(Error::Project) }
    }
}

impl<T> ValidCall<ProjectId, T> {
    /// The call and its input, after the last decision: whether the project exists.
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
    /// The call and its input, for an operation outside projects.
    pub fn in_no_project(self) -> (Call<()>, T) {
        (self.call, self.input)
    }
}
