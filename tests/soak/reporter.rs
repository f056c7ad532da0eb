//! One who alone reports some projects, and therefore knows what they hold.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::caller::{Caller, Failure};
use crate::filter::Filter;
use crate::model::{Outcome, Project};
use crate::plan;
use crate::record::Record;
use crate::support::sample::Random;
use crate::time::{self, GRACE, Moment, RETAIN, Window};
use crate::world::{History, Life, World};

/// How long one project is reported before it rests, so that it is known again what is gone of it.
const TURN: Duration = Duration::from_secs(6);

pub(crate) struct Reporter<'a> {
    world: &'a World,
    life: Life,
    internal: Caller,
    public: Caller,
    random: Random,
    start: Instant,
    /// The first one is steady, and others watch it by its history.
    projects: Vec<Project>,
    history: &'a History,
    pending: Option<Pending>,
}

/// A report that has not been answered.
struct Pending {
    /// Which project's.
    of: usize,
    batch: Vec<Record>,
    /// The project without it.
    before: Project,
    /// From when it was sent first until it failed last.
    sent: Window,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(world: &'a World, projects: Vec<Project>, history: &'a History, random: Random) -> Self {
        let life = world.life();
        let [internal, public] = [life.internal, life.public].map(Caller::to);
        Self { world, life, internal, public, random, start: Instant::now(), projects, history, pending: None }
    }

    /// Reports and counts until the soak is over, through all lives of the server; what the projects hold in the end.
    pub(crate) fn run(mut self) -> Vec<Project> {
        let mut done = false;
        while !done {
            let went = if self.world.is_done() { self.end().map(|()| done = true) } else { self.round() };
            let Err(mut failure) = went else { continue };
            loop {
                self.world.failed(self.life, &failure);
                let Some(next) = self.world.next(self.life) else { return self.projects };
                match self.begin_again(next) {
                    Ok(()) => break,
                    Err(next) => failure = next,
                }
            }
        }
        self.projects
    }

    /// A report and some counts.
    fn round(&mut self) -> Result<(), Failure> {
        let others = self.projects.len() - 1;
        let turn = (self.start.elapsed().as_secs() / TURN.as_secs()) as usize;
        let of = if self.random.below(4) == 0 { 0 } else { 1 + turn % others };
        let now = time::now();
        let up = self.world.life().up;
        self.projects[of].sweep(now, up);
        let (batch, after) = plan::report(&self.projects[of], &mut self.random, now, up);
        if of == 0 {
            self.history.may_become(after.cells());
        }
        self.projects[of].newest_job = after.newest_job;
        let before = self.projects[of].clone();
        self.pending = Some(Pending { of, batch, before, sent: Window { from: now, to: now } });
        let (answer, sent) = self.send()?;
        if let Some(Pending { of, batch, .. }) = self.pending.take() {
            let expected = self.projects[of].take(&batch, sent, up);
            self.check(of, expected.allows(answer), &[expected], answer);
            self.settled(of, &batch);
        }
        for _ in 0..2 + self.random.below(6) {
            self.count(of)?;
        }
        let other = self.random.below(self.projects.len());
        self.count(other)?;
        sleep(Duration::from_millis(self.random.below(10) as u64));
        Ok(())
    }

    /// Sends what is pending; the answer, and when it was taken.
    fn send(&mut self) -> Result<(Outcome, Window), Failure> {
        let as_lines = self.random.below(2) == 0;
        let pending = self.pending.as_mut().unwrap();
        let from = time::now();
        let answer = self.internal.report(&pending.before.id, &pending.batch, as_lines);
        pending.sent.to = time::now();
        Ok((answer?, Window { from, ..pending.sent }))
    }

    fn settled(&self, of: usize, batch: &[Record]) {
        if of == 0 {
            self.history.has_become();
        }
        self.world.seen.reports.fetch_add(1, Relaxed);
        self.world.seen.records.fetch_add(batch.len() as u64, Relaxed);
    }

