//! `hauberk-bench scale`: what a large cluster costs a node, and how soon a node knows.
//!
//! A real API server is filled with synthetic nodes and pods; encryption is on. A few nodes are real: keyd in
//! network namespaces, as in the tests. Stages: 1. control plane, lab and controller, 2. objects, 3. light watchers,
//! 4. keyds, started one after the other and measured each, 5. silence, 6. traffic between two nodes, 7. single
//! pods, 8. churn of pods, 9. nodes that are replaced; in both what keyds hold is compared with what the API server
//! has all along, and 10. once more when all is over. All of it is removed at the end.
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
mod inspect;
mod ipcache;
mod objects;
mod process;
mod relocate;
mod report;
mod requests;
mod signing;
mod span;
mod stage;
mod steady;
mod truth;
mod verify;
mod watchers;

use error::{ScaleError, file};
use inspect::{Changing, Inspector};
use ipcache::Ipcache;
use objects::Host;
use relocate::Relocation;
use report::{Report, percentile_ms};
use requests::Requests;
use signing::Signing;
use span::{Span, Spent};
use stage::Stage;
use truth::Truth;
use watchers::Watchers;

/// After the keyds have started, until they are as they stay: certificates, handshakes, freed memory.
const SETTLE: Duration = Duration::from_secs(20);
/// Until the real nodes encrypt between each other.
const STRICT_PATIENCE: Duration = Duration::from_secs(60);
/// Until everything of a churn's end is known.
const QUIET: Duration = Duration::from_secs(10);
/// Synthetic nodes on which no pods stay: others take their places.
const SPARE: usize = 2;
/// So many wrong entries are shown.
const SHOWN: usize = 10;

/// What the figures have to stay below.
mod bar {
    pub const RESIDENT_MIB: f64 = 60.0;
    pub const START_S: f64 = 5.0;
    pub const KNOWN_P99_MS: f64 = 250.0;
    /// A node that is replaced is four changes before its pod comes, and for each a keyd computes everything anew. What
    /// takes longer counts as wrong (`inspect::GRACE`).
    pub const MOVED_P99_MS: f64 = 2_000.0;
    pub const QUIET_REQUESTS: f64 = 1.0;
    pub const TUNNEL_BYTES: f64 = 16_384.0;
    /// As a multiple of what it was before the churn.
    pub const MEMORY_AFTER: f64 = 1.1;
    /// As a multiple of those in silence. A packet that woke the others would make it hundreds of times as many.
    pub const WAKEUPS: f64 = 1.1;
    /// For what is counted and must not be.
    pub const NONE: f64 = 0.5;
}

/// Measures. What it is at is said on standard error.
pub fn run(args: &ScaleArgs) -> Result<Report, ScaleError> {
    let synthetic = args.nodes - args.keyds;
    let hosts = synthetic - SPARE;
    if args.pods > hosts * objects::MOST_PODS {
        return Err(ScaleError::TooManyPods {
            pods: args.pods,
            nodes: hosts,
        });
    }
    let runtime = Runtime::new().map_err(file("a tokio runtime"))?;
    eprintln!("starting a control plane, a lab and a controller");
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
        hosts,
        next_pod: args.pods + args.keyds,
        report: Report::default(),
        told: 0,
        inspector: Inspector::new(args.keyds),
        runtime,
        requests,
        watchers: Watchers::default(),
        stage,
    };
    let signing = run.fill()?;
    run.watchers = run
        .runtime
        .block_on(async { Watchers::start(&watching, args.watchers) });
    let maps = Arc::new(run.start()?);
    let silence = run.steady()?;
    run.sample(&maps, silence.mean_busy())?;
    if args.churn_minutes > 0.0 {
        run.churn(&maps, silence.mean_busy())?;
        run.relocate(&maps, &signing)?;
    }
    run.compare(&maps)?;
    run.measure_tunnels(&signing)?;
    Ok(run.report)
}

struct Run<'a> {
    args: &'a ScaleArgs,
    /// Synthetic nodes on which pods stay; they have the first numbers.
    hosts: usize,
    /// The number of the next pod.
    next_pod: usize,
    report: Report,
    /// So many of its figures were said.
    told: usize,
    inspector: Inspector,
    runtime: Runtime,
    requests: Requests,
    watchers: Watchers,
    stage: Stage,
}

