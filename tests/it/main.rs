//! The whole server through real sockets: one file a concern.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod durable_support;
mod faults_bench;
mod faults_disk;
mod gateway_support;
mod http_support;
mod openapi;
mod program_support;
mod support;
mod wire;

mod clocks;
mod commands;
mod connections;
mod count;
mod credentials;
mod data_dir;
mod demo;
mod descriptors;
mod drain;
mod durable_kills;
mod durable_starts;
mod errors;
mod faults_bits;
mod faults_calls;
mod faults_cuts;
mod faults_directory;
mod faults_full;
mod faults_merge;
mod framing;
mod gateway;
mod gateway_log;
mod gateway_others;
mod gateway_rolling;
mod inputs;
mod intake;
mod keystone;
mod layers;
mod limits;
mod load;
mod metrics;
mod order;
mod places;
mod program;
mod project_ids;
mod projects;
mod public_host;
mod readiness;
mod records;
mod report;
mod retention;
mod sdk;
mod signed;
mod signer;
mod targets;