    fn check(&self, of: usize, is_right: bool, expected: &[Outcome], answer: Outcome) {
        if !is_right {
            let project = &self.projects[of].id;
            self.world.differ(&format!("a report of {project} was {answer:?} and should be {expected:?}"));
        }
    }

    fn count(&mut self, of: usize) -> Result<(), Failure> {
        let filter = Filter::any_in(&self.projects[of], &mut self.random);
        let project = &self.projects[of];
        let (count, between) = count(&mut self.public, project, &filter)?;
        self.world.compare(&project.id, &filter, project.bounds(&filter, between, self.world.life().up), count);
        Ok(())
    }

    /// Goes on with another life of the server: finds out what has become of a report, and whether all else is as it was.
    fn begin_again(&mut self, life: Life) -> Result<(), Failure> {
        self.life = life;
        [self.internal, self.public] = [life.internal, life.public].map(Caller::to);
        if self.pending.is_some() {
            self.resolve()?;
        }
        self.verify()
    }

    /// Finds out whether an unanswered report was taken, which must be whole or not at all, and sends it again.
    fn resolve(&mut self) -> Result<(), Failure> {
        let up = self.world.life().up;
        let pending = self.pending.as_ref().unwrap();
        let (of, first, mut absent) = (pending.of, pending.sent, pending.before.clone());
        let mut whole = absent.clone();
        whole.take(&pending.batch, first, up);
        let mut fits = [true; 2];
        for filter in Filter::all(&[&absent, &whole]) {
            let (count, between) = count(&mut self.public, &absent, &filter)?;
            self.world.seen.counts.fetch_add(1, Relaxed);
            let bounds = [&absent, &whole].map(|project| project.bounds(&filter, between, up));
            for (fits, (least, most)) in fits.iter_mut().zip(bounds) {
                *fits &= (least..=most).contains(&count);
            }
            if fits == [false; 2] {
                let (project, query) = (&absent.id, filter.query());
                let what = format!("after an unanswered report {project}?{query} is {count}, neither of {bounds:?}");
                self.world.differ(&what);
                break;
            }
        }
        let (answer, again) = self.send()?;
        let batch = self.pending.take().unwrap().batch;
        let mut either = absent.clone();
        let expected = [absent.take(&batch, again, up), whole.take(&batch, again, up)];
        let [is_absent, is_whole] = [0, 1].map(|number| fits[number] && expected[number].allows(answer));
        self.check(of, is_absent || is_whole, &expected, answer);
        either.take(&batch, Window { from: first.from, to: again.to }, up);
        let (became, project) = match (is_whole, is_absent) {
            (true, false) => (0, whole),
            (false, _) => (1, absent),
            (true, true) => (2, either),
        };
        self.world.seen.unanswered[became].fetch_add(1, Relaxed);
        self.projects[of] = project;
        self.settled(of, &batch);
        Ok(())
    }

    /// Compares everything.
    fn verify(&mut self) -> Result<(), Failure> {
        for project in &mut self.projects {
            project.sweep(time::now(), self.world.life().up);
            for filter in Filter::all(&[project]) {
                let (count, between) = count(&mut self.public, project, &filter)?;
                let bounds = project.bounds(&filter, between, self.world.life().up);
                self.world.compare(&project.id, &filter, bounds, count);
            }
        }
        Ok(())
    }

    /// Compares everything once it is known of every subtask whether it is gone.
    fn end(&mut self) -> Result<(), Failure> {
        if self.world.has_differed() {
            return Ok(());
        }
        // An end is at most some seconds ahead when it is reported.
        sleep(RETAIN + GRACE + Duration::from_secs(4));
        self.verify()
    }
}

/// A count, and when it was made.
fn count(caller: &mut Caller, project: &Project, filter: &Filter) -> Result<(u64, Window), Failure> {
    let from: Moment = time::now();
    let count = caller.count(&project.id, filter)?;
    Ok((count, Window { from, to: time::now() }))
}
