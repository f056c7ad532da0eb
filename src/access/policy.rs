//! Identity policies: which actions a user may do.

use std::fmt;

use serde::Deserialize;

/// Something a caller may have permission for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// Count app subtasks. The published page of an operation names its permission, here and below.
    CountSubJobs,
    /// List app subtasks.
    ListSubJobs,
    /// Count image subtasks.
    CountImageSubJobs,
    /// List image subtasks.
    ListImageSubJobs,
    /// Delete app subtasks that have ended.
    BatchDeleteSubJobs,
    /// Delete image subtasks that have ended.
    BatchDeleteImageSubJobs,
    /// Show a job of app subtasks.
    GetJob,
    /// Show a job of image subtasks.
    GetImageJob,
    /// List jobs of image subtasks.
    ListImageJobs,
    /// Report subtasks, as workers do; named in the same manner.
    ReportSubJobs,
    /// Delete all subtasks of a project, as tests do; named in the same manner.
    ResetSubJobs,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 11] = [
        Self::CountSubJobs,
        Self::ListSubJobs,
        Self::CountImageSubJobs,
        Self::ListImageSubJobs,
        Self::BatchDeleteSubJobs,
        Self::BatchDeleteImageSubJobs,
        Self::GetJob,
        Self::GetImageJob,
        Self::ListImageJobs,
        Self::ReportSubJobs,
        Self::ResetSubJobs,
    ];

    /// The action's name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CountSubJobs => "workspace:jobs:countSubJobs",
            Self::ListSubJobs => "workspace:jobs:listSubJobs",
            Self::CountImageSubJobs => "workspace:imageServer:countImageSubJobs",
            Self::ListImageSubJobs => "workspace:imageServer:listImageSubJobs",
            Self::BatchDeleteSubJobs => "workspace:jobs:batchDeleteSubJobs",
            Self::BatchDeleteImageSubJobs => "workspace:imageServer:batchDeleteImageSubJobs",
            Self::GetJob => "workspace:jobs:get",
            Self::GetImageJob => "workspace:images:getImageJob",
            Self::ListImageJobs => "workspace:images:listImageJobs",
            Self::ReportSubJobs => "workspace:jobs:reportSubJobs",
            Self::ResetSubJobs => "workspace:jobs:resetSubJobs",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionSet(u32);

impl ActionSet {
    /// The set of every action.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether the action is in the set.
    pub fn contains(self, action: Action) -> bool {
        self.0 >> action as u8 & 1 == 1
    }
}

impl FromIterator<Action> for ActionSet {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | 1 << action as u8))
    }
}

/// A policy in the access file. An unknown key, such as a condition, could restrict it, so it is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    #[serde(rename = "Version", default)]
    _version: serde::de::IgnoredAny,
    #[serde(rename = "Statement")]
    statements: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "Sid", default)]
    _sid: serde::de::IgnoredAny,
    #[serde(rename = "Effect")]
    effect: Effect,
    #[serde(rename = "Action")]
    actions: Vec<Pattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

/// An action's name in which `*` stands for any characters and `?` for any one.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Pattern(String);

impl Pattern {
    /// Matches a name, ignoring case as the policy grammar does.
    fn matches(&self, name: &str) -> bool {
        self.match_in_steps(name).0
    }

    /// Whether a name matches, and how many steps that took.
    ///
    /// Backtracks only to the last `*`, so the steps are at most the product of the lengths.
    fn match_in_steps(&self, name: &str) -> (bool, usize) {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let (mut last_star, mut steps) = (None, 0);
        while n < name.len() {
            steps += 1;
            match pattern.get(p) {
                Some(b'*') => {
                    last_star = Some((p, n));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&name[n]) => {
                    p += 1;
                    n += 1;
                }
                _ => match last_star {
                    Some((star, taken)) => {
                        last_star = Some((star, taken + 1));
                        p = star + 1;
                        n = taken + 1;
                    }
                    None => return (false, steps),
                },
            }
        }
        (pattern[p..].iter().all(|byte| *byte == b'*'), steps)
    }
}

/// The actions that policies allow and deny, kept apart so that further policies can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Permissions {
    allowed: ActionSet,
    denied: ActionSet,
}

impl Permissions {
    /// The permissions of an account: all of them.
    pub(super) const ACCOUNT: Self = Self { allowed: ActionSet::ALL, denied: ActionSet(0) };

    pub(super) fn from_policy(policy: &Policy) -> Self {
        let says = |effect| {
            let named = |action: &Action| {
                let mut statements = policy.statements.iter().filter(|statement| statement.effect == effect);
                statements.any(|statement| statement.actions.iter().any(|pattern| pattern.matches(action.as_str())))
            };
            Action::ALL.into_iter().filter(named).collect()
        };
        Self { allowed: says(Effect::Allow), denied: says(Effect::Deny) }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { allowed: ActionSet(self.allowed.0 | other.allowed.0), denied: ActionSet(self.denied.0 | other.denied.0) }
    }

