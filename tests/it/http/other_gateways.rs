//! Other gateways, each with its file in `deploy/gateways`, in front of a server. docs/gateways.md says what these tests find.

use std::net::SocketAddr;
use std::process::Command;

use subjobs::access::{AccessSource, Token};
use subjobs::config::Config;

use crate::support::blocking::get;
use crate::support::fixtures::{
    DASHBOARD, OPS, OPS_KEY, PROJECT, access_with_keys, code, config, count_path, record, report_path,
};
use crate::support::gateways::{Gateway, blocking, replaced};
use crate::support::server::Running;
use crate::support::signer::Call;

/// What callers sign as Host.
const HOSTS: [&str; 2] = ["subjobs.example", "SubJobs.Example:8443"];

/// What a gateway forwards.
struct Through {
    /// Whether it forwards Host unchanged. If not, signatures are valid only with `--public-host`.
    host: bool,
    /// The longest forwarded token, in bytes.
    token: usize,
    /// The length of a token that the gateway itself refuses.
    too_long: usize,
    /// Whether it forwards a second slash at the start of the path.
    slashes: bool,
}

fn nginx_before(conf: &'static str, server: SocketAddr) -> Gateway {
    Gateway::spawn("nginx.conf", |address, dir| {
        // Replaces the paths that only root may write.
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths: String = paths.iter().map(|path| format!("{path}_temp_path {dir}/{path};\n")).collect();
        let http = format!("http {{\naccess_log off;\n{paths}");
        let (listen, server) = (format!("listen {address};"), server.to_string());
        let parts = [("http {", http.as_str()), ("listen 8000;", &listen), ("127.0.0.1:8080", &server)];
        let mut nginx = Command::new("nginx");
        nginx.args(["-e", "stderr", "-c", &format!("{dir}/nginx.conf"), "-g", &format!("daemon off; pid {dir}/pid;")]);
        (replaced(conf, &parts), nginx)
    })
}

fn apache_before(conf: String, server: SocketAddr) -> Gateway {
    Gateway::spawn("apache.conf", |address, dir| {
        let (listen, server) = (format!("Listen {address}"), server.to_string());
        let own = format!("ServerName localhost\nPidFile {dir}/pid\nErrorLog {dir}/log\nDefaultRuntimeDir {dir}");
        let parts =
            [("Listen 8000", listen.as_str()), ("127.0.0.1:8080", &server), ("ServerName localhost", own.as_str())];
        let mut apache = Command::new("apache2");
        apache.args(["-DFOREGROUND", "-f", &format!("{dir}/apache.conf")]);
        (replaced(&conf, &parts), apache)
    })
}

fn haproxy_before(server: SocketAddr) -> Gateway {
    Gateway::spawn("haproxy.cfg", |address, dir| {
        let (bind, server) = (format!("bind {address}"), server.to_string());
        let parts = [("bind :8000", bind.as_str()), ("127.0.0.1:8080", &server)];
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-f", &format!("{dir}/haproxy.cfg")]);
        (replaced(include_str!("../../../deploy/gateways/haproxy.cfg"), &parts), haproxy)
    })
}

fn caddy_before(server: SocketAddr) -> Gateway {
    Gateway::spawn("Caddyfile", |address, dir| {
        let (site, server) = (format!("http://:{} {{\nbind {}", address.port(), address.ip()), server.to_string());
        let parts = [(":8000 {", site.as_str()), ("127.0.0.1:8080", &server)];
        let mut caddy = Command::new("caddy");
        caddy.args(["run", "--adapter", "caddyfile", "--config", &format!("{dir}/Caddyfile")]);
        caddy.env("XDG_DATA_HOME", dir).env("XDG_CONFIG_HOME", dir);
        (replaced(include_str!("../../../deploy/gateways/Caddyfile"), &parts), caddy)
    })
}

