//! The connection is cut, or falls silent, at a byte of a commit.

use std::collections::BTreeSet;

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::proxy::{Action, Direction, Fault, Proxy};
use crate::support::replicas::{
    assert_good, assert_unavailable, count_at_last, migrated, report, report_at_last, start,
};

/// The distance of two cuts in bytes; every byte: `SUBJOBS_TEST_CUT_STEP=1 cargo test --test it postgres::cuts`.
const STEP: &str = "SUBJOBS_TEST_CUT_STEP";

#[test]
fn a_commit_that_is_cut_at_any_byte_is_applied_once() {
    let step: usize = std::env::var(STEP).map_or(97, |step| step.parse().unwrap());
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let database = migrated(cluster);
    let url = cluster.url(&database);
    let proxy = Proxy::start(cluster.address());
    let through = url.replace(&cluster.address().to_string(), &proxy.address.to_string());
    let program = start(&files, &through, &["--store-lanes", "1"]);
    report_at_last(&program, "first");
    let fault = |id: &str, direction, after| Fault { pattern: id.into(), direction, after, action: Action::Cut };
    // How many bytes a commit has.
    proxy.set_fault(fault("measured", Direction::ToServer, None));
    report_at_last(&program, "measured");
    let all = proxy.passed();
    let mut reports = 2;
    for (direction, bytes) in [(Direction::ToServer, all.to_server), (Direction::ToClient, all.to_client)] {
        let cuts: BTreeSet<usize> = (0..bytes).step_by(step).chain(bytes.saturating_sub(8)..bytes).collect();
        for after in cuts {
            let id = format!("{direction:?}-{after}");
            proxy.set_fault(fault(&id, direction, Some(after)));
            let response = report(&program, &id);
            if response.status == 200 {
                // The outcome is that of one application, even if the commit had to be found again.
                assert_eq!(response.json()["created"], 1, "{id}: {response:?}");
            } else {
                assert_unavailable(&response);
                report_at_last(&program, &id);
            }
            assert!(proxy.has_happened(), "{id}");
            reports += 1;
        }
    }
    assert_eq!(count_at_last(&program), reports);
    // Some commits were lost on their way, some on the way back.
    for resolved in ["committed", "absent"] {
        let series = format!("subjobs_store_unknown_total{{resolved=\"{resolved}\"}}");
        assert!(program.metric(&series) > Some(0), "{}", program.metrics());
    }
    assert_eq!(program.metric("subjobs_store_connected"), Some(1));
    assert!(program.metric("subjobs_store_committed_subtasks_total") >= Some(reports));
    assert!(program.metric("subjobs_store_counts_total") >= Some(1));
    assert_good(&url);
}
