//! The second flight of a transaction: what it writes.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use crate::store::postgres::pace::is_alone;
use crate::store::postgres::statements::Statements;
use crate::store::postgres::writes::{Rows, Tallies, Writes};

/// A statement, which is sent when it is polled first, and its answer: a number.
pub(super) type Step<'a> = Pin<Box<dyn Future<Output = Result<i64, Error>> + Send + 'a>>;

/// The statements that write, in order. Each has at most `slice` rows.
///
/// A transaction that adds subtasks takes the block of their places under locks that it holds until the commit. The rows that most
/// transactions change come last: the projects, which also makes those that change the counters of a project wait for each other.
pub(super) fn steps<'a>(
    client: &'a Client,
    statements: &'a Statements,
    writes: &'a Writes,
    slice: usize,
) -> impl Iterator<Item = Step<'a>> {
    let rows = move |statement: &'a Statement, rows: &'a Rows| {
        let write = move |range| -> Step<'a> { Box::pin(write_rows(client, statement, rows, range)) };
        slices(rows.ids.len(), slice).map(write)
    };
    let tallies = move |statement: &'a Statement, tallies: &'a Tallies| {
        let write = move |range| -> Step<'a> { Box::pin(write_tallies(client, statement, tallies, range)) };
        slices(tallies.projects.len(), slice).map(write)
    };
    let is_alone = is_alone(writes.rows(), slice);
    let take = move || -> Step<'a> { Box::pin(take_block(client, &statements.block, &writes.classes, is_alone)) };
    (!writes.classes.is_empty())
        .then(take)
        .into_iter()
        .chain(rows(&statements.insert, &writes.inserted))
        .chain(rows(&statements.update, &writes.updated))
        .chain(write_pairs(client, &statements.delete, &writes.deleted, slice))
        .chain(write_pairs(client, &statements.revisions, &writes.revisions, slice))
        .chain(tallies(&statements.of_jobs, &writes.of_jobs))
        .chain(write_pairs(client, &statements.remove_jobs, &writes.decreased, slice))
        .chain(tallies(&statements.of_projects, &writes.of_projects))
}

/// The ranges of rows that a statement writes at once.
fn slices(rows: usize, slice: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(slice).map(move |from| from..rows.min(from + slice))
}

async fn take_block(client: &Client, statement: &Statement, classes: &[i32], is_alone: bool) -> Result<i64, Error> {
    client.query_one(statement, &[&classes, &is_alone]).await?.try_get(0)
}

async fn execute(client: &Client, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<i64, Error> {
    Ok(client.execute(statement, values).await? as i64)
}

async fn write_rows(
    client: &Client,
    statement: &Statement,
    rows: &Rows,
    Range { start, end }: Range<usize>,
) -> Result<i64, Error> {
    let values: [&(dyn ToSql + Sync); 9] = [
        &&rows.projects[start..end],
        &&rows.ids[start..end],
        &&rows.jobs[start..end],
        &&rows.job_types[start..end],
        &&rows.statuses[start..end],
        &&rows.versions[start..end],
        &&rows.places[start..end],
        &&rows.ended[start..end],
        &&rows.details[start..end],
    ];
    execute(client, statement, &values).await
}

async fn write_tallies(
    client: &Client,
    statement: &Statement,
    tallies: &Tallies,
    Range { start, end }: Range<usize>,
) -> Result<i64, Error> {
    let (projects, job_types) = (&tallies.projects[start..end], &tallies.job_types[start..end]);
    let counts = tallies.counts.each_ref().map(|column| &column[start..end]);
    let of_jobs = (!tallies.jobs.is_empty()).then(|| (&tallies.jobs[start..end], &tallies.job_ids[start..end]));
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&projects];
    if let Some((jobs, job_ids)) = &of_jobs {
        values.extend([jobs as &(dyn ToSql + Sync), job_ids]);
    }
    values.push(&job_types);
    values.extend(counts.iter().map(|column| column as &(dyn ToSql + Sync)));
    execute(client, statement, &values).await
}

/// Writes rows of two columns.
fn write_pairs<'a, A: ToSql + Sync, B: ToSql + Sync>(
    client: &'a Client,
    statement: &'a Statement,
    (first, second): &'a (Vec<A>, Vec<B>),
    slice: usize,
) -> impl Iterator<Item = Step<'a>> {
    slices(first.len(), slice).map(move |Range { start, end }| -> Step<'a> {
        Box::pin(async move { execute(client, statement, &[&&first[start..end], &&second[start..end]]).await })
    })
}
