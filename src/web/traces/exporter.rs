//! The task that sends spans to the collector, in batches, one after another.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::Client;
use crate::metrics::SpanMetrics;

/// The most spans of a batch.
const MAX_BATCH: usize = 512;

/// How long a span waits for others, so that a busy server sends few requests and a quiet one sends soon.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// How long a batch may take, with its retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the server waits for the last batches.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The least time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The name of the service, unless the operator gives one in the variables of OpenTelemetry.
const SERVICE_NAME: &str = "subjobs";

/// What the SDK calls a service without a name.
const UNNAMED_SERVICE: &str = "unknown_service";

/// The exporter before it runs.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<SpanData>,
    otlp: opentelemetry_otlp::SpanExporter,
    client: Arc<Client>,
    metrics: SpanMetrics,
    /// Spans that were dropped since the last warning, and when that was.
    unreported: usize,
    last_warning: Option<Instant>,
}

/// The running exporter.
#[derive(Debug)]
pub struct RunningExporter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Fails if a variable of OpenTelemetry cannot be used.
    pub(super) fn new(
        endpoint: &str,
        queue: mpsc::Receiver<SpanData>,
        metrics: SpanMetrics,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let client = Arc::new(Client::new()?);
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_endpoint(endpoint)
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(EXPORT_TIMEOUT);
        let mut otlp = otlp.build()?;
        otlp.set_resource(&resource());
        Ok(Self { queue, otlp, client, metrics, unreported: 0, last_warning: None })
    }

    /// Runs in a task of its own until it is told to end.
    pub fn spawn(self) -> RunningExporter {
        let (stop, stopped) = oneshot::channel();
        RunningExporter { stop, task: tokio::spawn(self.run(stopped)) }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = fill(&mut batch, &mut self.queue) => {}
            }
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::take(&mut batch)).await;
        }
        self.queue.close();
        loop {
            let room = MAX_BATCH - batch.len();
            self.queue.recv_many(&mut batch, room).await;
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    /// Sends a batch. What the collector does not take is dropped and counted.
    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let error = match timeout(EXPORT_TIMEOUT, self.otlp.export(batch)).await {
            Ok(Ok(())) => return self.metrics.count_exported(spans),
            Ok(Err(error)) => self.client.take_error().unwrap_or_else(|| error.to_string()),
            Err(_) => format!("not taken within {} s", EXPORT_TIMEOUT.as_secs()),
        };
        self.metrics.count_refused(spans);
        self.unreported += spans;
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            tracing::warn!(spans = self.unreported, error, "spans dropped: the collector did not take them");
            (self.unreported, self.last_warning) = (0, Some(Instant::now()));
        }
    }
}

impl RunningExporter {
    /// Sends what waits, for at most two seconds.
    pub async fn end(self) {
        let Self { stop, mut task } = self;
        let _ = stop.send(());
        if timeout(FLUSH_TIMEOUT, &mut task).await.is_err() {
            task.abort();
            tracing::warn!(after_seconds = FLUSH_TIMEOUT.as_secs_f64(), "sending the last spans timed out");
        }
    }
}

/// Waits for a span, and then for others. The batch stays empty if nothing can be sent any more.
async fn fill(batch: &mut Vec<SpanData>, queue: &mut mpsc::Receiver<SpanData>) {
    queue.recv_many(batch, MAX_BATCH - batch.len()).await;
    let end = Instant::now() + BATCH_DELAY;
    while batch.len() < MAX_BATCH && !batch.is_empty() {
        match timeout_at(end, queue.recv_many(batch, MAX_BATCH - batch.len())).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// What the spans say of the server.
fn resource() -> Resource {
    let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let given = Resource::builder().build().get(&Key::new("service.name"));
    match given {
        Some(name) if !name.as_str().starts_with(UNNAMED_SERVICE) => resource.build(),
        _ => resource.with_service_name(SERVICE_NAME).build(),
    }
}
