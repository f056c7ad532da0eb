//! The whole server through real sockets: a folder for each concern, a file for each thing that is tested.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue should fail at that line")]

mod layers;

mod support {
    #[path = "../../support/postgres.rs"]
    pub(crate) mod postgres;

    pub(crate) mod blocking;
    pub(crate) mod collector;
    pub(crate) mod connection;
    pub(crate) mod data_dirs;
    pub(crate) mod fixtures;
    pub(crate) mod gateways;
    pub(crate) mod http2;
    pub(crate) mod lines;
    pub(crate) mod program;
    pub(crate) mod promql;
    pub(crate) mod proxy;
    pub(crate) mod random;
    pub(crate) mod replicas;
    pub(crate) mod response;
    pub(crate) mod server;
    pub(crate) mod signer;
    pub(crate) mod small_disk;
    pub(crate) mod snapshot;
    pub(crate) mod streams;
    pub(crate) mod tls;
    pub(crate) mod wait;
    pub(crate) mod workers;
}

mod api {
    mod batch_delete;
    mod conditions;
    mod count;
    mod direct_calls;
    mod error_bodies;
    mod events;
    mod faults;
    pub(crate) mod filters;
    mod jobs;
    mod list_and_job_bodies;
    mod list_projects;
    mod lists;
    mod lists_against_model;
    mod openapi;
    mod openapi_published;
    mod openapi_responses;
    mod order_of_decisions;
    mod project_ids;
    mod reset;
    mod response_bodies;
    mod responses;
    pub(crate) mod sdks;
    mod sdks_jobs;
    mod sdks_siblings;
    mod summary;
    mod summary_and_wait_bodies;
    mod test_clock;
    mod wait;
}

mod ingest {
    mod body_limits;
    mod coded_reports;
    mod families;
    pub(crate) mod load_files;
    mod record_rules;
    pub(crate) mod reports;
    mod response_bodies;
    mod shares_of_principals;
}

mod http {
    mod compression;
    mod connection_limits;
    mod descriptors;
    mod drain;
    mod framing;
    mod gateway_log;
    mod listen_addresses;
    mod max_in_flight;
    mod metrics;
    mod metrics_for_alerts;
    mod other_gateways;
    mod overview;
    mod overview_stream;
    mod page;
    mod passed_sockets;
    mod readiness;
    mod request_targets;
    mod rolling_restarts;
    mod shipped_gateway;
    mod size_limits;
    mod timeouts;
    mod traces;
}

mod tls {
    mod client_certificates;
    mod handshakes;
    mod http1;
    mod http2;
    mod http2_limits;
    mod http2_timeouts;
    mod options;
    mod rotation;
    mod sdks;
}

mod auth {
    mod access_file;
    mod access_keys;
    mod identity_service;
    mod keystone;
    mod public_host;
    mod reload;
    mod replayed_signatures;
    mod secrets;
    mod signatures;
    mod signed_bodies;
}

mod storage {
    mod backup;
    mod corrupt_bits;
    mod data_dir;
    mod deletes;
    mod failing_snapshots;
    mod failing_syscalls;
    mod full_disk;
    mod killed_starts;
    mod kills;
    mod retention;
    mod truncated_tails;
    mod unusable_directories;
}

mod postgres {
    mod check;
    mod cluster;
    mod cuts;
    mod deploy;
    mod export;
    mod failover;
    mod fence;
    mod kills;
    mod large;
    mod limits;
    mod lists;
    mod load;
    mod migrate;
    mod options;
    mod overview;
    mod proxy;
    mod silence;
    mod starts;
    mod tls;
}

mod watch {
    mod dashboard;
    mod rules;
}

mod cli {
    mod access_log;
    mod check;
    mod commands;
    mod demo;
    mod environment;
    mod ephemeral;
    mod help;
    mod log;
    mod option_sources;
    mod reference;
    mod serve;
    mod service_manager;
    mod symbols;
    mod traces;
    mod unwritable_stderr;
    mod unwritable_stdout;
}