fn varnish_before(server: SocketAddr) -> Gateway {
    Gateway::spawn("varnish.vcl", |address, dir| {
        let conf = include_str!("../../../deploy/gateways/varnish.vcl");
        // The file has the command in a comment of two lines.
        let (_, command) = conf.split_once("varnishd -a :8000 -f /etc/varnish/subjobs.vcl").unwrap();
        let options = command.split("\n\n").next().unwrap().replace(['#', '\\'], "");
        let (ip, port) = (server.ip().to_string(), server.port().to_string());
        let mut varnish = Command::new("varnishd");
        varnish.args(["-F", "-a", &address.to_string(), "-f", &format!("{dir}/varnish.vcl")]);
        varnish.args(["-n", &format!("{dir}/work")]).args(options.split_whitespace());
        (replaced(conf, &[("\"127.0.0.1\"", &format!("\"{ip}\"")), ("\"8080\"", &format!("\"{port}\""))]), varnish)
    })
}

/// Asserts that responses to signed counts contain this text.
async fn assert_signed(gateway: SocketAddr, expected: &str) {
    for host in HOSTS {
        let call = Call::count().replace("Host", host).query(&[("job_id", "a/b,c"), ("job_type", "CREATE_SERVER")]);
        let body = call.sign(OPS_KEY).send(gateway).await.text().await.unwrap();
        assert!(body.contains(expected), "signed for {host}: {body}");
    }
}

