//! One who only counts: a project that never changes, and those that others report.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

use crate::caller::{Caller, Failure};
use crate::filter::Filter;
use crate::support::sample::Random;
use crate::time::{self, Window};
use crate::world::World;

pub(crate) fn run(world: &World, mut random: Random) {
    let mut life = world.life();
    let mut caller = Caller::to(life.public);
    while !world.is_done() {
        let looked = if random.below(2) == 0 {
            look_at_frozen(world, &mut caller, &mut random)
        } else {
            look_at_changing(world, &mut caller, &mut random)
        };
        if let Err(failure) = looked {
            world.failed(life, &failure);
            let Some(next) = world.next(life) else { return };
            life = next;
            caller = Caller::to(life.public);
        }
        sleep(Duration::from_millis(random.below(4) as u64));
    }
}

fn look_at_frozen(world: &World, caller: &mut Caller, random: &mut Random) -> Result<(), Failure> {
    let filter = Filter::any_in(&world.frozen, random);
    let count = caller.count(&world.frozen.id, &filter)?;
    let (now, up) = (time::now(), world.life().up);
    let bounds = world.frozen.bounds(&filter, Window { from: now, to: now }, up);
    world.compare(&world.frozen.id, &filter, bounds, count);
    Ok(())
}

fn look_at_changing(world: &World, caller: &mut Caller, random: &mut Random) -> Result<(), Failure> {
    let history = &world.histories[random.below(world.histories.len())];
    let filter = Filter::any(random);
    let settled = history.settled();
    let count = caller.count(&history.project, &filter)?;
    let Some(possible) = history.since(settled, &filter) else { return Ok(()) };
    world.seen.counts.fetch_add(1, Relaxed);
    world.seen.exact.fetch_add(u64::from(possible.iter().all(|number| *number == possible[0])), Relaxed);
    if !possible.contains(&count) {
        let query = filter.query();
        world.differ(&format!("{}?{query} is {count} and should be one of {possible:?}", history.project));
    }
    Ok(())
}
