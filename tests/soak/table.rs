//! What there is to tell in the end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::course::{Course, Sample};
use crate::support::figures::Spread;
use crate::world::Seen;

/// Which part of the last life is left out before it is judged whether memory grows.
const WARM_UP: f64 = 0.25;

/// Prints it; the last sample is one at rest.
pub(crate) fn print(seen: &Seen, course: &Course<'_>, took: Duration, disk: f64) {
    let of = |number: &AtomicU64| number.load(Relaxed);
    let ([recounts, expired], [ended, killed]) = (course.recounts_and_expired(), course.ends);
    let [whole, absent, unknown] = [0, 1, 2].map(|number| of(&seen.unanswered[number]));
    println!();
    println!("minutes                      {:.1}", took.as_secs_f64() / 60.0);
    println!("ended by a signal, killed    {ended}, {killed} times");
    println!("slowest start                {:.2} s", course.slowest_start.as_secs_f64());
    println!("reports                      {}, of {} subtasks", of(&seen.reports), of(&seen.records));
    println!("  unanswered at an end       {whole} found whole, {absent} absent, {unknown} the same either way");
    println!("dropped by retention         {expired} subtasks");
    println!("counts compared              {}, {} of them with one right answer", of(&seen.counts), of(&seen.exact));
    println!("differences                  {}", of(&seen.differences));
    println!("recounts                     {recounts}, a drift of {}", course.drift);
    let samples = &course.samples;
    print_memory(samples);
    let all = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
    let descriptors = all(|sample| sample.descriptors as f64);
    println!("file descriptors             {:.0} to {:.0}", descriptors.min, descriptors.max);
    let at_rest = [0, samples.len() - 1].map(|number| samples[number].descriptors);
    println!("  at rest                    {} at the beginning, {} in the end", at_rest[0], at_rest[1]);
    println!(
        "disk, MiB                    {:.1} in the end, {:.1} at most",
        mib(disk),
        mib(all(|s| s.disk as f64).max)
    );
}

/// How much memory the server took, in its lives and from one to the other.
fn print_memory(samples: &[Sample]) {
    let lives: Vec<&[Sample]> = samples.chunk_by(|one, other| one.life == other.life).collect();
    let memory = |sample: &Sample| mib(sample.memory as f64);
    println!("memory, MiB                  median (least to greatest)");
    let (first, last) = (lives[0], lives[lives.len() - 1]);
    for (name, life) in [("first", first), ("last", last)] {
        println!("  in the {name:5} life          {}", Spread::of(life.iter().map(memory)));
    }
    // Lives are of different lengths, and memory depends on the age.
    let age = lives.iter().map(|life| life[life.len() - 1].age).fold(f64::MAX, f64::min);
    let at_age = lives.iter().filter_map(|life| life.iter().rfind(|sample| sample.age <= age));
    let at_age: Vec<_> = at_age.map(|sample| (f64::from(sample.life), memory(sample))).collect();
    if let Some(slope) = slope(&at_age) {
        let [first, last] = [at_age[0].1, at_age[at_age.len() - 1].1];
        println!("  of lives {age:2.0} s old          {first:.1} the first, {last:.1} the last; {slope:+.2} a life");
    }
    let (from, to) = (WARM_UP * last[last.len() - 1].age, last[last.len() - 1].age);
    let warm = |figure: &dyn Fn(&Sample) -> f64| {
        let points = last.iter().filter(|sample| sample.age >= from).map(|sample| (sample.age / 60.0, figure(sample)));
        slope(&points.collect::<Vec<_>>())
    };
    if let (Some(memory), Some(sub_jobs)) = (warm(&memory), warm(&|sample| sample.sub_jobs as f64)) {
        println!("  in the last life           {memory:+.2} a minute from {from:.0} s to {to:.0} s of age");
        let stored = last.iter().map(|sample| sample.sub_jobs as f64);
        println!("  subtasks stored then       {}; {sub_jobs:+.0} a minute", Spread::of(stored));
    }
}

/// The median slope between any two points.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let pairs = points.iter().enumerate().flat_map(|(at, one)| points[at + 1..].iter().map(move |other| (one, other)));
    let slopes: Vec<_> = pairs.map(|(one, other)| (other.1 - one.1) / (other.0 - one.0)).collect();
    (!slopes.is_empty()).then(|| Spread::of(slopes).median)
}

fn mib(bytes: f64) -> f64 {
    bytes / 1024.0 / 1024.0
}
