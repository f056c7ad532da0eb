//! What a caller waits for: a count of a project's subtasks, or another revision of the project.

use super::{CountFilter, MAX_COUNT, StatusSet};

/// What a caller waits for: one of the two, if both are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitCondition {
    /// Which subtasks are counted. Its status is ignored.
    pub filter: CountFilter,
    /// The statuses that are counted.
    pub statuses: StatusSet,
    /// Until the count compares so.
    pub until: Option<Comparison>,
    /// Until the project's revision is another one.
    pub revision: Option<u64>,
}

impl WaitCondition {
    /// Whether a count and a revision are what the caller waits for.
    pub fn holds(&self, count: u64, revision: u64) -> bool {
        self.until.is_some_and(|until| until.holds(count)) || self.revision.is_some_and(|known| known != revision)
    }
}

/// A comparison of a count with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// How they compare.
    pub operator: Operator,
    /// The number, at most [`MAX_COUNT`].
    pub number: u64,
}

/// How a count compares with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are named as everywhere")]
pub enum Operator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    /// Whether it holds for a count. One above [`MAX_COUNT`] is taken for it, as in answers.
    pub fn holds(self, count: u64) -> bool {
        let (count, number) = (count.min(MAX_COUNT), self.number);
        match self.operator {
            Operator::Eq => count == number,
            Operator::Ne => count != number,
            Operator::Lt => count < number,
            Operator::Le => count <= number,
            Operator::Gt => count > number,
            Operator::Ge => count >= number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_above_the_maximum_compares_as_the_maximum() {
        let comparison = |operator| Comparison { operator, number: MAX_COUNT };
        assert!(comparison(Operator::Eq).holds(MAX_COUNT + 1) && !comparison(Operator::Gt).holds(MAX_COUNT + 1));
        assert!(!comparison(Operator::Eq).holds(MAX_COUNT - 1));
    }

    #[test]
    fn one_of_the_two_is_enough() {
        let condition = |until, revision| WaitCondition {
            filter: CountFilter::default(),
            statuses: StatusSet::ALL,
            until,
            revision,
        };
        let five = Some(Comparison { operator: Operator::Eq, number: 5 });
        for (condition, holds) in [
            (condition(five, None), [true, true, false, false]),
            (condition(None, Some(7)), [false, true, false, true]),
            (condition(five, Some(7)), [true, true, false, true]),
        ] {
            let found = [(5, 7), (5, 8), (6, 7), (6, 8)].map(|(count, revision)| condition.holds(count, revision));
            assert_eq!(found, holds, "{condition:?}");
        }
    }
}
