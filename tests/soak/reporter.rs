//! A thread that alone reports some projects, and therefore knows their state.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::{Client, Failure};
use crate::filter::Filter;
use crate::generate;
use crate::model::{Outcome, Project};
use crate::record::Record;
use crate::shared::{History, Instance, Shared};
use crate::support::sample::Random;
use crate::time::{self, EXPIRY_GRACE, RETENTION, UnixMillis, Window};

/// How long a reporter stays with one project. While a project rests, its subtasks expire for certain.
const PROJECT_TURN: Duration = Duration::from_secs(6);

pub(crate) struct Reporter<'a> {
    shared: &'a Shared,
    instance: Instance,
    internal: Client,
    public: Client,
    random: Random,
    start: Instant,
    /// The first one never expires, and observers check it by its history.
    projects: Vec<Project>,
    history: &'a History,
    pending: Option<Pending>,
}

/// A report without a response.
struct Pending {
    /// The index of its project.
    project: usize,
    batch: Vec<Record>,
    /// The state of the project without it.
    before: Project,
    /// From the first attempt until the last one failed.
    sent: Window,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(shared: &'a Shared, projects: Vec<Project>, history: &'a History, random: Random) -> Self {
        let instance = shared.instance();
        let [internal, public] = [instance.internal, instance.public].map(Client::new);
        Self { shared, instance, internal, public, random, start: Instant::now(), projects, history, pending: None }
    }

    /// Reports and counts until the soak is over, through all instances of the server. Returns the final state of its
    /// projects.
    pub(crate) fn run(mut self) -> Vec<Project> {
        let mut done = false;
        while !done {
            let went =
                if self.shared.is_done() { self.final_check().map(|()| done = true) } else { self.report_and_count() };
            let Err(mut failure) = went else { continue };
            loop {
                self.shared.request_failed(self.instance, &failure);
                let Some(next) = self.shared.wait_for_next(self.instance) else { return self.projects };
                match self.resume(next) {
                    Ok(()) => break,
                    Err(next) => failure = next,
                }
            }
        }
        self.projects
    }

    /// Sends one report and some counts, and checks their responses.
    fn report_and_count(&mut self) -> Result<(), Failure> {
        let others = self.projects.len() - 1;
        let turn = (self.start.elapsed().as_secs() / PROJECT_TURN.as_secs()) as usize;
        let index = if self.random.below(4) == 0 { 0 } else { 1 + turn % others };
        let now = time::now();
        let up = self.shared.instance().up;
        self.projects[index].remove_expired(now, up);
        let (batch, after) = generate::random_report(&self.projects[index], &mut self.random, now, up);
        if index == 0 {
            self.history.expect_next(after.counters());
        }
        self.projects[index].newest_job = after.newest_job;
        let before = self.projects[index].clone();
        self.pending = Some(Pending { project: index, batch, before, sent: Window { from: now, to: now } });
        let (answer, sent) = self.send()?;
        if let Some(Pending { project: index, batch, .. }) = self.pending.take() {
            let expected = self.projects[index].apply(&batch, sent, up);
            self.check_outcome(index, expected.accepts(answer), &[expected], answer);
            self.report_applied(index, &batch);
        }
        for _ in 0..2 + self.random.below(6) {
            self.count(index)?;
        }
        let other = self.random.below(self.projects.len());
        self.count(other)?;
        sleep(Duration::from_millis(self.random.below(10) as u64));
        Ok(())
    }

    /// Sends the pending report. Returns the response, and when the server has applied the report.
    fn send(&mut self) -> Result<(Outcome, Window), Failure> {
        let as_ndjson = self.random.below(2) == 0;
        let pending = self.pending.as_mut().unwrap();
        let from = time::now();
        let answer = self.internal.report(&pending.before.id, &pending.batch, as_ndjson);
        pending.sent.to = time::now();
        Ok((answer?, Window { from, ..pending.sent }))
    }

    fn report_applied(&self, index: usize, batch: &[Record]) {
        if index == 0 {
            self.history.confirm_newest();
        }
        self.shared.totals.reports.fetch_add(1, Relaxed);
        self.shared.totals.records.fetch_add(batch.len() as u64, Relaxed);
    }

