//! `hauberk-bench scale`: what a large cluster costs a node, and how soon a node knows.
//!
//! A real API server is filled with synthetic nodes and pods; encryption is on. A few nodes are real: keyd in
//! network namespaces, as in the tests. Stages: 1. control plane, lab and controller, 2. objects, 3. light watchers,
//! 4. keyds, started one after the other and measured each, 5. quiet time, 6. single pods, 7. churn, 8. what keyds
//! hold is compared with what the API server has. All of it is removed at the end.
//!
//! The synthetic nodes' tunnels have keys and signatures that verify, but nobody answers there: for a keyd all
//! other nodes but the real ones are down.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Runtime, time::Instant};

use crate::args::ScaleArgs;

mod arrival;
mod audit;
mod churn;
mod daemon;
mod error;
mod fill;
mod ipcache;
mod objects;
mod process;
mod report;
mod requests;
mod signing;
mod stage;
mod watchers;

use arrival::Arrivals;
use audit::Mark;
use daemon::Daemon;
use error::{ScaleError, file};
use ipcache::Ipcache;
use report::{Report, percentile_ms};
use requests::Requests;
use signing::Signing;
use stage::Stage;
use watchers::Watchers;

/// After the keyds have started, until they are as they stay: certificates, handshakes, freed memory.
const SETTLE: Duration = Duration::from_secs(20);
/// Until the real nodes encrypt between each other.
const STRICT_PATIENCE: Duration = Duration::from_secs(60);
/// Until everything of a churn's end is known.
const QUIET: Duration = Duration::from_secs(10);
/// So many wrong entries are shown.
const SHOWN: usize = 10;

/// What the figures have to stay below.
mod bar {
    pub const RESIDENT_MIB: f64 = 60.0;
    pub const START_S: f64 = 5.0;
    pub const KNOWN_P99_MS: f64 = 250.0;
    pub const QUIET_REQUESTS: f64 = 1.0;
    pub const TUNNEL_BYTES: f64 = 16_384.0;
    /// As a multiple of what it was before the churn.
    pub const MEMORY_AFTER: f64 = 1.1;
    /// Wrong entries: none.
    pub const WRONG: f64 = 0.5;
}

/// Measures.
pub fn run(args: &ScaleArgs) -> Result<Report, ScaleError> {
    let synthetic = args.nodes - args.keyds;
    if args.pods > synthetic * objects::MOST_PODS {
        return Err(ScaleError::TooManyPods {
            pods: args.pods,
            nodes: synthetic,
        });
    }
    let runtime = Runtime::new().map_err(file("a tokio runtime"))?;
    let stage = Stage::set(args.keyds)?;
    let entered = runtime.enter();
    let requests = Requests(stage.cluster.admin().client()?);
    let watching = stage
        .cluster
        .user("watchers", "watchers", Some("system:masters"))?;
    let watching = watching.client()?;
    drop(entered);
    let mut run = Run {
        args,
        synthetic,
        next_pod: args.pods + args.keyds,
        report: Report::default(),
        runtime,
        requests,
        stage,
    };
    let signing = run.fill()?;
    let watchers = run
        .runtime
        .block_on(async { Watchers::start(&watching, args.watchers) });
    let maps = run.start()?;
    let maps = Arc::new(maps);
    let quiet = run.stay_quiet(&watchers)?;
    run.sample(&maps, quiet, &watchers)?;
    if args.churn_minutes > 0 {
        run.churn(&maps, quiet)?;
    }
    run.compare(&maps)?;
    run.measure_tunnel(&signing)?;
    Ok(run.report)
}

struct Run<'a> {
    args: &'a ScaleArgs,
    /// Nodes without a keyd.
    synthetic: usize,
    /// The number of the next pod.
    next_pod: usize,
    report: Report,
    runtime: Runtime,
    requests: Requests,
    stage: Stage,
}

