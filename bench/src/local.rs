//! `hauberk-bench local`: every system of a round right after the other, the order turned by one each round, so
//! that a slow minute of the machine falls on all of them.
//!
//! First all pinned rounds, each node's programs and load on a core of its own from their first instruction; then,
//! with everything started anew, the same unpinned. Within a placement all systems stand ready at the same time,
//! and idle while another is measured.

use std::{io, path::PathBuf};

use hauberk_netlab::{
    CommandPlacement, Lab, LabError, Mesh, Netns,
    iperf::{self, IperfError},
};
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use crate::{
    args::{Case, Cores, LocalArgs},
    cpu::{self, Reading, Watched},
    program::NoProgram,
    report::{Report, Run},
    rtt::{self, RttError},
    table::Setting,
};

mod node_tcp;
mod pod_tcp;

/// The finished measurement, and how it was made.
#[derive(Debug)]
pub struct Measured {
    pub report: Report,
    pub setting: Setting,
    /// Why it ended early, if it did.
    pub broke_off: Option<BenchError>,
}

/// Why there is no measurement.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Two peers share a name.
    #[error("two peers are named `{0}`; give each a name of its own")]
    DuplicatePeer(String),
    /// Other programs have no pods.
    #[error("--peer is measured in node-tcp, which --cases leaves out; add it, or drop --peer")]
    PeerWithoutCase,
    /// Each node needs a core of its own.
    #[error("pinned rounds need two cores, and this process may use {0}")]
    TooFewCores(usize),
    /// A core that was asked for is not there.
    #[error("core {0} is not one that this process may use")]
    NoSuchCore(usize),
    /// The namespaces.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The machine's own figures.
    #[error("cannot read this machine's cores")]
    Cores(#[source] io::Error),
    /// One of our programs is not where it should be.
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    /// A program did not come up, or a command of the system failed.
    #[error("{what}: {why}")]
    Setup { what: String, why: String },
    /// A path carries nothing.
    #[error("{system} in {case}: {source}{}", said.as_deref().map(|s| format!(" (it said: {s})")).unwrap_or_default())]
    Rtt {
        system: String,
        case: Case,
        said: Option<String>,
        #[source]
        source: RttError,
    },
    /// The load failed.
    #[error("{system} in {case}")]
    Load {
        system: String,
        case: Case,
        #[source]
        source: IperfError,
    },
}

/// Where the programs of each node run.
#[derive(Debug, Clone, Copy)]
enum Placement {
    /// Each node on a core of its own.
    Pinned(Cores),
    /// Where the scheduler likes.
    Free,
}

impl Placement {
    fn core_a(self) -> Option<usize> {
        match self {
            Self::Pinned(cores) => Some(cores.a),
            Self::Free => None,
        }
    }

    fn core_b(self) -> Option<usize> {
        match self {
            Self::Pinned(cores) => Some(cores.b),
            Self::Free => None,
        }
    }

    fn watched(self) -> Watched {
        match self {
            Self::Pinned(cores) => Watched::Cores(vec![cores.a, cores.b]),
            Self::Free => Watched::All,
        }
    }
}

/// One system's way from node a to node b, ready to be measured.
#[derive(Debug)]
struct Route {
    system: String,
    case: Case,
    client: Netns,
    server: Netns,
    /// The server's address, by which the way is chosen.
    address: std::net::IpAddr,
    /// The file with what the system's program at node a prints, if it has one.
    log: Option<PathBuf>,
}

/// Everything that is started for one case and placement; ends when dropped, programs before their labs.
struct Stage {
    routes: Vec<Route>,
    _programs: Vec<node_tcp::Program>,
    _mesh: Option<Mesh>,
    _labs: Vec<Lab>,
}

impl Stage {
    fn set(case: Case, args: &LocalArgs, placement: Placement) -> Result<Self, BenchError> {
        match case {
            Case::NodeTcp => node_tcp::set(&args.peers, placement),
            Case::PodTcp => pod_tcp::set(args.enforcer, placement),
        }
    }
}

/// Measures everything that was asked for. What was measured before a failure is not lost by it.
pub fn run(args: &LocalArgs) -> Result<Measured, BenchError> {
    if let Some(name) = args.duplicate_peer() {
        return Err(BenchError::DuplicatePeer(name.to_owned()));
    }
    if !args.peers.is_empty() && !args.cases.contains(&Case::NodeTcp) {
        return Err(BenchError::PeerWithoutCase);
    }
    let cores = choose_cores(args.cores, &cpu::available().map_err(BenchError::Cores)?)?;
    hauberk_netlab::sweep()?;
    let mut runs = Vec::new();
    let broke_off = match measure_all(args, cores, &mut runs) {
        Err(error) if runs.is_empty() => return Err(error),
        outcome => outcome.err(),
    };
    let setting = Setting {
        seconds: args.seconds.get(),
        rounds: args.rounds.get(),
        cores: (cores.a, cores.b),
    };
    Ok(Measured {
        report: Report::new(runs),
        setting,
        broke_off,
    })
}