    /// The actions that are allowed and not denied.
    pub(super) fn effective(self) -> ActionSet {
        ActionSet(self.allowed.0 & !self.denied.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern(pattern.into()).matches(name)
    }

    fn allowed(policies: &[&str]) -> Vec<Action> {
        let granted = policies.iter().map(|text| Permissions::from_policy(&toml::from_str(text).unwrap()));
        let set = granted.fold(Permissions::default(), Permissions::union).effective();
        Action::ALL.into_iter().filter(|action| set.contains(*action)).collect()
    }

    fn statement(effect: &str, action: &str) -> String {
        format!("[[Statement]]\nEffect = \"{effect}\"\nAction = [\"{action}\"]\n")
    }

    #[test]
    fn wildcards_match_any_characters() {
        let name = Action::CountSubJobs.as_str();
        for pattern in
            [name, "*", "workspace:*", "*:*:*", "WORKSPACE:jobs:COUNT*", "workspace:jobs:?ountSubJobs", "**s"]
        {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in
            ["", "workspace:jobs:countSubJob", "workspace:jobs:countSubJobs?", "workspace:*:list*", "?", "*:x*"]
        {
            assert!(!matches(pattern, name), "{pattern}");
        }
    }

    /// For a name of a given length, as those of actions are, the steps grow no faster than the pattern.
    #[test]
    fn a_hostile_pattern_takes_linear_steps() {
        for action in Action::ALL {
            let name = action.as_str();
            for part in ["*", "*?", "?*", "*o*", "*w*o*r*k", "*workspace:", "**o?"] {
                for parts in [1, 10, 100, 10_000] {
                    let pattern = Pattern(part.repeat(parts) + "!");
                    let (is_match, steps) = pattern.match_in_steps(name);
                    assert!(!is_match);
                    assert!(steps <= (pattern.0.len() + 1) * name.len(), "{part} {parts} times, {name}: {steps} steps");
                }
            }
        }
        let long = "a".repeat(10_000);
        for pattern in ["a*a*a*a*b", "aaaa*aaaa*aaaa*aaaa*b", "*a*a*a*a*a*a*a*a*b"] {
            let (is_match, steps) = Pattern(pattern.into()).match_in_steps(&long);
            assert!(!is_match);
            assert!(steps <= 8 * long.len(), "{pattern}: {steps} steps");
        }
    }

    proptest! {
        /// Compares the matcher with a recursive definition.
        #[test]
        fn matching_agrees_with_a_recursive_definition(pattern in "[abA*?]{0,8}", name in "[abB]{0,8}") {
            fn truth(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern, name) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => truth(rest, name) || (!name.is_empty() && truth(pattern, &name[1..])),
                    ([b'?', rest @ ..], [_, after @ ..]) => truth(rest, after),
                    ([p, rest @ ..], [n, after @ ..]) => p.eq_ignore_ascii_case(n) && truth(rest, after),
                    _ => false,
                }
            }
            let (is_match, steps) = Pattern(pattern.clone()).match_in_steps(&name);
            prop_assert_eq!(is_match, truth(pattern.as_bytes(), name.as_bytes()));
            prop_assert!(steps <= (pattern.len() + 1) * name.len(), "{} steps", steps);
        }
    }

    #[test]
    fn an_explicit_deny_wins_and_the_default_is_deny() {
        let all = statement("Allow", "*");
        let count = statement("Allow", "workspace:jobs:countSubJobs");
        let no_reports = statement("Deny", "*:report*");
        assert_eq!(allowed(&[]), []);
        assert_eq!(allowed(&[&all]), Action::ALL);
        assert_eq!(allowed(&[&count]), [Action::CountSubJobs]);
        assert_eq!(allowed(&[&no_reports]), []);
        let all_but_reports: Vec<_> =
            Action::ALL.into_iter().filter(|action| *action != Action::ReportSubJobs).collect();
        assert_eq!(allowed(&[&all, &no_reports]), all_but_reports);
        assert_eq!(allowed(&[&no_reports, &all]), all_but_reports);
        assert_eq!(allowed(&[&format!("{no_reports}{all}")]), all_but_reports);
        assert_eq!(allowed(&[&count, &no_reports]), [Action::CountSubJobs]);
    }

    #[test]
    fn jobs_do_not_cover_images() {
        let is_of_images = |action: &Action| action.as_str().starts_with("workspace:image");
        let (images, jobs): (Vec<_>, Vec<_>) = Action::ALL.into_iter().partition(is_of_images);
        assert_eq!(allowed(&[&statement("Allow", "workspace:jobs:*")]), jobs);
        assert_eq!(allowed(&[&statement("Allow", "workspace:image*")]), images);
        assert_eq!(allowed(&[&statement("Allow", "workspace:*")]), Action::ALL);
    }

    #[test]
    fn version_and_sid_are_ignored_and_unknown_keys_are_refused() {
        let pasted = "Version = \"5.0\"\n[[Statement]]\nSid = \"S1\"\nEffect = \"Allow\"\nAction = [\"*\"]";
        assert_eq!(allowed(&[pasted]), Action::ALL);
        for (text, reason) in [
            ("", "missing field `Statement`"),
            ("[[Statement]]\nEffect = \"Allow\"", "missing field `Action`"),
            ("[[Statement]]\nAction = [\"*\"]", "missing field `Effect`"),
            ("[[Statement]]\nEffect = \"allow\"\nAction = [\"*\"]", "unknown variant `allow`"),
            ("[[Statement]]\nEffect = \"Allow\"\nAction = [\"*\"]\nResource = [\"*\"]", "unknown field `Resource`"),
            ("[[Statement]]\nEffect = \"Allow\"\nAction = [\"*\"]\nCondition = {}", "unknown field `Condition`"),
            ("[[Statement]]\nEffect = \"Allow\"\nNotAction = [\"*\"]", "unknown field `NotAction`"),
            ("Id = 1\n[[Statement]]\nEffect = \"Allow\"\nAction = [\"*\"]", "unknown field `Id`"),
        ] {
            let error = toml::from_str::<Policy>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
