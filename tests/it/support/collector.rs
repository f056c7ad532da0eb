//! An OTLP collector of the test's own. It decodes what it receives by the published definitions.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

/// A running collector. It ends with the runtime of the test.
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::answering(StatusCode::OK).await
    }

    /// A collector that answers every batch with this status.
    pub(crate) async fn answering(status: StatusCode) -> Self {
        let received = Arc::<Mutex<Vec<(HeaderMap, Bytes)>>>::default();
        let take = async move |State(received): State<Arc<Mutex<Vec<_>>>>, headers: HeaderMap, body: Bytes| {
            received.lock().unwrap().push((headers, body));
            status
        };
        let app = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// The headers of each batch.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.received.lock().unwrap().iter().map(|(headers, _)| headers.clone()).collect()
    }

    /// All bytes of all batches.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().iter().flat_map(|(_, body)| body.to_vec()).collect()
    }

    /// Each span, with the attributes of the server that sent it.
    pub(crate) fn spans(&self) -> Vec<Received> {
        let bodies: Vec<_> = self.received.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
        let batches = bodies.into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let mut spans = Vec::new();
        for of_server in batches.flat_map(|batch| batch.resource_spans) {
            let server = of_server.resource.unwrap().attributes;
            let in_scopes = of_server.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(in_scopes.map(|span| Received { span, server: server.clone() }));
        }
        spans
    }

    /// The span of the request with this id.
    pub(crate) fn span(&self, request_id: &str) -> Received {
        let mut found = self.spans();
        found.retain(|received| received.attribute("subjobs.request_id").as_deref() == Some(request_id));
        assert_eq!(found.len(), 1, "{request_id}: {found:?}");
        found.remove(0)
    }
}

/// A span that has arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) span: Span,
    server: Vec<KeyValue>,
}

impl Received {
    /// An attribute of the span, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }

    /// An attribute of the server, as text.
    pub(crate) fn of_server(&self, key: &str) -> Option<String> {
        text(&self.server, key)
    }

    pub(crate) fn trace_id(&self) -> String {
        hexadecimal(&self.span.trace_id)
    }

    pub(crate) fn parent_id(&self) -> String {
        hexadecimal(&self.span.parent_span_id)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
