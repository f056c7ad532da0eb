//! Writes realistic subtasks as NDJSON, for loading and measuring a server (`subjobs serve --load FILE`):
//! `cargo run --release --example generate -- 1000000 > million.ndjson`.
//!
//! Sizes, types and statuses are skewed (an assumption): a few projects hold most jobs, most jobs are small, most
//! create servers and most subtasks have succeeded. The same N, seed and options give the same bytes on every
//! machine, so only integers are computed with. Optional fields are drawn from a generator of their own, so that
//! `--required-only` writes the same subtasks without them.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

const HELP: &str = "\
Writes N realistic subtasks to standard output, one JSON object a line.

Usage: generate N [--seed S] [--required-only]

  N                how many subtasks to write
  --seed S         another seed gives other subtasks, the same seed the same bytes [default: 1]
  --required-only  only project_id, id, job_id, job_type and status: the smallest subtasks there are
  -h, --help       this text

All ids are unique. Every job type and status occurs in files of some 20,000 lines and more.
";

/// A table to draw from, like those below: each value with its weight.
const JOB_TYPES: [(&str, u64); 19] = [
    ("CREATE_SERVER", 560),
    ("DELETE_SERVER", 130),
    ("UPGRADE_ACCESS_AGENT", 60),
    ("REINSTALL_OS", 35),
    ("CREATE_SERVER_SNAPSHOT", 30),
    ("UPDATE_SERVER_TSVI", 25),
    ("SCHEDULED_TASK", 25),
    ("CHANGE_SERVER_IMAGE", 20),
    ("BATCH_INSTALL_APP", 20),
    ("INSTALL_CES_AGENT", 15),
    ("CREATE_SERVER_IMAGE", 12),
    ("REJOIN_DOMAIN", 12),
    ("DELETE_SERVER_SNAPSHOT", 12),
    ("UPDATE_FREEZE_STATUS", 10),
    ("RESTORE_SERVER_SNAPSHOT", 8),
    ("MIGRATE_SERVER", 8),
    ("COLLECT_APS_LOG", 6),
    ("COLLECT_HDA_LOG", 6),
    ("UNINSTALL_CES_AGENT", 6),
];

/// The stages of a job, and the statuses of its subtasks in each.
const STAGES: [(&[(&str, u64)], u64); 3] = [(&OVER, 92), (&UNDER_WAY, 6), (&STOPPED, 2)];
const OVER: [(&str, u64); 3] = [("SUCCESS", 955), ("FAILED", 35), ("ABNORMAL", 10)];
const UNDER_WAY: [(&str, u64); 4] = [("SUCCESS", 40), ("WAITING", 32), ("RUNNING", 25), ("FAILED", 3)];
const STOPPED: [(&str, u64); 4] = [("ABORTING", 45), ("ROLLBACK", 35), ("SUCCESS", 15), ("FAILED", 5)];

