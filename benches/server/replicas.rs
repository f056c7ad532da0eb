//! Counts and reports a second of three replicas on one PostgreSQL, beside one server with a data directory. Clients, servers and database
//! share the cores.

use std::net::SocketAddr;
use std::path::Path;

use subjobs::store::{Target, migrate};

use crate::client;
use crate::cluster::{Cluster, Version};
use crate::durable::{LARGE, Load, SINGLE, bodies, send_all};
use crate::reports::runtime;
use crate::support::figures::Spread;
use crate::support::process::{Process, full_command, write_access, write_subtasks};
use crate::support::sample;

const REPLICAS: usize = 3;
const ROUNDS: usize = 3;
const SUBTASKS: usize = 100_000;
const CONNECTIONS: usize = 66;
const COUNTS: usize = 40_000;

const SETTINGS: &str = "shared_buffers = 1GB\nmax_connections = 120\nmax_wal_size = 4GB\n";

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let access = write_access(directory.path());
    let (subtasks, none) = (directory.path().join("subtasks.ndjson"), directory.path().join("none.ndjson"));
    write_subtasks(&subtasks, sample::skewed().take(SUBTASKS));
    write_subtasks(&none, std::iter::empty());
    let cluster = Cluster::start_with(Version::System, SETTINGS);
    let mut figures: [[Vec<f64>; 3]; 2] = Default::default();
    for round in 0..ROUNDS {
        let mut command = full_command(&access, &subtasks);
        command.arg("--data-dir").arg(directory.path().join(format!("data-{round}")));
        measure(vec![Process::start(command)], &mut figures[0]);
        measure(replicas(&cluster, &access, [&subtasks, &none, &none]), &mut figures[1]);
    }
    for (at, what) in ["counts", "subtasks in reports of 1,000", "reports of one"].into_iter().enumerate() {
        println!("{what} a second");
        println!("  a data directory  {}", Spread::of(figures[0][at].iter().copied()));
        println!("  three replicas    {}", Spread::of(figures[1][at].iter().copied()));
    }
}

/// Three servers on a new database; each loads a file.
fn replicas(cluster: &Cluster, access: &Path, load: [&Path; REPLICAS]) -> Vec<Process> {
    let url = cluster.url(&cluster.create_database(None));
    runtime().block_on(migrate(&Target::new(url.parse().unwrap(), None, None).unwrap())).unwrap();
    let start = |file: &Path| {
        let mut command = full_command(access, file);
        command.env("SUBJOBS_STORE", &url);
        Process::start(command)
    };
    load.map(start).into_iter().collect()
}

fn measure(servers: Vec<Process>, figures: &mut [Vec<f64>; 3]) {
    let public: Vec<SocketAddr> = servers.iter().map(|server| server.public).collect();
    let internal: Vec<SocketAddr> = servers.iter().filter_map(|server| server.internal).collect();
    let elapsed = runtime().block_on(async {
        let mut connections = Vec::new();
        for address in &public {
            connections.extend(client::open(*address, CONNECTIONS / public.len()).await);
        }
        client::round(connections, COUNTS).await.0
    });
    figures[0].push(COUNTS as f64 / elapsed.as_secs_f64());
    let mut from = SUBTASKS;
    for (load, figures) in [LARGE, SINGLE].into_iter().zip(&mut figures[1..]) {
        let elapsed = send_all(&internal, &bodies(load, from, None));
        figures.push(Load::all_subtasks(load) as f64 / elapsed.as_secs_f64());
        from += load.all_subtasks();
    }
    for server in servers {
        server.stop();
    }
}
