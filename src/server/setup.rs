//! Binds the listeners and builds the application of each.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::listen_socket::ListenSocket;
use super::listener::BoundListener;
use super::passed_sockets::PassedSocket;
use super::state::Timeouts;
use super::{ServerError, system_error};
use crate::config::Config;
use crate::metrics::{Listener, Metrics};
use crate::tls::{TlsError, TlsHandle};
use crate::web::access_log::AccessLog;
use crate::web::instrument::App;
use crate::web::observers::Observers;
use crate::web::operation::Operation;
use crate::web::request_id::RequestIds;
use crate::web::routes::Routes;
use crate::web::traces::{Exporter, Traces};

/// How long a new connection may take to send its first byte, unless `--idle-timeout` is shorter.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first read of the files of a certificate may take.
const TLS_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the files of a listener's certificate, on a blocking thread, because a read from a network file system may hang.
pub(super) async fn open_tls(
    config: &Config,
    metrics: &Metrics,
    kind: Listener,
) -> Result<Option<Arc<TlsHandle>>, ServerError> {
    let files = match kind {
        Listener::Public => &config.tls,
        Listener::Internal => &config.internal_tls,
    };
    let Some(files) = files.clone() else { return Ok(None) };
    let (metrics, certificate) = (metrics.tls(kind), files.certificate.clone());
    let opened = tokio::task::spawn_blocking(move || TlsHandle::open(kind, files, metrics));
    match timeout(TLS_READ_TIMEOUT, opened).await {
        Ok(opened) => Ok(Some(Arc::new(opened??))),
        Err(_) => Err(TlsError::slow(&certificate, TLS_READ_TIMEOUT).into()),
    }
}

/// The traces of the server and their exporter, if the configuration names a collector.
pub(super) fn traces(
    config: &Config,
    metrics: &Metrics,
) -> Result<(Option<Arc<Traces>>, Option<Exporter>), ServerError> {
    let Some(settings) = &config.traces else { return Ok((None, None)) };
    let made = Traces::new(&settings.endpoint.to_string(), settings.sample, metrics.spans());
    let (traces, exporter) = made.map_err(|error| system_error(format!("--traces-endpoint: {error}")))?;
    Ok((Some(Arc::new(traces)), Some(exporter)))
}

fn timeouts(config: &Config) -> Timeouts {
    Timeouts {
        first_byte: FIRST_BYTE_TIMEOUT.min(config.idle_timeout),
        head: config.head_timeout,
        idle: config.idle_timeout,
        is_single_request: false,
    }
}

/// What both listeners are built from.
pub(super) struct Setup<'a> {
    pub(super) config: &'a Config,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) max_connections: usize,
    pub(super) traces: Option<Arc<Traces>>,
}

impl Setup<'_> {
    /// Binds a listener, or takes the socket that was passed for it. Connections beyond `max_connections` are served with the operations of `reserve`, if given.
    pub(super) async fn listener<T: Clone + Send + Sync + 'static>(
        &self,
        kind: Listener,
        passed: Option<PassedSocket>,
        operations: Vec<Operation<Arc<T>>>,
        reserve: Option<Vec<Operation<Arc<T>>>>,
        state: &T,
        tls: Option<Arc<TlsHandle>>,
    ) -> Result<BoundListener, ServerError> {
        let config = self.config;
        let (address, option) = match kind {
            Listener::Public => (&config.listen, "--listen (SUBJOBS_LISTEN)"),
            Listener::Internal => (&config.internal_listen, "--internal-listen (SUBJOBS_INTERNAL_LISTEN)"),
        };
        let bind = |cause| ServerError::Bind { option, address: address.clone(), cause };
        let (socket, address) = match passed {
            Some(passed) => passed.listen(kind)?,
            None => ListenSocket::bind(address).await.map_err(bind)?,
        };
        self.metrics.set_connections_limit(kind, self.max_connections);
        Ok(BoundListener {
            kind,
            address,
            socket,
            tls,
            reserve_app: reserve.map(|operations| self.app(kind, operations, state)).transpose()?,
            app: self.app(kind, operations, state)?,
            timeouts: timeouts(config),
            max_connections: self.max_connections,
            max_connections_per_address: config.max_connections_per_address,
            open: self.metrics.connections(kind),
        })
    }

    fn app<T: Clone + Send + Sync + 'static>(
        &self,
        kind: Listener,
        operations: Vec<Operation<Arc<T>>>,
        state: &T,
    ) -> Result<App, ServerError> {
        let timeout = match kind {
            Listener::Public => self.config.request_timeout,
            Listener::Internal => self.config.report_timeout,
        };
        let routes = Routes::new(operations, state, kind, self.metrics);
        let ids = RequestIds::new().map_err(system_error)?;
        let observers =
            Observers { access_log: self.config.access_log_sample.map(AccessLog::new), traces: self.traces.clone() };
        Ok(App::new(routes, self.metrics.clone(), ids, timeout, observers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::AccessSource;

    #[test]
    fn the_first_byte_timeout_is_ten_seconds_or_a_shorter_idle_timeout() {
        let config = Config::on_any_port(AccessSource::Text(String::new()));
        let times = |idle_timeout| {
            let Timeouts { first_byte, head, idle, .. } = timeouts(&Config { idle_timeout, ..config.clone() });
            [first_byte, head, idle].map(|time| time.as_secs())
        };
        assert_eq!(times(config.idle_timeout), [10, 10, 75]);
        assert_eq!(times(Duration::from_secs(4)), [4, 10, 4]);
    }
}
