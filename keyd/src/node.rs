//! `keyd node`: one task that owns all state of a node and keeps kernel and tunnels as desired.
//!
//! Stages: 1. wait for news (objects, links and routes, lanes, pairs' timers, the second's tick),
//! 2. compute the desired state, 3. note on disk what must survive, 4. put it in force: lanes, kernel,
//! WireGuard peers, 5. tell the pairs what is in force and do what they ask, until they ask for no
//! further change, 6. publish. What cannot be noted is not put in force. Before the first complete snapshot
//! nothing is written but the fallback's fence; what an earlier process pinned stays in force all along. When
//! the last pair is Off everything is taken away again. Pods of other nodes are followed without all of that (`follow`).

mod fallback;
mod follow;
mod force;
mod generation;
mod numbers;
mod pairs;
mod pods;
mod saying;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hauberk_api::NodeTunnel;
use hauberk_ebpf_redirect::requirements;
use hauberk_tunnel::{LaneEvent, LaneEventKind, x25519};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::cni::attachments::Attachments;
use crate::cni::install::Chain;
use crate::cni::serve::Asked;
use crate::compute::{
    self, DesiredState, Follower, Local, LocalGeneration, NotReady, PeerOwner, Reason, Rule, Tunnel,
    conditions,
};
use crate::control_message::ControlMessage;
use crate::kernel::Kernel;
use crate::lanes::{self, Lanes};
use crate::memory::{Memory, MemoryError};
use crate::options::NodeOptions;
use crate::pair::{Action, Input, Phase};
use crate::report::NodeReport;
use crate::source::{Source, Update};
use crate::sysctl::Liberal;
use crate::wiring::Wiring;
use crate::{cni, metrics, preflight, serve};

use fallback::Fallback;
use pairs::{Actions, Pairs};
use pods::Waiting;