/// Starts a server and a gateway, and asserts what the gateway forwards.
async fn assert_passes(gateway: impl FnOnce(SocketAddr) -> Gateway + Send + 'static, through: Through) {
    let Through { host: is_kept, token, too_long, slashes } = through;
    let (long, too_long) = ("t".repeat(token), "t".repeat(too_long));
    let hash = Token::new(long.as_bytes()).unwrap().digest();
    let principal = "[[principal]]\nname = \"long\"\nkind = \"account\"\nprojects = [\"*\"]\n";
    let access = format!("{}\n{principal}tokens = [{{ sha256 = \"{hash}\" }}]\n", access_with_keys());
    let server = Running::start(Config::on_any_port(AccessSource::Text(access))).await;
    let report = record("1", "a/b,c", "CREATE_SERVER", "RUNNING");
    assert_eq!(server.report(OPS, report).send().await.unwrap().status(), 200);
    let public = server.public;
    let gateway = tokio::task::spawn_blocking(move || gateway(public)).await.unwrap();
    let address = gateway.address;

    assert_signed(address, if is_kept { r#"{"count":1}"# } else { code::CREDENTIAL }).await;

    blocking(move || {
        let count = count_path(PROJECT);
        for query in ["", "?job_id=a%2Fb%2Cc", "?job_type=CREATE_SERVER%2CDELETE_SERVER&status=RUNNING"] {
            assert_eq!(gateway.get(&format!("{count}{query}"), DASHBOARD).text(), r#"{"count":1}"#, "{query}");
        }
        // The gateway forwards paths and the responses of the server unchanged.
        for (path, token, status, code) in [
            (count_path("a%2Fb"), OPS, 400, code::INPUT),
            (count_path("%2e%2e"), OPS, 400, code::INPUT),
            (count_path("a%5Cb"), OPS, 400, code::INPUT),
            (format!("{count}?job_id=%zz"), OPS, 400, code::INPUT),
            (count.clone(), "unknown-token", 401, code::CREDENTIAL),
            (count.clone(), "", 401, code::CREDENTIAL),
            ("/nowhere".into(), OPS, 404, code::NOT_FOUND),
            (count_path("unknown"), OPS, 404, code::NOT_FOUND),
            (count.replace("count", "c%6Funt"), OPS, 404, code::NOT_FOUND),
            (count.replace("/actions", "//actions"), OPS, 404, code::NOT_FOUND),
            (format!("/x/..{count}"), OPS, 404, code::NOT_FOUND),
            // The paths of the internal listener do not exist.
            ("/metrics".into(), OPS, 404, code::NOT_FOUND),
            ("/readyz".into(), OPS, 404, code::NOT_FOUND),
            ("/v1/../metrics".into(), OPS, 404, code::NOT_FOUND),
            (report_path(PROJECT), OPS, 404, code::NOT_FOUND),
        ] {
            let answer = gateway.ask("GET", &path, token, &["X-Request-Id: the-callers-\"own\""]);
            answer.assert_error(status, code);
            assert_eq!(answer.header("x-request-id"), Some("the-callers-\"own\""), "{path}");
            assert_eq!(answer.text(), get(public, &path, token).text(), "{path}");
        }
        let length = ["Content-Length: 0"];
        gateway.ask("POST", &report_path(PROJECT), OPS, &length).assert_error(404, code::NOT_FOUND);
        gateway.ask("POST", &count, OPS, &length).assert_error(405, code::METHOD);
        assert_eq!(gateway.get(&format!("/{count}"), OPS).status, if slashes { 404 } else { 200 });
        assert_eq!(gateway.get(&count, &long).text(), r#"{"count":1}"#);
        let refused = gateway.get(&count, &too_long);
        assert!(matches!(refused.status, 400 | 431) && !refused.text().contains("WKS."), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn nginx_with_default_settings_replaces_host_and_limits_heads_to_8_kib() {
    let conf = include_str!("../../../deploy/gateways/nginx-stock.conf");
    let through = Through { host: false, token: 8000, too_long: 8 * 1024, slashes: true };
    assert_passes(|server| nginx_before(conf, server), through).await;
}

#[tokio::test]
async fn public_host_makes_signatures_valid_where_host_is_replaced() {
    let public_hosts = HOSTS.map(|host| host.parse().unwrap()).to_vec();
    let server =
        Running::start(Config { public_hosts, ..Config::on_any_port(AccessSource::Text(access_with_keys())) }).await;
    let public = server.public;
    let gateways = tokio::task::spawn_blocking(move || {
        let nginx = nginx_before(include_str!("../../../deploy/gateways/nginx-stock.conf"), public);
        let apache = include_str!("../../../deploy/gateways/apache.conf").replace("ProxyPreserveHost On", "");
        [nginx, apache_before(apache, public)]
    });
    for gateway in gateways.await.unwrap() {
        assert_signed(gateway.address, r#"{"count":0}"#).await;
    }
}

#[tokio::test]
async fn nginx() {
    let conf = include_str!("../../../deploy/gateways/nginx.conf");
    let through = Through { host: true, token: 63 * 1024, too_long: 64 * 1024, slashes: true };
    assert_passes(|server| nginx_before(conf, server), through).await;
}

#[tokio::test]
async fn apache_httpd() {
    let conf = include_str!("../../../deploy/gateways/apache.conf");
    let through = Through { host: true, token: 63 * 1024, too_long: 64 * 1024, slashes: false };
    assert_passes(|server| apache_before(conf.to_owned(), server), through).await;
}

#[tokio::test]
async fn apache_httpd_that_replaces_host() {
    let conf = include_str!("../../../deploy/gateways/apache.conf").replace("ProxyPreserveHost On", "");
    let through = Through { host: false, token: 63 * 1024, too_long: 64 * 1024, slashes: false };
    assert_passes(|server| apache_before(conf, server), through).await;
}

#[tokio::test]
async fn haproxy() {
    let through = Through { host: true, token: 40 * 1024, too_long: 63 * 1024, slashes: true };
    assert_passes(haproxy_before, through).await;
}

#[tokio::test]
async fn caddy() {
    // A token above the limit of the server gets the 431 of the server, which has no body.
    let through = Through { host: true, token: 200 * 1024, too_long: 300 * 1024, slashes: true };
    assert_passes(caddy_before, through).await;
}

#[tokio::test]
async fn varnish() {
    let through = Through { host: true, token: 63 * 1024, too_long: 64 * 1024, slashes: true };
    assert_passes(varnish_before, through).await;
}

/// The wait is longer than the timeout of these gateways for other responses.
#[tokio::test]
async fn a_wait_outlasts_the_timeout_of_other_requests() {
    let server = Running::start(config()).await;
    let public = server.public;
    blocking(move || {
        let nginx = |server| nginx_before(include_str!("../../../deploy/gateways/nginx.conf"), server);
        let apache = |server| apache_before(include_str!("../../../deploy/gateways/apache.conf").to_owned(), server);
        let gateways = [
            Gateway::start(public),
            nginx(public),
            apache(public),
            haproxy_before(public),
            caddy_before(public),
            varnish_before(public),
        ];
        std::thread::scope(|scope| {
            for gateway in &gateways {
                scope.spawn(|| {
                    let answer = gateway.get(&format!("/subjobs/v1/{PROJECT}/wait?until=eq:9&timeout=17"), DASHBOARD);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert!(answer.text().starts_with(r#"{"satisfied":false,"count":0,"#), "{}", answer.text());
                });
            }
        });
    })
    .await;
}
