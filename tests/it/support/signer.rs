//! An independent signer. As the SDKs, it signs the decoded parts of a request; the server verifies the received bytes.

use std::fmt::Write as _;
use std::net::SocketAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::Response;
use sha2::{Digest as _, Sha256};

use crate::support::connection::Connection;
use crate::support::fixtures::{Key, PROJECT, count_path, report_path};

/// A request that is built, then signed, then perhaps changed.
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

    /// The decoded query, in the order of the request line.
    pub(crate) fn query(mut self, query: &[(&str, &str)]) -> Self {
        self.query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.target = format!("{}?{}", encoded_path(&self.path), encoded_query(&self.query));
        self
    }

    /// The target of the request line, which may differ from the signed one.
    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    /// The query of the request line, which may differ from the signed one.
    pub(crate) fn query_written(self, query: &str) -> Self {
        let target = format!("{}?{query}", encoded_path(&self.path));
        self.target(&target)
    }

    /// Adds a header. It is signed only if it is added before the signature.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Removes headers.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let before = self.headers.len();
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        assert!(self.headers.len() < before, "{name} is not there");
        self
    }

    /// Replaces the value of a header.
    pub(crate) fn replace(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).header(name, value)
    }

    /// Sets the time of the signature.
    pub(crate) fn at(self, moment: Timestamp) -> Self {
        self.replace("X-Sdk-Date", date(moment))
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Signs all its headers.
    pub(crate) fn sign(self, key: Key<'_>) -> Self {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        self.sign_only(key, &names.join(";"))
    }

    /// Signs these headers, in this order.
    pub(crate) fn sign_only(self, key: Key<'_>, names: &str) -> Self {
        let signature = self.signature(key, names);
        let Key { id, .. } = key;
        self.header(
            "Authorization",
            format!("SDK-HMAC-SHA256 Access={id}, SignedHeaders={names}, Signature={signature}"),
        )
    }

    /// Changes the value of `Authorization`.
    pub(crate) fn edit_authorization(self, change: impl FnOnce(&str) -> String) -> Self {
        let value = change(std::str::from_utf8(self.value("authorization")).unwrap());
        self.replace("Authorization", &value)
    }

    /// The first value of a header. It is empty if the header is absent.
    pub(crate) fn value(&self, name: &str) -> &[u8] {
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
            // The SDKs trim text. Bytes that are not text are signed unchanged.
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

    /// The head, with the header that frames the body.
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

    /// Sends it and returns the response.
    pub(crate) async fn send(&self, to: SocketAddr) -> Response {
        self.send_part(to, self.body.len()).await
    }

    /// Sends it with the first `length` bytes of the body only.
    pub(crate) async fn send_part(&self, to: SocketAddr, length: usize) -> Response {
        let framing = match self.body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        self.exchange(to, &[self.head(&framing), self.body[..length].to_vec()].concat()).await
    }

    /// Sends it with the body as one chunk, so that the server does not know its length. If it `stalls`, the last chunk is missing.
    pub(crate) async fn send_chunked(&self, to: SocketAddr, stalls: bool) -> Response {
        let mut bytes = self.head("Transfer-Encoding: chunked\r\n");
        bytes.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        if !stalls {
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        self.exchange(to, &bytes).await
    }

    /// Sends bytes on a new connection and returns the response.
    async fn exchange(&self, to: SocketAddr, bytes: &[u8]) -> Response {
        let mut connection = Connection::open(to).await;
        connection.send_and_read(bytes).await;
        match self.method {
            "HEAD" => connection.response_to_head().await.into(),
            _ => connection.response().await.into(),
        }
    }
}

/// A date in the form of X-Sdk-Date.
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