impl Run<'_> {
    fn fill(&mut self) -> Result<Signing, ScaleError> {
        let (args, requests, lab) = (self.args, &self.requests, &self.stage.lab);
        let begin = Instant::now();
        let signing = self.runtime.block_on(async {
            let signing = fill::signing(requests).await?;
            fill::real(requests, lab, args.lanes, args.pods).await?;
            fill::nodes(requests, &signing, self.synthetic, args.lanes).await?;
            fill::pods(requests, args.pods, self.synthetic).await?;
            Ok::<_, ScaleError>(signing)
        })?;
        eprintln!(
            "{} nodes and {} pods made in {:.0?}",
            args.nodes,
            args.pods,
            begin.elapsed()
        );
        self.report.setting = [
            ("nodes", args.nodes as u64),
            ("pods", args.pods as u64),
            ("keyds", args.keyds as u64),
            ("watchers", args.watchers as u64),
            ("lanes a node", args.lanes.into()),
            (
                "cores",
                std::thread::available_parallelism().map_or(1, usize::from) as u64,
            ),
        ]
        .into();
        Ok(signing)
    }

    /// One after the other, so that they share the machine with the API server only.
    fn start(&mut self) -> Result<Vec<Ipcache>, ScaleError> {
        let (mut after, mut peaks) = (Vec::new(), Vec::new());
        for number in 0..self.args.keyds {
            let daemon = self.stage.start(number)?;
            after.push(daemon.wait_ready()?);
            peaks.push(daemon.memory()?.peak);
            eprintln!("keyd {} is ready after {:.2?}", daemon.node, after[number]);
        }
        self.wait_strict()?;
        std::thread::sleep(SETTLE);
        let nodes = self.stage.lab.nodes().iter();
        let maps = nodes
            .map(|node| Ipcache::open(node.pin_dir()))
            .collect::<Result<Vec<_>, _>>()?;
        let resident = mib(self.most_resident()?);
        let report = &mut self.report;
        report.hold(
            "resident",
            "resident memory of a keyd",
            resident,
            "MiB",
            bar::RESIDENT_MIB,
        );
        let peak = peaks.into_iter().max().unwrap_or_default();
        report.note("peak", "its peak until it is ready", mib(peak), "MiB");
        let slowest = percentile_ms(&after, 1.0) / 1e3;
        report.hold(
            "start",
            "from its start to ready, slowest",
            slowest,
            "s",
            bar::START_S,
        );
        let median = percentile_ms(&after, 0.5) / 1e3;
        report.note("start_p50", "from its start to ready, median", median, "s");
        Ok(maps)
    }

    /// The real nodes' pairs go on while the others' nodes do not answer.
    fn wait_strict(&self) -> Result<(), ScaleError> {
        let begin = Instant::now();
        let pairs = self.args.keyds - 1;
        loop {
            let lagging = self
                .stage
                .daemons
                .iter()
                .find(|daemon| daemon.strict_pairs() < pairs);
            let Some(lagging) = lagging else { return Ok(()) };
            if begin.elapsed() > STRICT_PATIENCE {
                return Err(ScaleError::Late {
                    what: format!("node {} encrypts to all real nodes", lagging.node),
                    patience: STRICT_PATIENCE.as_secs(),
                    said: lagging.state()["problems"].to_string(),
                });
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Counts what is asked while nothing changes; says how much CPU time a keyd takes, in seconds a second.
    fn stay_quiet(&mut self, watchers: &Watchers) -> Result<f64, ScaleError> {
        let mark = Mark::now(self.stage.cluster.audit_log())?;
        let (cpu, bytes) = (self.cpu_time()?, watchers.received().0);
        std::thread::sleep(Duration::from_secs(self.args.steady_seconds));
        let asked = mark.since()?;
        let seconds = self.args.steady_seconds as f64;
        let busy = (self.cpu_time()? - cpu).as_secs_f64() / seconds / self.args.keyds as f64;
        let node_minutes = self.args.keyds as f64 * seconds / 60.0;
        let others = asked.others.values().sum::<u64>() as f64 / node_minutes;
        let bytes = (watchers.received().0 - bytes) / seconds;
        let report = &mut self.report;
        report.hold(
            "quiet_requests",
            "quiet: requests of a node",
            others,
            "1/min",
            bar::QUIET_REQUESTS,
        );
        report.note(
            "quiet_watches",
            "quiet: its watches taken up again",
            asked.watches as f64 / node_minutes,
            "1/min",
        );
        report.note("quiet_cpu", "quiet: CPU time of a keyd", busy * 1e3, "ms/s");
        report.note("quiet_bytes", "quiet: sent to a watcher", bytes, "B/s");
        report.quiet_requests = asked.others;
        Ok(busy)
    }

    fn sample(&mut self, maps: &[Ipcache], quiet: f64, watchers: &Watchers) -> Result<(), ScaleError> {
        let samples = self.args.samples;
        let pods = self.next_pod..self.next_pod + samples;
        self.next_pod = pods.end;
        let bar = fill::progress(samples as u64, "single pods");
        let (cpu, received, begin) = (self.cpu_time()?, watchers.received(), Instant::now());
        let sampling = arrival::sample(&self.requests, maps, pods, self.synthetic, &bar);
        let arrivals = self.runtime.block_on(sampling)?;
        bar.finish_and_clear();
        let per_pod = self.cpu_per_pod(cpu, begin.elapsed(), quiet, samples)?;
        let now = watchers.received();
        let per_event = (now.0 - received.0) / (now.1 - received.1).max(1.0);
        let report = &mut self.report;
        hold_arrivals(
            report,
            &arrivals,
            ["known", "known_p50", "known_max", "known_answered"],
            [
                "one pod: known to all keyds, p99",
                "one pod: known to all keyds, median",
                "one pod: known to all keyds, most",
                "one pod: of that, the API server's answer, p99",
            ],
        );
        let gone = percentile_ms(&arrivals.gone, 0.99);
        report.note("gone", "one pod: gone from all keyds, p99", gone, "ms");
        report.note(
            "cpu_per_pod",
            "one pod: CPU time of a keyd, made and removed",
            per_pod,
            "ms",
        );
        report.note("event_bytes", "one pod: size of an event", per_event, "B");
        report.hold(
            "misled",
            "one pod: looks that led elsewhere",
            arrivals.misled as f64,
            "",
            bar::WRONG,
        );
        Ok(())
    }

    fn churn(&mut self, maps: &Arc<Vec<Ipcache>>, quiet: f64) -> Result<(), ScaleError> {
        let (cpu, before, begin) = (self.cpu_time()?, self.most_resident()?, Instant::now());
        let (args, first) = (self.args, self.next_pod);
        let duration = Duration::from_secs(60 * args.churn_minutes);
        let churn = churn::run(
            &self.requests,
            maps,
            self.synthetic,
            first,
            args.churn_rate,
            duration,
        );
        let churned = self.runtime.block_on(churn)?;
        self.next_pod += churned.pods;
        let per_pod = self.cpu_per_pod(cpu, begin.elapsed(), quiet, churned.pods)?;
        std::thread::sleep(QUIET);
        let after = self.most_resident()?;
        let report = &mut self.report;
        let rate = churned.pods as f64 / churned.took.as_secs_f64() * 60.0;
        report.note("churn_rate", "churn: pods made and removed", rate, "1/min");
        hold_arrivals(
            report,
            &churned.arrivals,
            [
                "churn_known",
                "churn_known_p50",
                "churn_known_max",
                "churn_answered",
            ],
            [
                "churn: known to all keyds, p99",
                "churn: known to all keyds, median",
                "churn: known to all keyds, most",
                "churn: of that, the API server's answer, p99",
            ],
        );
        report.note(
            "churn_cpu_per_pod",
            "churn: CPU time of a keyd, made and removed",
            per_pod,
            "ms",
        );
        report.hold(
            "churn_misled",
            "churn: looks that led elsewhere",
            churned.arrivals.misled as f64,
            "",
            bar::WRONG,
        );
        report.note(
            "churn_before",
            "churn: resident memory before",
            mib(before),
            "MiB",
        );
        let most = mib(before) * bar::MEMORY_AFTER;
        report.hold(
            "churn_after",
            "churn: resident memory after",
            mib(after),
            "MiB",
            most,
        );
        Ok(())
    }

    /// What all keyds hold, with what the API server has.
    fn compare(&mut self, maps: &[Ipcache]) -> Result<(), ScaleError> {
        let expected = self.runtime.block_on(arrival::expected(&self.requests))?;
        let mut wrong = Vec::new();
        for (map, daemon) in maps.iter().zip(&self.stage.daemons) {
            let found = map.wrong(&expected)?;
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("keyd {}: {what}", daemon.node)),
            );
        }
        let report = &mut self.report;
        report.note(
            "addresses",
            "addresses of pods in each keyd's map",
            expected.pods.len() as f64,
            "",
        );
        report.hold(
            "wrong",
            "entries of all keyds that are wrong",
            wrong.len() as f64,
            "",
            bar::WRONG,
        );
        wrong.truncate(SHOWN);
        report.wrong = wrong;
        Ok(())
    }

    fn measure_tunnel(&mut self, signing: &Signing) -> Result<(), ScaleError> {
        let large = fill::large_tunnel(&self.requests, signing, self.synthetic - 1);
        let bytes = self.runtime.block_on(large)? as f64;
        self.report.hold(
            "tunnel",
            "a NodeTunnel of two generations of 64 lanes",
            bytes,
            "B",
            bar::TUNNEL_BYTES,
        );
        Ok(())
    }

    /// Of all keyds together.
    fn cpu_time(&self) -> Result<Duration, ScaleError> {
        self.stage.daemons.iter().map(Daemon::cpu_time).sum()
    }

    /// Milliseconds of one keyd beyond those of the same time without a change.
    fn cpu_per_pod(
        &self,
        before: Duration,
        took: Duration,
        quiet: f64,
        pods: usize,
    ) -> Result<f64, ScaleError> {
        let of_one = (self.cpu_time()? - before).as_secs_f64() / self.args.keyds as f64;
        Ok((of_one - quiet * took.as_secs_f64()) * 1e3 / pods.max(1) as f64)
    }

    /// In KiB, of the keyd that has most.
    fn most_resident(&self) -> Result<u64, ScaleError> {
        let mut most = 0;
        for daemon in &self.stage.daemons {
            most = most.max(daemon.memory()?.resident);
        }
        Ok(most)
    }
}

fn hold_arrivals(
    report: &mut Report,
    arrivals: &Arrivals,
    [p99, p50, most, answered]: [&'static str; 4],
    meanings: [&'static str; 4],
) {
    let known = |share| percentile_ms(&arrivals.known, share);
    report.hold(p99, meanings[0], known(0.99), "ms", bar::KNOWN_P99_MS);
    report.note(p50, meanings[1], known(0.5), "ms");
    report.note(most, meanings[2], known(1.0), "ms");
    report.note(
        answered,
        meanings[3],
        percentile_ms(&arrivals.answered, 0.99),
        "ms",
    );
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