impl Run<'_> {
    fn fill(&mut self) -> Result<Signing, ScaleError> {
        self.say("filling it");
        let (args, requests, lab) = (self.args, &self.requests, &self.stage.lab);
        let begin = Instant::now();
        let signing = self.runtime.block_on(async {
            let signing = fill::signing(requests).await?;
            fill::real(requests, lab, args.lanes, args.pods).await?;
            fill::nodes(requests, &signing, self.hosts + SPARE, args.lanes).await?;
            fill::pods(requests, args.pods, self.hosts).await?;
            Ok::<_, ScaleError>(signing)
        })?;
        let took = begin.elapsed();
        self.say(&format!(
            "{} nodes and {} pods made in {took:.0?}",
            args.nodes, args.pods
        ));
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
        let span = Span::begin(&self.stage, &self.watchers)?;
        for number in 0..self.args.keyds {
            let daemon = self.stage.start(number)?;
            after.push(daemon.wait_ready()?);
            peaks.push(daemon.memory()?.peak);
            let line = format!("keyd {} is ready after {:.2?}", daemon.node, after[number]);
            self.say(&line);
        }
        let asked = span.end(&self.stage, &self.watchers)?.asked;
        if asked.watches == 0 {
            let log = self.stage.cluster.audit_log().to_owned();
            return Err(ScaleError::Unaudited { log });
        }
        self.say("waiting until they encrypt to each other, and have settled");
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
        report.note("start_peak", "its peak until it is ready", mib(peak), "MiB");
        let slowest = percentile_ms(&after, 1.0) / 1e3;
        report.hold(
            "start",
            "from its start to ready, slowest",
            slowest,
            "s",
            bar::START_S,
        );
        let requests = asked.watches + asked.others.values().sum::<u64>();
        report.note(
            "start_requests",
            "from its start to ready: requests, watches among them",
            requests as f64 / self.args.keyds as f64,
            "",
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

    fn steady(&mut self) -> Result<Spent, ScaleError> {
        let seconds = self.args.steady_seconds;
        self.say(&format!("silence for {seconds} s"));
        let silence = steady::silence(&self.stage, &self.watchers, seconds, &mut self.report)?;
        self.say("traffic between two nodes");
        steady::traffic(&self.stage, &self.watchers, &silence, &mut self.report)?;
        Ok(silence)
    }

    /// `quiet` is the CPU time of a keyd in silence, in seconds a second.
    fn sample(&mut self, maps: &[Ipcache], quiet: f64) -> Result<(), ScaleError> {
        let samples = self.args.samples;
        self.say(&format!("{samples} single pods"));
        let pods = self.next_pod..self.next_pod + samples;
        self.next_pod = pods.end;
        let bar = fill::progress(samples as u64, "single pods");
        let span = Span::begin(&self.stage, &self.watchers)?;
        let sampling = arrival::sample(&self.requests, maps, pods, self.hosts, &bar);
        let arrivals = self.runtime.block_on(sampling)?;
        bar.finish_and_clear();
        let spent = span.end(&self.stage, &self.watchers)?;
        let report = &mut self.report;
        arrivals.tell(report, "one", "one pod", bar::KNOWN_P99_MS);
        report.note(
            "one_cpu",
            "one pod: CPU time of a keyd, made and removed",
            spent.cpu_beyond(quiet) * 1e3 / samples as f64,
            "ms",
        );
        let per_event = spent.bytes / spent.events.max(1.0);
        report.note("event_bytes", "one pod: size of an event", per_event, "B");
        Ok(())
    }

    fn churn(&mut self, maps: &Arc<Vec<Ipcache>>, quiet: f64) -> Result<(), ScaleError> {
        let (args, first) = (self.args, self.next_pod);
        self.say(&format!(
            "churn for {} min, {} pods a minute",
            args.churn_minutes, args.churn_rate
        ));
        let before = self.most_resident()?;
        let span = Span::begin(&self.stage, &self.watchers)?;
        let pods = churn::turns(
            args.churn_rate,
            Duration::from_secs_f64(60.0 * args.churn_minutes),
        );
        self.next_pod += pods;
        let churned = self.runtime.block_on(async {
            let staying = Truth::whole(&self.requests).await?;
            let churn = churn::run(&self.requests, maps, self.hosts, first, args.churn_rate, pods);
            tokio::select! {
                churned = churn => churned,
                never = self.inspector.follow(&self.requests, maps, Changing::Pods, &staying) => match never? {},
            }
        })?;
        let spent = span.end(&self.stage, &self.watchers)?;
        std::thread::sleep(QUIET);
        let after = self.most_resident()?;
        let report = &mut self.report;
        let rate = churned.pods as f64 / churned.took.as_secs_f64() * 60.0;
        report.note("churn_rate", "churn: pods made and removed", rate, "1/min");
        churned.arrivals.tell(report, "churn", "churn", bar::KNOWN_P99_MS);
        let found = &self.inspector.found;
        report.note(
            "churn_rounds",
            "churn: times that all of every map was compared",
            found.rounds as f64,
            "",
        );
        report.note(
            "churn_compared",
            "churn: entries compared",
            found.compared as f64,
            "",
        );
        report.hold(
            "churn_wrong",
            "churn: entries that were wrong",
            found.wrong.len() as f64,
            "",
            bar::NONE,
        );
        report.note(
            "churn_cpu",
            "churn: CPU time of a keyd",
            spent.mean_busy() * 1e3,
            "ms/s",
        );
        report.note(
            "churn_cpu_per_pod",
            "churn: CPU time of a keyd, made and removed",
            spent.cpu_beyond(quiet) * 1e3 / churned.pods.max(1) as f64,
            "ms",
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

    fn relocate(&mut self, maps: &Arc<Vec<Ipcache>>, signing: &Signing) -> Result<(), ScaleError> {
        self.say("nodes are replaced, and their addresses pass to others");
        let spares = self.hosts..self.hosts + SPARE;
        let relocation = Relocation {
            next_node: spares.end,
            hosts: spares.map(Host::first).collect(),
            next_pod: self.next_pod,
            lanes: self.args.lanes,
        };
        self.next_pod += relocate::TURNS;
        let wrong = self.inspector.found.wrong.len();
        let moved = self.runtime.block_on(async {
            let staying = Truth::whole(&self.requests).await?;
            let relocate = relocation.run(&self.requests, signing, maps);
            tokio::select! {
                moved = relocate => moved,
                never = self.inspector.follow(&self.requests, maps, Changing::Nodes, &staying) => match never? {},
            }
        })?;
        std::thread::sleep(QUIET);
        let report = &mut self.report;
        moved.tell(report, "moved", "an address on another node", bar::MOVED_P99_MS);
        report.hold(
            "moved_wrong",
            "an address on another node: entries that were wrong",
            (self.inspector.found.wrong.len() - wrong) as f64,
            "",
            bar::NONE,
        );
        Ok(())
    }

    /// What all keyds hold, with what the API server has, now that nothing changes.
    fn compare(&mut self, maps: &Arc<Vec<Ipcache>>) -> Result<(), ScaleError> {
        self.say("comparing all of every map once more");
        let so_far = self.inspector.found.clone();
        let comparing = self.inspector.compare(&self.requests, maps);
        self.runtime.block_on(comparing)?;
        let mut peak = 0;
        for daemon in &self.stage.daemons {
            peak = peak.max(daemon.memory()?.peak);
        }
        let (report, found) = (&mut self.report, &mut self.inspector.found);
        report.note(
            "compared",
            "end: entries compared",
            (found.compared - so_far.compared) as f64,
            "",
        );
        report.hold(
            "wrong",
            "end: entries that are wrong",
            (found.wrong.len() - so_far.wrong.len()) as f64,
            "",
            bar::NONE,
        );
        report.note(
            "peak",
            "end: the most resident memory that a keyd ever had",
            mib(peak),
            "MiB",
        );
        found.wrong.truncate(SHOWN);
        report.wrong = std::mem::take(&mut found.wrong);
        Ok(())
    }

    fn measure_tunnels(&mut self, signing: &Signing) -> Result<(), ScaleError> {
        let (requests, real) = (&self.requests, self.stage.lab.nodes()[0].name());
        let (small, large) = self.runtime.block_on(async {
            tokio::try_join!(
                fill::tunnel_bytes(requests, real),
                fill::large_tunnel(requests, signing, Host::first(0)),
            )
        })?;
        let report = &mut self.report;
        report.note("tunnel_here", "a keyd's NodeTunnel, as it is", small as f64, "B");
        report.hold(
            "tunnel",
            "a NodeTunnel of two generations of 64 lanes",
            large as f64,
            "B",
            bar::TUNNEL_BYTES,
        );
        Ok(())
    }

    /// Says what it is at, for who waits, and before that what was measured since, which outlives a run that fails.
    fn say(&mut self, what: &str) {
        for line in self.report.lines(self.told) {
            eprintln!("  {line}");
        }
        self.told = self.report.figures.len();
        eprintln!("{what}");
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

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
