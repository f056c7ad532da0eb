//! The summary that the soak prints at its end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::shared::Totals;
use crate::supervisor::{Sample, Supervisor};
use crate::support::figures::Spread;

/// The part of the last instance's uptime that is left out of its memory growth.
const WARM_UP: f64 = 0.25;

/// Prints the summary. The last sample was taken at rest.
pub(crate) fn print(totals: &Totals, supervisor: &Supervisor<'_>, took: Duration, disk: f64) {
    let of = |number: &AtomicU64| number.load(Relaxed);
    let ([recounts, expired], [stops, kills]) =
        (supervisor.recounts_and_expired(), [supervisor.stops, supervisor.kills]);
    let [applied, absent, unknown] = [0, 1, 2].map(|number| of(&totals.unanswered[number]));
    println!();
    println!("minutes                      {:.1}", took.as_secs_f64() / 60.0);
    println!("stopped by SIGTERM, killed   {stops}, {kills} times");
    println!("slowest start                {:.2} s", supervisor.slowest_start.as_secs_f64());
    println!("reports                      {}, of {} subtasks", of(&totals.reports), of(&totals.records));
    println!("  without a response         {applied} found applied, {absent} absent, {unknown} the same either way");
    println!("expired                      {expired} subtasks");
    println!(
        "counts checked               {}, {} of them with one right answer",
        of(&totals.counts),
        of(&totals.exact)
    );
    println!("mismatches                   {}", of(&totals.mismatches));
    println!("recounts                     {recounts}, greatest mismatch {}", supervisor.max_mismatch);
    let samples = &supervisor.samples;
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

/// Prints the server's memory, within its first and last instance and from one instance to the next.
fn print_memory(samples: &[Sample]) {
    let instances: Vec<&[Sample]> = samples.chunk_by(|one, other| one.instance == other.instance).collect();
    let memory = |sample: &Sample| mib(sample.memory as f64);
    println!("memory, MiB                  median (least to greatest)");
    let (first, last) = (instances[0], instances[instances.len() - 1]);
    for (name, instance) in [("first", first), ("last", last)] {
        println!("  {name:5} instance             {}", Spread::of(instance.iter().map(memory)));
    }
    // Instances live for different times, and memory depends on the age.
    let age = instances.iter().map(|instance| instance[instance.len() - 1].age).fold(f64::MAX, f64::min);
    let at_age = instances.iter().filter_map(|instance| instance.iter().rfind(|sample| sample.age <= age));
    let at_age: Vec<_> = at_age.map(|sample| (f64::from(sample.instance), memory(sample))).collect();
    if let Some(slope) = slope(&at_age) {
        let [first, last] = [at_age[0].1, at_age[at_age.len() - 1].1];
        println!(
            "  instances {age:2.0} s old          {first:.1} the first, {last:.1} the last; {slope:+.2} an instance"
        );
    }
    let (from, to) = (WARM_UP * last[last.len() - 1].age, last[last.len() - 1].age);
    let warm = |figure: &dyn Fn(&Sample) -> f64| {
        let points = last.iter().filter(|sample| sample.age >= from).map(|sample| (sample.age / 60.0, figure(sample)));
        slope(&points.collect::<Vec<_>>())
    };
    if let (Some(memory), Some(sub_jobs)) = (warm(&memory), warm(&|sample| sample.sub_jobs as f64)) {
        println!("  growth, last instance      {memory:+.2} a minute from {from:.0} s to {to:.0} s of age");
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
