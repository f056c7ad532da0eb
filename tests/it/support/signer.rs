//! A signer of the tests' own: it works from what a request means, as the SDKs do, where the server works from what came.

use std::fmt::Write as _;
use std::net::SocketAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::Response;
use sha2::{Digest as _, Sha256};

use crate::support::connection::Connection;
use crate::support::fixtures::{Key, PROJECT, count_path, report_path};

/// A request, built up, then signed, then perhaps spoilt.
#[derive(Clone)]
pub(crate) struct Call {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Call {
    /// A request for a decoded path, signed now.
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        let call = Self {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            target: encoded_path(path),
            headers: Vec::new(),
            body: Vec::new(),
        };
        call.header("Host", "subjobs.example").header("X-Sdk-Date", date(Timestamp::now()))
    }

    /// A count in [`PROJECT`].
    pub(crate) fn count() -> Self {
        Self::new("GET", &count_path(PROJECT))
    }

    /// A report to [`PROJECT`].
    pub(crate) fn report(media_type: &str, body: &str) -> Self {
        let call = Self::new("POST", &report_path(PROJECT));
        call.header("Content-Type", media_type).body(body)
    }

    /// The query, decoded, which is written in this order.
    pub(crate) fn query(mut self, query: &[(&str, &str)]) -> Self {
        self.query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.target = format!("{}?{}", encoded_path(&self.path), encoded_query(&self.query));
        self
    }

    /// The target as it is to stand in the request line, whatever is signed.
    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    /// The target's query as it is to stand in the request line, whatever is signed.
    pub(crate) fn query_written(self, query: &str) -> Self {
        let target = format!("{}?{query}", encoded_path(&self.path));
        self.target(&target)
    }

    /// One header more; before the signature it is signed, after it is not.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Takes headers away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let before = self.headers.len();
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        assert!(self.headers.len() < before, "{name} is not there");
        self
    }

    /// Another value for a header.
    pub(crate) fn replace(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).header(name, value)
    }

    /// Signed at that moment.
    pub(crate) fn at(self, moment: Timestamp) -> Self {
        self.replace("X-Sdk-Date", date(moment))
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Signs it with every header that it has.
    pub(crate) fn sign(self, key: Key<'_>) -> Self {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        self.sign_only(key, &names.join(";"))
    }

    /// Signs it with the headers named, in the order named.
    pub(crate) fn sign_only(self, key: Key<'_>, names: &str) -> Self {
        let signature = self.signature(key, names);
        let Key { id, .. } = key;
        self.header(
            "Authorization",
            format!("SDK-HMAC-SHA256 Access={id}, SignedHeaders={names}, Signature={signature}"),
        )
    }

    /// Another `Authorization`, made from the one that it has.
    pub(crate) fn edit_authorization(self, change: impl FnOnce(&str) -> String) -> Self {
        let value = change(std::str::from_utf8(self.value("authorization")).unwrap());
        self.replace("Authorization", &value)
    }

    /// The first value of a header, none if it is not there.
    fn value(&self, name: &str) -> &[u8] {
        let header = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_slice()).unwrap_or_default()
    }

    fn signature(&self, key: Key<'_>, names: &str) -> String {
        let mut canonical = format!("{}\n{}/\n", self.method, encoded_path(&self.path)).into_bytes();
        let mut query = self.query.clone();
        query.sort();
        canonical.extend_from_slice(encoded_query(&query).as_bytes());
        canonical.push(b'\n');
        for name in names.split(';') {
            canonical.extend_from_slice(name.as_bytes());
            canonical.push(b':');
            // As the SDKs trim text; what is none is signed as it is.
            let value = self.value(name);
            canonical.extend_from_slice(std::str::from_utf8(value).map_or(value, |text| text.trim().as_bytes()));
            canonical.push(b'\n');
        }
        canonical.extend_from_slice(format!("\n{names}\n{}", hex(&Sha256::digest(&self.body))).as_bytes());
        let mut mac = Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).unwrap();
        mac.update(b"SDK-HMAC-SHA256\n");
        mac.update(self.value("x-sdk-date"));
        mac.update(format!("\n{}", hex(&Sha256::digest(&canonical))).as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// The head, with what says how long the body is.
    fn head(&self, framing: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(format!("{name}: ").as_bytes());
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("{framing}\r\n").as_bytes());
        head
    }

    /// Sends it and returns the answer.
    pub(crate) async fn send(&self, to: SocketAddr) -> Response {
        self.send_part(to, self.body.len()).await
    }

    /// Sends it without more than `length` bytes of the body, and then nothing more.
    pub(crate) async fn send_part(&self, to: SocketAddr, length: usize) -> Response {
        let framing = match self.body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        self.exchange(to, &[self.head(&framing), self.body[..length].to_vec()].concat()).await
    }

    /// Sends it with the body as one chunk, so that its length is not known before; without its end if it `stalls`.
    pub(crate) async fn send_chunked(&self, to: SocketAddr, stalls: bool) -> Response {
        let mut bytes = self.head("Transfer-Encoding: chunked\r\n");
        bytes.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        if !stalls {
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        self.exchange(to, &bytes).await
    }

    /// Sends bytes on a connection of their own and returns the response.
    async fn exchange(&self, to: SocketAddr, bytes: &[u8]) -> Response {
        let mut connection = Connection::open(to).await;
        connection.send(bytes).await;
        match self.method {
            "HEAD" => connection.response_to_head().await.into(),
            _ => connection.response().await.into(),
        }
    }
}

/// A date as it is signed.
pub(crate) fn date(moment: Timestamp) -> String {
    moment.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

fn encoded_query(query: &[(String, String)]) -> String {
    query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        encoded
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
