//! The primary is killed and its synchronous standby promoted.

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::replicas::{migrated, start, work_while};

#[test]
fn a_promoted_synchronous_standby_has_every_acknowledged_report() {
    for version in Version::installed() {
        let (files, mut primary) = (Files::new(), Cluster::start(version));
        let database = migrated(&primary);
        let standby = primary.start_standby(true);
        let (first, second) = (primary.address().to_string(), standby.address());
        let url = primary.url(&database).replace(&first, &format!("{first},{second}"));
        let programs = [start(&files, &url, &[]), start(&files, &url, &[])];
        work_while(&programs, &url, |await_reports| {
            await_reports(100);
            primary.kill();
            standby.promote();
            await_reports(100);
        });
    }
}
