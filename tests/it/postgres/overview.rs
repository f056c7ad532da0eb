//! The numbers of the page in a shared store.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::support::blocking::get;
use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Program;
use crate::support::replicas::{migrated, report_at_last, start};
use crate::support::wait::until;

fn overview(program: &Program) -> Value {
    let response = get(program.internal, "/overview", "");
    assert_eq!(response.status, 200);
    serde_json::from_str(response.text()).unwrap()
}

#[test]
fn totals_are_sampled_only_while_somebody_looks() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let url = cluster.url(&migrated(&cluster));
    let (first, second) = (start(&files, &url, &[]), start(&files, &url, &[]));
    report_at_last(&first, "1");
    // Longer than the time between two samples: that none is known has no event.
    sleep(Duration::from_secs(6));
    let shown = overview(&second);
    assert_eq!((&shown["store"], &shown["state"], &shown["total"]), (&"postgres".into(), &"ready".into(), &1.into()));
    let total =
        |overview: &Value| overview["by_status"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(total(&shown), 1);
    let samples = |overview: &Value| overview["history"]["by_status"]["RUNNING"].as_array().unwrap().clone();
    assert!(!samples(&shown).is_empty() && samples(&shown).iter().all(Value::is_null), "{shown}");
    until("a sample has totals", || samples(&overview(&second)).last().unwrap().is_number().then_some(()));
}