    fn check_outcome(&self, index: usize, is_right: bool, expected: &[Outcome], answer: Outcome) {
        if !is_right {
            let project = &self.projects[index].id;
            self.shared.report_mismatch(&format!("a report of {project} was {answer:?} and should be {expected:?}"));
        }
    }

    fn count(&mut self, index: usize) -> Result<(), Failure> {
        let filter = Filter::random_for(&self.projects[index], &mut self.random);
        let project = &self.projects[index];
        let (count, between) = count(&mut self.public, project, &filter)?;
        self.shared.check_count(
            &project.id,
            &filter,
            project.count_bounds(&filter, between, self.shared.instance().up),
            count,
        );
        Ok(())
    }

    /// Goes on with the next instance: finds out whether the pending report was applied, and checks everything else.
    fn resume(&mut self, instance: Instance) -> Result<(), Failure> {
        self.instance = instance;
        [self.internal, self.public] = [instance.internal, instance.public].map(Client::new);
        if self.pending.is_some() {
            self.resolve_pending()?;
        }
        self.verify_all()
    }

    /// Finds out whether a report without a response was applied, which must be as a whole or not at all, and repeats it.
    fn resolve_pending(&mut self) -> Result<(), Failure> {
        let up = self.shared.instance().up;
        let pending = self.pending.as_ref().unwrap();
        let (index, first, mut absent) = (pending.project, pending.sent, pending.before.clone());
        let mut applied = absent.clone();
        applied.apply(&pending.batch, first, up);
        let mut fits = [true; 2];
        for filter in Filter::exhaustive(&[&absent, &applied]) {
            let (count, between) = count(&mut self.public, &absent, &filter)?;
            self.shared.totals.counts.fetch_add(1, Relaxed);
            let bounds = [&absent, &applied].map(|project| project.count_bounds(&filter, between, up));
            for (fits, (least, most)) in fits.iter_mut().zip(bounds) {
                *fits &= (least..=most).contains(&count);
            }
            if fits == [false; 2] {
                let (project, query) = (&absent.id, filter.query());
                let what =
                    format!("after a report without a response {project}?{query} is {count}, neither of {bounds:?}");
                self.shared.report_mismatch(&what);
                break;
            }
        }
        let (answer, again) = self.send()?;
        let batch = self.pending.take().unwrap().batch;
        let mut either = absent.clone();
        let expected = [absent.apply(&batch, again, up), applied.apply(&batch, again, up)];
        let [is_absent, is_applied] = [0, 1].map(|number| fits[number] && expected[number].accepts(answer));
        self.check_outcome(index, is_absent || is_applied, &expected, answer);
        either.apply(&batch, Window { from: first.from, to: again.to }, up);
        let (became, project) = match (is_applied, is_absent) {
            (true, false) => (0, applied),
            (false, _) => (1, absent),
            (true, true) => (2, either),
        };
        self.shared.totals.unanswered[became].fetch_add(1, Relaxed);
        self.projects[index] = project;
        self.report_applied(index, &batch);
        Ok(())
    }

    /// Checks every count of every project.
    fn verify_all(&mut self) -> Result<(), Failure> {
        for project in &mut self.projects {
            project.remove_expired(time::now(), self.shared.instance().up);
            for filter in Filter::exhaustive(&[project]) {
                let (count, between) = count(&mut self.public, project, &filter)?;
                let bounds = project.count_bounds(&filter, between, self.shared.instance().up);
                self.shared.check_count(&project.id, &filter, bounds, count);
            }
        }
        Ok(())
    }

    /// Checks everything once no subtask's expiry is uncertain.
    fn final_check(&mut self) -> Result<(), Failure> {
        if self.shared.has_mismatch() {
            return Ok(());
        }
        // A reported end time is at most some seconds ahead.
        sleep(RETENTION + EXPIRY_GRACE + Duration::from_secs(4));
        self.verify_all()
    }
}

/// A count, and when it was made.
fn count(client: &mut Client, project: &Project, filter: &Filter) -> Result<(u64, Window), Failure> {
    let from: UnixMillis = time::now();
    let count = client.count(&project.id, filter)?;
    Ok((count, Window { from, to: time::now() }))
}