fn measure_all(args: &LocalArgs, cores: Cores, runs: &mut Vec<Run>) -> Result<(), BenchError> {
    let mut placements = vec![Placement::Pinned(cores)];
    if !args.no_unpinned {
        placements.push(Placement::Free);
    }
    let systems: usize = args
        .cases
        .iter()
        .map(|case| match case {
            Case::NodeTcp => 2 + args.peers.len(),
            Case::PodTcp => 2,
        })
        .sum();
    let progress = progress((systems * args.rounds.get() as usize * placements.len()) as u64);
    for placement in placements {
        progress.set_message("setting up");
        let stages: Vec<Stage> = args
            .cases
            .iter()
            .map(|&case| Stage::set(case, args, placement))
            .collect::<Result<_, _>>()?;
        for round in 1..=args.rounds.get() {
            for stage in &stages {
                for route in turned(&stage.routes, round) {
                    progress.set_message(format!("{} {}, round {round}", route.case, route.system));
                    runs.push(measure(route, round, placement, args.seconds.get())?);
                    progress.inc(1);
                }
            }
        }
    }
    progress.finish_and_clear();
    Ok(())
}

fn measure(route: &Route, round: u32, placement: Placement, seconds: u32) -> Result<Run, BenchError> {
    let (system, case) = (route.system.clone(), route.case);
    let client = rtt::End {
        netns: &route.client,
        core: placement.core_a(),
    };
    let server = rtt::End {
        netns: &route.server,
        core: placement.core_b(),
    };
    let rtt = rtt::measure(client, server, route.address).map_err(|source| BenchError::Rtt {
        system: system.clone(),
        case,
        said: route.log.as_deref().and_then(last_line),
        source,
    })?;
    let iperf3 = |end: rtt::End<'_>| {
        let mut command = end.netns.command("iperf3");
        if let Some(core) = end.core {
            command.on_cpu(core);
        }
        command
    };
    let reading = Reading::start(placement.watched()).map_err(BenchError::Cores)?;
    let stream = iperf::stream(iperf3(client), iperf3(server), route.address, seconds).map_err(|source| {
        BenchError::Load {
            system: system.clone(),
            case,
            source,
        }
    })?;
    let cpu_busy = reading.cores_busy().map_err(BenchError::Cores)?;
    Ok(Run {
        system,
        case,
        round,
        pinned: matches!(placement, Placement::Pinned(_)),
        gbps: rounded(stream.gbps, 3),
        retransmits: stream.retransmits,
        cpu_busy: rounded(cpu_busy, 2),
        rtt_p50_us: rounded(rtt.p50_us, 1),
        rtt_p99_us: rounded(rtt.p99_us, 1),
    })
}

/// To the decimals that the measurement can tell apart.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// The routes in another order each round, so that none always comes first or always after the same one.
fn turned(routes: &[Route], round: u32) -> impl Iterator<Item = &Route> {
    let first = (round as usize - 1) % routes.len().max(1);
    routes[first..].iter().chain(&routes[..first])
}

fn choose_cores(wanted: Option<Cores>, available: &[usize]) -> Result<Cores, BenchError> {
    match (wanted, available) {
        (Some(cores), _) => match [cores.a, cores.b]
            .into_iter()
            .find(|core| !available.contains(core))
        {
            Some(missing) => Err(BenchError::NoSuchCore(missing)),
            None => Ok(cores),
        },
        (None, &[a, b, ..]) => Ok(Cores { a, b }),
        (None, _) => Err(BenchError::TooFewCores(available.len())),
    }
}

/// On standard error, and only when that is a terminal.
fn progress(runs: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg} (about {eta} left)")
            .expect("the template is a constant that parses");
    let bar = ProgressBar::new(runs).with_style(style.progress_chars("=> "));
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    bar
}

/// What a program said last, for an error's text.
fn last_line(log: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_the_first_two_unless_named() {
        assert_eq!(choose_cores(None, &[2, 5, 7]).unwrap(), Cores { a: 2, b: 5 });
        assert_eq!(
            choose_cores(Some(Cores { a: 7, b: 2 }), &[2, 5, 7]).unwrap(),
            Cores { a: 7, b: 2 }
        );
    }

    #[test]
    fn one_core_or_a_core_that_is_not_there_is_refused() {
        assert!(matches!(
            choose_cores(None, &[0]),
            Err(BenchError::TooFewCores(1))
        ));
        assert!(matches!(
            choose_cores(Some(Cores { a: 0, b: 9 }), &[0, 1]),
            Err(BenchError::NoSuchCore(9))
        ));
    }

    #[test]
    fn the_last_line_of_a_log_is_the_last_that_says_something() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "starting\nno such device \n\n").unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("no such device"));
        assert_eq!(last_line(&dir.path().join("none")), None);
    }
}
