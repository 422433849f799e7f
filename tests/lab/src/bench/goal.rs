//! A goal beside its result: what was compared, the number, the limit, the verdict.

use super::figure::Figure;
use std::fmt::Write as _;

/// The limit of a goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// The number must reach this.
    AtLeast(f64),
    /// The number must not exceed this.
    AtMost(f64),
}

/// One line of the table of goals.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// What is compared with what.
    pub what: String,
    /// The number that is judged.
    pub value: f64,
    /// Its limit.
    pub wanted: Wanted,
    /// The figures behind the number.
    pub detail: String,
}

impl Goal {
    /// Median of one side over median of the other; `None` where one was not measured.
    pub fn ratio(
        what: impl Into<String>,
        ours: Option<Figure>,
        other: Option<Figure>,
        wanted: Wanted,
        digits: usize,
    ) -> Option<Goal> {
        let (ours, other) = (ours?, other?);
        Some(Goal {
            what: what.into(),
            value: ours.median / other.median,
            wanted,
            detail: format!("{} / {}", ours.show(digits), other.show(digits)),
        })
    }

    /// Whether the number keeps the limit; one that is no number does not.
    pub fn met(&self) -> bool {
        match self.wanted {
            Wanted::AtLeast(limit) => self.value >= limit,
            Wanted::AtMost(limit) => self.value <= limit,
        }
    }
}

/// The table of them; empty without a goal.
pub fn table(goals: &[Goal], digits: usize) -> String {
    let mut md = String::new();
    if goals.is_empty() {
        return md;
    }
    md.push_str("## Goals\n\n| goal | result | wanted | met | from |\n|---|---|---|---|---|\n");
    for goal in goals {
        let wanted = match goal.wanted {
            Wanted::AtLeast(limit) => format!("≥ {limit}"),
            Wanted::AtMost(limit) => format!("≤ {limit}"),
        };
        let met = if goal.met() { "yes" } else { "**no**" };
        let _ = writeln!(
            md,
            "| {} | {:.digits$} | {wanted} | {met} | {} |",
            goal.what, goal.value, goal.detail
        );
    }
    md.push('\n');
    md
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not() {
        let figure = |v| Figure::of(vec![v]);
        let goal = |a, b, wanted| Goal::ratio("x", figure(a), figure(b), wanted, 1).expect("both");
        assert!(goal(19.0, 10.0, Wanted::AtLeast(1.8)).met());
        assert!(!goal(17.0, 10.0, Wanted::AtLeast(1.8)).met());
        assert!(goal(2.0, 8.0, Wanted::AtMost(0.25)).met());
        assert!(!goal(2.1, 8.0, Wanted::AtMost(0.25)).met());
        // Nothing was completed on either side: no number, not met.
        assert!(!goal(0.0, 0.0, Wanted::AtMost(0.25)).met());
        assert_eq!(
            Goal::ratio("x", None, figure(1.0), Wanted::AtMost(1.0), 0),
            None
        );
        let table = table(&[goal(17.0, 10.0, Wanted::AtLeast(1.8))], 2);
        assert!(
            table.contains("| x | 1.70 | ≥ 1.8 | **no** | 17.0 (17.0..17.0) / 10.0 (10.0..10.0) |"),
            "{table}"
        );
    }
}
