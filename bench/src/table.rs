//! The report as a person reads it: one table a case, units in the headings, and how to read the figures.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    args::Case,
    report::{HAUBERK, Report, Run},
};

/// What precedes the figures.
#[derive(Debug)]
pub struct Setting {
    /// Seconds of load in a round.
    pub seconds: u32,
    /// Rounds per system and case.
    pub rounds: u32,
    /// The core of each node in the pinned rounds.
    pub cores: (usize, usize),
}

/// Renders all cases, in the order in which systems were first measured.
pub fn render(report: &Report, setting: &Setting) -> String {
    let mut text = format!(
        "{} rounds of {} s, one TCP stream, systems interleaved; pinned: node a on core {}, node b on core {}\n",
        setting.rounds, setting.seconds, setting.cores.0, setting.cores.1
    );
    for case in [Case::NodeTcp, Case::PodTcp] {
        if report.runs.iter().any(|run| run.case == case) {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n{case}: {}\n{}\n",
                meaning(case),
                table(report, case).trim_fmt()
            );
        }
    }
    text.push_str(
        "\nhauberk/system: hauberk's rate over the system's in the same round, median (low–high), pinned.\n\
         Unpinned, the scheduler moves both nodes over all cores and rates swing. wireguard-go spreads one\n\
         flow over many cores where there are many; a lane of hauberk is one core.\n",
    );
    text
}

const fn meaning(case: Case) -> &'static str {
    match case {
        Case::NodeTcp => "between the ends of a tunnel, each in its node's namespace",
        Case::PodTcp => "between two pods on two nodes, through the whole path",
    }
}

fn table(report: &Report, case: Case) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "system",
        "Gb/s",
        "hauberk/system",
        "cores busy",
        "retransmits",
        "rtt p50 µs",
        "rtt p99 µs",
        "unpinned Gb/s",
    ]);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if number > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for system in systems(&report.runs, case) {
        let pinned = |figure: fn(&Run) -> f64, decimals: usize| {
            number(report.median_of(system, case, true, figure), decimals)
        };
        let ratio = report
            .ratio
            .get(system)
            .and_then(|cases| cases.get(case.name()))
            .map(|ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high));
        table.add_row([
            system.to_owned(),
            pinned(|run| run.gbps, 2),
            ratio.unwrap_or_else(|| {
                if system == HAUBERK {
                    "1".to_owned()
                } else {
                    NONE.to_owned()
                }
            }),
            pinned(|run| run.cpu_busy, 2),
            pinned(|run| run.retransmits as f64, 0),
            pinned(|run| run.rtt_p50_us, 0),
            pinned(|run| run.rtt_p99_us, 0),
            number(report.median_of(system, case, false, |run| run.gbps), 2),
        ]);
    }
    table
}

/// Where nothing was measured.
const NONE: &str = "-";

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.decimals$}"))
}

fn systems(runs: &[Run], case: Case) -> Vec<&str> {
    let mut systems: Vec<&str> = Vec::new();
    for run in runs.iter().filter(|run| run.case == case) {
        if !systems.contains(&run.system.as_str()) {
            systems.push(&run.system);
        }
    }
    systems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(system: &str, pinned: bool, gbps: f64) -> Run {
        Run {
            system: system.to_owned(),
            case: Case::NodeTcp,
            round: 1,
            pinned,
            gbps,
            retransmits: 3,
            cpu_busy: 1.9,
            rtt_p50_us: 41.4,
            rtt_p99_us: 99.0,
        }
    }

    const SETTING: Setting = Setting {
        seconds: 5,
        rounds: 1,
        cores: (0, 1),
    };

    #[test]
    fn a_row_shows_medians_ratio_and_the_unpinned_rate() {
        let report = Report::new(vec![
            run("plain", true, 20.0),
            run("hauberk", true, 5.0),
            run("plain", false, 18.5),
        ]);
        let text = render(&report, &SETTING);
        let row: Vec<&str> = text
            .lines()
            .find(|l| l.trim_start().starts_with("plain"))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(
            row,
            [
                "plain",
                "20.00",
                "0.25",
                "(0.25–0.25)",
                "1.90",
                "3",
                "41",
                "99",
                "18.50"
            ]
        );
    }

    #[test]
    fn what_was_not_measured_is_a_dash_not_a_zero() {
        let text = render(&Report::new(vec![run("plain", true, 20.0)]), &SETTING);
        let row: Vec<&str> = text
            .lines()
            .find(|l| l.trim_start().starts_with("plain"))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(row[2], "-");
        assert_eq!(row.last(), Some(&"-"));
        assert!(!text.contains("pod-tcp"));
    }
}
