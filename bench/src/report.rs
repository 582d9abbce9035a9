//! What was measured and what follows from it: pure arithmetic over finished runs.
//!
//! Medians and ratios are taken over the pinned runs. A ratio is Hauberk over another system in the *same*
//! round, so that a slow minute of the machine falls on both; its median, lowest and highest round are given.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::Case;

/// The system every other is compared with.
pub const HAUBERK: &str = "hauberk";
/// No encryption, the same topology.
pub const PLAIN: &str = "plain";

/// One system in one case in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// `plain`, `hauberk` or a peer's name.
    pub system: String,
    pub case: Case,
    /// From 1. Pinned and unpinned rounds are numbered apart.
    pub round: u32,
    /// Whether each node's processes had a core of their own.
    pub pinned: bool,
    /// What the receiver got, in 10⁹ bits of TCP payload a second.
    pub gbps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Cores kept busy while the load ran: pinned, the two nodes' cores; otherwise the whole machine.
    pub cpu_busy: f64,
    /// Round trip of 64 bytes over TCP on the idle path, in microseconds: half the time at most this.
    pub rtt_p50_us: f64,
    /// The same, 99 times of 100.
    pub rtt_p99_us: f64,
}

/// Hauberk over another system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// By system, then by case.
type BySystem<T> = BTreeMap<String, BTreeMap<&'static str, T>>;

/// Everything that `-o json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub runs: Vec<Run>,
    /// Gb/s, of the pinned runs.
    pub median: BySystem<f64>,
    /// Hauberk over each other system, of the pinned runs.
    pub ratio: BySystem<Ratio>,
}

impl Report {
    /// Sums up finished runs, in whatever order they come.
    pub fn new(runs: Vec<Run>) -> Self {
        let median = medians(&runs);
        let ratio = ratios(&runs);
        Self { runs, median, ratio }
    }

    /// The median of any figure of a system's runs.
    pub fn median_of(&self, system: &str, case: Case, pinned: bool, figure: fn(&Run) -> f64) -> Option<f64> {
        let figures = self
            .runs
            .iter()
            .filter(|run| run.system == system && run.case == case && run.pinned == pinned)
            .map(figure)
            .collect();
        median(figures)
    }
}

fn medians(runs: &[Run]) -> BySystem<f64> {
    let mut rates: BySystem<Vec<f64>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.pinned) {
        rates
            .entry(run.system.clone())
            .or_default()
            .entry(run.case.name())
            .or_default()
            .push(run.gbps);
    }
    map_values(rates, median)
}

fn ratios(runs: &[Run]) -> BySystem<Ratio> {
    let ours: BTreeMap<_, _> = runs
        .iter()
        .filter(|run| run.pinned && run.system == HAUBERK)
        .map(|run| ((run.case, run.round), run.gbps))
        .collect();
    let mut rounds: BySystem<Vec<f64>> = BTreeMap::new();
    for run in runs
        .iter()
        .filter(|run| run.pinned && run.system != HAUBERK && run.gbps > 0.0)
    {
        if let Some(ours) = ours.get(&(run.case, run.round)) {
            rounds
                .entry(run.system.clone())
                .or_default()
                .entry(run.case.name())
                .or_default()
                .push(ours / run.gbps);
        }
    }
    map_values(rounds, |rounds| {
        let low = rounds.iter().copied().reduce(f64::min)?;
        let high = rounds.iter().copied().reduce(f64::max)?;
        Some(Ratio {
            median: median(rounds)?,
            low,
            high,
        })
    })
}

fn map_values<T, U>(values: BySystem<T>, map: impl Fn(T) -> Option<U>) -> BySystem<U> {
    values
        .into_iter()
        .map(|(system, cases)| {
            let cases = cases
                .into_iter()
                .filter_map(|(case, value)| Some((case, map(value)?)))
                .collect();
            (system, cases)
        })
        .collect()
}

/// The middle value, or the mean of the two in the middle; none of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The smallest value that at least `percent` of 100 values do not exceed (nearest rank); none of none.
pub fn percentile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(system: &str, case: Case, round: u32, pinned: bool, gbps: f64) -> Run {
        Run {
            system: system.to_owned(),
            case,
            round,
            pinned,
            gbps,
            retransmits: 0,
            cpu_busy: 1.5,
            rtt_p50_us: 40.0,
            rtt_p99_us: 90.0,
        }
    }

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn percentile_is_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).rev().collect();
        assert_eq!(percentile(hundred.clone(), 50), Some(50.0));
        assert_eq!(percentile(hundred, 99), Some(99.0));
        assert_eq!(percentile(vec![7.0], 99), Some(7.0));
        assert_eq!(percentile(vec![], 50), None);
    }

    #[test]
    fn ratio_compares_the_same_round_not_the_medians() {
        // Round 2 is slow for both: the ratio of each round is 2, 2 and 1.
        let rates = [(4.0, 2.0), (1.0, 0.5), (4.0, 4.0)];
        let runs = (1..)
            .zip(rates)
            .flat_map(|(round, (ours, theirs))| {
                [
                    run(HAUBERK, Case::NodeTcp, round, true, ours),
                    run("go", Case::NodeTcp, round, true, theirs),
                ]
            })
            .collect();
        let report = Report::new(runs);
        assert_eq!(
            report.ratio["go"]["node-tcp"],
            Ratio {
                median: 2.0,
                low: 1.0,
                high: 2.0
            }
        );
        assert_eq!(report.median[HAUBERK]["node-tcp"], 4.0);
        assert_eq!(report.median["go"]["node-tcp"], 2.0);
    }

    #[test]
    fn unpinned_runs_change_neither_median_nor_ratio() {
        let report = Report::new(vec![
            run(HAUBERK, Case::PodTcp, 1, true, 4.0),
            run(PLAIN, Case::PodTcp, 1, true, 16.0),
            run(HAUBERK, Case::PodTcp, 1, false, 1.0),
            run(PLAIN, Case::PodTcp, 1, false, 1.0),
        ]);
        assert_eq!(report.median[PLAIN]["pod-tcp"], 16.0);
        assert_eq!(report.ratio[PLAIN]["pod-tcp"].median, 0.25);
        assert_eq!(
            report.median_of(PLAIN, Case::PodTcp, false, |run| run.gbps),
            Some(1.0)
        );
    }

    #[test]
    fn a_system_is_not_compared_with_itself_nor_in_a_case_that_hauberk_did_not_run() {
        let report = Report::new(vec![
            run(HAUBERK, Case::NodeTcp, 1, true, 4.0),
            run(PLAIN, Case::PodTcp, 1, true, 16.0),
        ]);
        assert!(report.ratio.is_empty());
    }

    #[test]
    fn json_has_the_documented_keys() {
        let report = Report::new(vec![
            run(HAUBERK, Case::NodeTcp, 1, true, 4.0),
            run(PLAIN, Case::NodeTcp, 1, true, 16.0),
        ]);
        let json = serde_json::to_value(report).unwrap();
        assert_eq!(
            json["runs"][0],
            serde_json::json!({
                "system": "hauberk", "case": "node-tcp", "round": 1, "pinned": true, "gbps": 4.0,
                "retransmits": 0, "cpu_busy": 1.5, "rtt_p50_us": 40.0, "rtt_p99_us": 90.0,
            })
        );
        assert_eq!(json["median"]["plain"]["node-tcp"], 16.0);
        assert_eq!(
            json["ratio"]["plain"]["node-tcp"],
            serde_json::json!({"median": 0.25, "low": 0.25, "high": 0.25})
        );
    }
}