/// Events of links and routes come in swarms; so long they are gathered before the tables are read.
const GATHER: Duration = Duration::from_millis(20);
/// Order of programs, numbers and unresolved pods are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Pairs go through at most their four phases in one go.
const MAX_ROUNDS: usize = 8;
/// Runs the node until SIGTERM or SIGINT. With encryption on the programs, maps and TUNs stay, so that
/// covered traffic is dropped until the next start.
pub async fn run(options: NodeOptions) -> anyhow::Result<()> {
    let _alone = preflight::directories(&options)?;
    let memory = Memory::load(&options.memory_dir)?;
    let pin_dir = options.pin_dir.clone();
    let opened = Node::open(options, memory.clone()).await;
    let mut node = opened.inspect_err(|_| Fallback::new(&pin_dir).close_all(&memory))?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let outcome = tokio::select! {
        outcome = node.work() => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    node.stop();
    outcome
}

struct Node {
    options: NodeOptions,
    source: Source,
    updates: watch::Receiver<Update>,
    wiring: Wiring,
    lanes: Lanes,
    events: mpsc::Receiver<LaneEvent>,
    liberal: Liberal,
    /// What CNI told of this node's pods.
    attachments: Attachments,
    /// Questions of the CNI plugin whose answer is still to come.
    waiting: Vec<Waiting>,
    /// Keeps the CNI plugin in the node's configuration, where that is wanted.
    chain: Option<Chain>,
    reports: watch::Sender<Arc<NodeReport>>,
    memory: Memory,
    /// What is on disk of `memory`.
    noted: Memory,
    pairs: Pairs,
    generations: Vec<LocalGeneration>,
    /// Loaded while some pair is not Off.
    kernel: Option<Kernel>,
    fallback: Fallback,
    /// What was put in force last.
    desired: Option<DesiredState>,
    /// The policies that were put in force last.
    rule: Option<Arc<Rule>>,
    /// Follows pods of other nodes from there on.
    follower: Follower,
    /// When all was last computed and compared with the kernel.
    settled: Option<Instant>,
    /// What is to be said of this node, but for [`Node::failures`].
    tunnel: Option<NodeTunnel>,
    /// Covered prefixes, as last known.
    covered: BTreeSet<IpNet>,
    /// Nothing of an earlier process is left, as far as this one knows.
    clean: bool,
    not_ready: Option<String>,
    failures: Vec<String>,
    /// Those of the last time.
    logged: Vec<String>,
    /// Places where the order of programs cannot be checked.
    unmended: Vec<String>,
    /// Faults that were mended, by their reason, and until when they are shown.
    mended: BTreeMap<&'static str, (String, Instant)>,
    /// The reasons that the last desired state was computed with.
    said: Vec<Reason>,
    reread_due: bool,
    serves: bool,
    fence_drops: u64,
    ticks: u64,
    state_written: Vec<u8>,
}

enum News {
    Objects,
    Wiring,
    Cni(Asked),
    Lane(LaneEvent),
    Pairs,
    Tick,
}

/// What comes of a lane's event.
#[derive(Default)]
struct Heard {
    /// Something of the desired state may be another.
    settles: bool,
    actions: Actions,
}

impl Node {
    async fn open(options: NodeOptions, memory: Memory) -> anyhow::Result<Self> {
        requirements::check(&options.pin_dir)?;
        let (source, updates) = Source::open(&options).await?;
        let (reports, _) = watch::channel(Arc::new(NodeReport {
            name: options.node.clone(),
            ..Default::default()
        }));
        let (lanes, events) = Lanes::new(options.uapi_dir.clone());
        let wiring = Wiring::open().await?;
        let mut attachments = Attachments::load(&options.state_dir)
            .with_context(|| format!("cannot use {}", options.state_dir.display()))?;
        attachments.drop_gone(wiring.tables());
        Ok(Self {
            wiring,
            liberal: Liberal::new(&options.sysctl_dir, &options.state_dir),
            attachments,
            waiting: Vec::new(),
            chain: None,
            noted: memory.clone(),
            pairs: Pairs::new(RandomState::new().build_hasher().finish() | 1),
            generations: Vec::new(),
            kernel: None,
            fallback: Fallback::new(&options.pin_dir),
            desired: None,
            rule: None,
            follower: Follower::default(),
            settled: None,
            tunnel: None,
            covered: BTreeSet::new(),
            clean: false,
            not_ready: None,
            failures: Vec::new(),
            logged: Vec::new(),
            unmended: Vec::new(),
            mended: BTreeMap::new(),
            said: Vec::new(),
            reread_due: false,
            serves: false,
            fence_drops: 0,
            ticks: 0,
            state_written: Vec::new(),
            options,
            source,
            updates,
            lanes,
            events,
            reports,
            memory,
        })
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whatever keeps keyd from going on, what was encrypted is closed first.
        let settled = self.settle(Actions::new()).await;
        preflight::tun()?;
        settled?;
        serve::start(&self.options.listen(), self.reports.subscribe()).await?;
        let mut cni = cni::serve::start(&self.options.cni_socket())?;
        self.serves = true;
        let directories = self.options.cni();
        self.chain = directories.map(|found| Chain::keep(found, self.options.cni_socket()));
        loop {
            let timer = self.pairs.deadline().map(tokio::time::Instant::from_std);
            let news = tokio::select! {
                changed = self.updates.changed() => {
                    changed.context("the source of objects has ended")?;
                    News::Objects
                }
                () = self.wiring.changed() => News::Wiring,
                Some(asked) = cni.recv() => News::Cni(asked),
                Some(event) = self.events.recv() => News::Lane(event),
                () = tokio::time::sleep_until(timer.unwrap_or_else(tokio::time::Instant::now)), if timer.is_some() => News::Pairs,
                _ = tick.tick() => News::Tick,
            };
            match news {
                News::Objects => {
                    if !self.follow() {
                        self.settle(Actions::new()).await?;
                    }
                }
                News::Wiring => {
                    tokio::time::sleep(GATHER).await;
                    // A device that was away for a moment may be back as it was, but without programs.
                    let mended = self.mend_programs();
                    if self.reread().await || mended {
                        self.settle(Actions::new()).await?;
                    }
                }
                News::Cni(asked) => {
                    let mut all = vec![asked];
                    while let Ok(asked) = cni.try_recv() {
                        all.push(asked);
                    }
                    self.take_in(all).await?;
                }
                News::Lane(event) => {
                    // After a start, and while many pairs flip, handshakes and messages come in swarms.
                    let mut all = vec![event];
                    while let Ok(event) = self.events.try_recv() {
                        all.push(event);
                    }
                    self.hear_all(all).await?;
                }
                News::Pairs => {
                    let actions = self.pairs.tick(Instant::now());
                    self.act(actions).await?;
                }
                News::Tick => self.look_around().await?,
            }
        }
    }

    /// Reads links and routes again; says whether they differ. What cannot be read is read at the next tick.
    async fn reread(&mut self) -> bool {
        let read = self.wiring.refresh().await;
        self.reread_due = read.is_err();
        if read.is_ok() {
            self.attachments.drop_gone(self.wiring.tables());
        }
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "links and routes not read; tried again");
            false
        })
    }

    /// Does what pairs ask; a change of phase goes through the whole reconciliation.
    async fn act(&mut self, actions: Actions) -> anyhow::Result<()> {
        if actions
            .iter()
            .any(|(_, action)| matches!(action, Action::Apply(_)))
        {
            self.settle(actions).await
        } else {
            self.perform(actions);
            Ok(())
        }
    }

    /// Stages 2 to 6, until no pair asks for a further change of phase and the cluster's policies are in force.
    async fn settle(&mut self, mut actions: Actions) -> anyhow::Result<()> {
        for _ in 0..MAX_ROUNDS {
            let applying = self.perform(actions);
            self.failures.clear();
            let Some(mut desired) = self.compute() else {
                self.fall_back();
                break;
            };
            let brought_up = match desired.tunnel {
                Tunnel::Up { lanes, listen_port } => self.bring_up(lanes, listen_port).await,
                Tunnel::Down => Ok(false),
            };
            let noted = match brought_up.map_err(|error| error.downcast::<MemoryError>()) {
                Ok(false) => self.note(),
                Ok(true) => {
                    let Some(again) = self.compute() else {
                        self.fall_back();
                        break;
                    };
                    desired = again;
                    self.note()
                }
                Err(Ok(error)) => Err(error),
                Err(Err(error)) => {
                    self.close(&desired).await;
                    return Err(error);
                }
            };
            if let Err(error) = noted {
                self.hold(desired, error);
                break;
            }
            match desired.tunnel {
                Tunnel::Up { .. } => self.put_in_force(&desired),
                Tunnel::Down => self.take_away().await,
            }
            let now = Instant::now();
            actions = self.pairs.learn(&desired, &self.memory, now);
            if self.failures.is_empty() {
                for (name, phase) in applying {
                    tracing::info!(peer = name, phase = phase.name(), "pair changed its phase");
                    actions.extend(self.pairs.tell(&name, Input::Applied(phase), now));
                }
            }
            self.tunnel = Some(desired.publish.clone());
            let on_the_way = desired.on_the_way && self.rule.is_some();
            self.desired = Some(desired);
            if !on_the_way
                && !actions
                    .iter()
                    .any(|(_, action)| matches!(action, Action::Apply(_)))
            {
                self.perform(actions);
                break;
            }
        }
        self.answer();
        self.publish();
        Ok(())
    }

    /// Writes what must survive to disk, before it is put in force.
    fn note(&mut self) -> Result<(), MemoryError> {
        if self.noted != self.memory {
            self.memory.save(&self.options.memory_dir)?;
            self.noted = self.memory.clone();
        }
        Ok(())
    }

    fn compute(&mut self) -> Option<DesiredState> {
        let update = self.updates.borrow_and_update().clone();
        let local = self.local(&update);
        self.said.clone_from(&local.problems);
        let computed = match update.in_sync {
            true => compute::compute_and_follow(&update.snapshot, &local, &mut self.memory),
            false => Err(NotReady::NotInSync),
        };
        match computed {
            Ok((desired, follower)) => {
                self.follower = follower;
                if self.settled.replace(Instant::now()).is_none() {
                    let peak_kib = metrics::peak_resident_bytes().map(|bytes| bytes / 1024);
                    let (nodes, pods) = (update.snapshot.nodes.len(), update.snapshot.pods.len());
                    tracing::info!(nodes, pods, peak_kib, "all objects are read");
                }
                self.not_ready = None;
                self.covered.clone_from(&desired.covered);
                Some(desired)
            }
            Err(reason) => {
                if self.not_ready.as_deref() != Some(reason.reason()) {
                    tracing::warn!(%reason, "not ready");
                }
                self.not_ready = Some(reason.reason().to_owned());
                if let Some(tunnel) = &mut self.tunnel {
                    conditions::set_not_ready(tunnel, &reason);
                }
                None
            }
        }
    }

    fn local(&mut self, update: &Update) -> Local {
        let snapshot = &update.snapshot;
        let tables = self.wiring.tables();
        let via = compute::remote_prefixes(snapshot, &self.memory, &self.options.node)
            .into_iter()
            .filter_map(|prefix| Some((prefix, tables.via(prefix)?)))
            .collect();
        let addresses = tables.addresses.clone();
        Local {
            node: self.options.node.clone(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            generations: self.generations.clone(),
            pod_interfaces: self.pod_interfaces(snapshot),
            attached: self.attachments.in_order(),
            via,
            addresses,
            problems: self.reasons(update),
            rule: self.rule.clone(),
        }
    }

    /// Sends and connects; notes phases and returns them, for they have yet to be put in force.
    fn perform(&mut self, actions: Actions) -> Vec<(String, Phase)> {
        let mut applying = Vec::new();
        for (name, action) in actions {
            match action {
                Action::Apply(phase) => {
                    self.memory.phases.insert(name.clone(), phase);
                    applying.push((name, phase));
                }
                Action::Send(message) => self.in_session(&name, |lanes, slot, key| {
                    lanes.send_control(slot, key, message.encode().to_vec())
                }),
                Action::Connect => self.in_session(&name, Lanes::connect),
            }
        }
        applying
    }

    fn in_session(
        &self,
        name: &str,
        act: impl FnOnce(&Lanes, u32, &x25519::PublicKey) -> Result<(), hauberk_tunnel::LaneError>,
    ) {
        let Some((id, key)) = self.pairs.session(name) else {
            return;
        };
        let Some(generation) = self.generations.iter().find(|found| found.id == id.generation) else {
            return;
        };
        let slot = generation.slot_base + id.lane as u32;
        if let Err(error) = act(&self.lanes, slot, &x25519::PublicKey::from(*key.as_bytes())) {
            tracing::debug!(peer = name, %error, "session 0 not used; the pair tries again");
        }
    }

    async fn hear_all(&mut self, events: Vec<LaneEvent>) -> anyhow::Result<()> {
        let (mut settles, mut actions) = (false, Actions::new());
        for event in events {
            let heard = self.hear(event);
            settles |= heard.settles;
            actions.extend(heard.actions);
        }
        match settles {
            true => self.settle(actions).await,
            false => self.act(actions).await,
        }
    }

    fn hear(&mut self, event: LaneEvent) -> Heard {
        let now = Instant::now();
        let nothing = Heard::default();
        match event.kind {
            LaneEventKind::HandshakeDone { peer } => {
                let Some((name, session, generation)) = self.whose(&event.lane, &peer) else {
                    return nothing;
                };
                let known = self.generations.iter_mut().find(|found| found.id == generation);
                let settles = known.is_some_and(|generation| generation.connected.insert(name.clone()));
                if settles {
                    self.connect_waiting(&name, generation);
                }
                let actions = match session {
                    0 => self.pairs.tell(&name, Input::Session, now),
                    _ => Actions::new(),
                };
                Heard { settles, actions }
            }
            LaneEventKind::Control { peer, payload } => {
                let Some((name, _, _)) = self.whose(&event.lane, &peer) else {
                    return nothing;
                };
                match ControlMessage::decode(&payload) {
                    Ok(message) => Heard {
                        actions: self.pairs.tell(&name, Input::Message(message), now),
                        ..nothing
                    },
                    Err(error) => {
                        tracing::debug!(peer = name, %error, "control message not understood");
                        nothing
                    }
                }
            }
            LaneEventKind::Failed(error) => {
                tracing::error!(lane = &*event.lane, %error, "lane ended; it is started again");
                self.lanes.reap();
                Heard {
                    settles: true,
                    ..nothing
                }
            }
        }
    }

    /// A peer that did not know this generation's keys yet refused all its sessions, and each would be tried
    /// again after 5 s only. One that is up now shows that the peer knows them.
    fn connect_waiting(&self, node: &str, generation: u64) {
        let Some(desired) = &self.desired else { return };
        let Some(known) = self.generations.iter().find(|found| found.id == generation) else {
            return;
        };
        for (id, peers) in desired
            .lane_peers
            .iter()
            .filter(|(id, _)| id.generation == generation)
        {
            let sessions = peers
                .iter()
                .filter(|(_, peer)| matches!(&peer.owner, PeerOwner::Node(name) if name == node));
            for (key, peer) in sessions {
                let slot = known.slot_base + id.lane as u32;
                let key = x25519::PublicKey::from(*key.as_bytes());
                if let Err(error) = self.lanes.connect_waiting(slot, &key) {
                    tracing::debug!(peer = node, session = peer.session, %error, "not connected early");
                }
            }
        }
    }

    /// The node, the session's number and the generation of a WireGuard peer of a lane.
    fn whose(&self, lane: &str, peer: &x25519::PublicKey) -> Option<(String, u32, u64)> {
        let key = hauberk_api::PublicKey::from_bytes(peer.to_bytes());
        let desired = self.desired.as_ref()?;
        desired.lane_peers.iter().find_map(|(id, peers)| {
            let generation = self.generations.iter().find(|found| found.id == id.generation)?;
            let found = peers.get(&key)?;
            let PeerOwner::Node(name) = &found.owner else {
                return None;
            };
            (lanes::tun_name(generation.slot_base + id.lane as u32) == lane)
                .then(|| (name.clone(), found.session, id.generation))
        })
    }

    /// Whether the encryption of this node is up.
    fn is_up(&self) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| desired.tunnel != Tunnel::Down)
    }

    /// Ends the lanes. Everything else stays in force: what is covered is dropped, not sent in clear.
    fn stop(&mut self) {
        self.lanes.stop_all();
        self.report_stopped();
        if let crate::options::Listen::Unix(path) = self.options.listen()
            && self.serves
        {
            let _ = std::fs::remove_file(path);
        }
        if self.serves {
            let _ = std::fs::remove_file(self.options.cni_socket());
        }
        tracing::info!("stopped");
    }
}
