//! A response of any client, and assertions about it.

use serde_json::Value;

/// A received response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// With names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A response without its body.
    pub(crate) fn parse_head(head: &str) -> Self {
        let (line, rest) = head.trim_end().split_once("\r\n").unwrap_or((head, ""));
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        Self { status, headers: rest.lines().map(header).collect(), body: Vec::new() }
    }

    /// The value of a header, which may be present at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} stands twice");
        first
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The count of a response with status 200 and no other field.
    pub(crate) fn count(&self) -> u64 {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.assert_common();
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["count"].as_u64().unwrap()
    }

    /// Asserts that this is an error of the server with this status and code. Returns its message.
    pub(crate) fn assert_error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.assert_common();
        assert_eq!(self.header("retry-after").is_some(), status == 503);
        assert_eq!(self.header("allow").is_some(), status == 405);
        let body = self.json();
        let fields: Vec<_> =
            body.as_object().unwrap().iter().map(|(name, value)| (&**name, value.is_string())).collect();
        assert_eq!(fields, [("error_code", true), ("error_msg", true)]);
        assert_eq!(body["error_code"], code);
        let message = body["error_msg"].as_str().unwrap();
        assert!((1..=255).contains(&message.chars().count()), "{message}");
        message.to_owned()
    }

    /// Asserts that the HTTP layer refused the request: without a body, and with a close of the connection.
    pub(crate) fn assert_refused_by_the_http_layer(&self, status: u16) {
        assert_eq!((self.status, &*self.body), (status, &b""[..]));
        assert_eq!(self.header("connection"), Some("close"));
    }

    fn assert_common(&self) {
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()));
    }
}

impl Response {
    /// Reads a response of the HTTP client.
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let status = response.status().as_u16();
        Self { status, headers, body: response.bytes().await.unwrap().into() }
    }
}

impl From<Response> for reqwest::Response {
    fn from(response: Response) -> Self {
        let mut built = http::Response::builder().status(response.status);
        for (name, value) in response.headers {
            built = built.header(name, value);
        }
        built.body(response.body).unwrap().into()
    }
}

/// The body of a response, which is JSON.
pub(crate) async fn json(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// Asserts that the HTTP client received an error with this status and code. Returns its message.
pub(crate) async fn assert_error(response: reqwest::Response, status: u16, code: &str) -> String {
    Response::read(response).await.assert_error(status, code)
}