/// Error codes and messages, escaped for JSON.
const ERRORS: [(&str, u64); 5] = [
    (r#""WKS.00129901","error_message":"The service is now unavailable to process the request.""#, 50),
    (r#""WKS.00129902","error_message":"The flavor is sold out in this availability zone.""#, 25),
    (r#""WKS.00120101","error_message":"The image \"desktop-base\" does not exist or is not active.""#, 12),
    (r#""WKS.00120203","error_message":"The server did not join the domain within 1800 s.""#, 10),
    (r#""WKS.00149901","error_message":"内部错误。""#, 3),
];

/// Every job begins before this. Times are milliseconds since the start of 2025, in a calendar with months of 28 days.
const NOW: u64 = 300 * 86_400_000;

pub(crate) struct Options {
    pub(crate) subtasks: u64,
    pub(crate) seed: u64,
    pub(crate) required_only: bool,
}

fn main() -> ExitCode {
    let written = match parse(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned())) {
        Ok(Some(options)) => generate(&options, &mut io::stdout().lock()),
        Ok(None) => io::stdout().lock().write_all(HELP.as_bytes()),
        Err(reason) => {
            eprintln!("generate: {reason}; --help explains");
            return ExitCode::from(2);
        }
    };
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("generate: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS, // the reader closed the pipe, as `head` does
    }
}

/// Parses the options; `None` asks for help.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let (mut subtasks, mut seed, mut required_only) = (None, None, false);
    let number =
        |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number from 0 to {}", u64::MAX));
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--required-only" => required_only = true,
            "--seed" if seed.is_none() => seed = Some(number(&args.next().ok_or("--seed needs a number")?)?),
            "--seed" => return Err("--seed is given twice".to_owned()),
            option if option.starts_with('-') => return Err(format!("unknown option {option:?}")),
            text if subtasks.is_none() => subtasks = Some(number(text)?),
            more => return Err(format!("N is given twice: {more:?}")),
        }
    }
    let subtasks = subtasks.ok_or("N, the number of subtasks, is missing")?;
    Ok(Some(Options { subtasks, seed: seed.unwrap_or(1), required_only }))
}

pub(crate) fn generate(options: &Options, out: &mut impl Write) -> io::Result<()> {
    let mut seeds = Random(options.seed);
    let (mut rng, mut extra, mut names) = (Random(seeds.next()), Random(seeds.next()), Random(seeds.next()));
    let count = (2 * options.subtasks.isqrt()).clamp(1, 100_000);
    let projects: Vec<[u8; 32]> = (0..count).map(|_| hex(names.next(), names.next())).collect();

    let mut buf = Vec::with_capacity(1 << 18);
    let mut left = options.subtasks;
    while left > 0 {
        let project = &projects[rng.project(count)];
        let job_id = rng.uuid();
        let job_type = rng.pick(&JOB_TYPES);
        let stage = rng.pick(&STAGES);
        let size = rng.job_size().min(left);
        left -= size;
        let extras = (!options.required_only).then(|| Extras::draw(&mut extra, stage != OVER));
        for position in 0..size {
            // The subtasks of a job have one type, but for one in 64.
            let job_type = if rng.below(64) == 0 { rng.pick(&JOB_TYPES) } else { job_type };
            let status = rng.pick(stage);
            put(&mut buf, &[br#"{"project_id":""#, project, br#"","id":""#, &rng.uuid()]);
            put(&mut buf, &[br#"","job_id":""#, &job_id, br#"","job_type":""#, job_type.as_bytes()]);
            put(&mut buf, &[br#"","status":""#, status.as_bytes(), b"\""]);
            if let Some(extras) = &extras {
                extras.put(&mut buf, &mut extra, status, position);
            }
            buf.extend_from_slice(b"}\n");
            if buf.len() >= 1 << 17 {
                out.write_all(&buf)?;
                buf.clear();
            }
        }
    }
    out.write_all(&buf)?;
    out.flush()
}

/// The optional fields of the subtasks of one job, and the time at which it began.
struct Extras {
    versioned: bool,
    begin: Option<u64>,
    described: bool,
}

impl Extras {
    /// Unfinished jobs began in the last two hours.
    fn draw(rng: &mut Random, recent: bool) -> Self {
        let ago = rng.below(if recent { 7_200_000 } else { NOW });
        let begin = (rng.below(4) != 0).then_some(NOW - ago);
        Self { versioned: rng.below(5) != 0, begin, described: rng.below(3) != 0 }
    }

    fn put(&self, buf: &mut Vec<u8>, rng: &mut Random, status: &str, position: u64) {
        let failed = matches!(status, "FAILED" | "ABNORMAL");
        if self.versioned {
            buf.extend_from_slice(br#","version":"#);
            buf.push(if status == "WAITING" { b'1' } else { b'2' + rng.below(8) as u8 });
        }
        if let Some(begin) = self.begin {
            let begin = begin + position * 150 + rng.below(150);
            put(buf, &[br#","begin_time":""#, &timestamp(begin)]);
            if failed || status == "SUCCESS" {
                put(buf, &[br#"","end_time":""#, &timestamp(begin + 5_000 + rng.below(1_200_000)), b"\""]);
            } else {
                buf.extend_from_slice(br#"","end_time":null"#);
            }
        }
        if self.described && status != "WAITING" {
            let name: [u8; 10] = std::array::from_fn(|_| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[rng.below(32) as usize]);
            put(buf, &[br#","job_resource_info":{"resource_id":""#, &rng.uuid()]);
            put(buf, &[br#"","resource_name":"APS-"#, &name, br#""}"#]);
        }
        if failed {
            put(buf, &[br#","error_code":"#, rng.pick(&ERRORS).as_bytes()]);
        }
    }
}

/// SplitMix64: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound` - 1.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn pick<T: Copy>(&mut self, table: &[(T, u64)]) -> T {
        let mut roll = self.below(table.iter().map(|(_, weight)| weight).sum());
        for &(value, weight) in table {
            if roll < weight {
                return value;
            }
            roll -= weight;
        }
        unreachable!("the roll is below the sum of all weights")
    }

    /// A number below `count`; each power of two is as likely as the next, which is much like Zipf's law.
    fn project(&mut self, count: u64) -> usize {
        loop {
            let octave = 1 << self.below(u64::from(count.ilog2()) + 1);
            let index = octave - 1 + self.below(octave);
            if index < count {
                return index as usize;
            }
        }
    }

    /// 1 to 511, of two powers of two the smaller one, so that most jobs are small.
    fn job_size(&mut self) -> u64 {
        let octave = 1 << self.below(9).min(self.below(9));
        octave + self.below(octave)
    }

    /// A version 4 UUID.
    fn uuid(&mut self) -> [u8; 36] {
        let high = self.next() & !0xf000 | 0x4000;
        let low = self.next() & !(0b11 << 62) | 0b10 << 62;
        let digits = hex(high, low);
        let mut text = [b'-'; 36];
        for (to, from, length) in [(0, 0, 8), (9, 8, 4), (14, 12, 4), (19, 16, 4), (24, 20, 12)] {
            text[to..to + length].copy_from_slice(&digits[from..from + length]);
        }
        text
    }
}

fn put(buf: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        buf.extend_from_slice(part);
    }
}

fn hex(high: u64, low: u64) -> [u8; 32] {
    let bits = u128::from(high) << 64 | u128::from(low);
    std::array::from_fn(|digit| b"0123456789abcdef"[(bits >> (124 - 4 * digit)) as usize & 0xf])
}

/// RFC 3339 with milliseconds.
fn timestamp(millis: u64) -> [u8; 24] {
    let (month, day) = (millis / (28 * 86_400_000) + 1, millis / 86_400_000 % 28 + 1);
    let (hour, minute) = (millis / 3_600_000 % 24, millis / 60_000 % 60);
    let (second, milli) = (millis / 1_000 % 60, millis % 1_000);
    let mut text = *b"2025-00-00T00:00:00.000Z";
    for (at, value) in [(5, month), (8, day), (11, hour), (14, minute), (17, second), (20, milli / 10)] {
        text[at..at + 2].copy_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
    }
    text[22] = b'0' + (milli % 10) as u8;
    text
}
