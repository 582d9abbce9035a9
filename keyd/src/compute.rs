//! From the cluster's objects to what this node's kernel and tunnels shall hold: pure, and the same
//! answer for the same question.
//!
//! Stages: 1. settle conflicts ([`Snapshot::claims`]) and what CNI told of this node's pods, 2. covered prefixes, 3. peers
//! and the WireGuard peers of each lane, 4. external peers, 5. ipcache and pods, 6. policies, 7. what this node publishes of
//! itself. It reads no clock, no file and no kernel state; what it needs of those is in [`Local`].

mod attached;
pub mod conditions;
mod external;
mod follow;
mod ipcache;
mod peers;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hauberk_abi as abi;
use hauberk_api::{Enforcer, LaneSpec, MeshSpec, NodeTunnel, PolicyMode, PublicKey, UnreachableNodes};
use hauberk_policy::judge::Policies;
use ipnet::IpNet;

use crate::memory::{KnownNode, Memory};
use crate::pair::{PeerKeys, Phase, Want};
use crate::snapshot::{Claims, Conflict, Snapshot};

use external::External;
use ipcache::{Addresses, Sight};
use peers::{Flip, Peers};
pub use policy::Rule;
use policy::{Policing, Step};

pub use attached::Attached;
pub use follow::{AddressChanges, Follower, address_changes};

/// The reason of a manifest that cannot be read.
pub const BAD_MANIFEST: &str = "BadManifest";

/// UDP port of control messages, on node addresses inside the tunnel.
pub const CONTROL_PORT: u16 = 23399;

/// What this node knows of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// Its name.
    pub node: String,
    /// Its processors, for the default number of lanes.
    pub cores: usize,
    /// Its generations that are up, oldest first; empty while the tunnel is down.
    pub generations: Vec<LocalGeneration>,
    /// Host-side interfaces of its pods by the pods' addresses, as routes and bridges lead there.
    pub pod_interfaces: BTreeMap<IpAddr, u32>,
    /// What CNI gave its pods, in the order in which it did: of two with one address the later has it.
    pub attached: Vec<Attached>,
    /// For each of [`remote_prefixes`] that the kernel has a route to: the device it leads through.
    pub via: BTreeMap<IpNet, u32>,
    /// Addresses of its own devices, those that its Node does not name too.
    pub addresses: BTreeSet<IpAddr>,
    /// What is wrong with this node, for its condition `Degraded`.
    pub problems: Vec<Reason>,
    /// The policies that are in force; none while nothing is.
    pub rule: Option<Arc<Rule>>,
}

/// A generation of this node that is up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalGeneration {
    /// Its number.
    pub id: u64,
    /// The kernel's slot of its first lane.
    pub slot_base: u32,
    /// Its lanes, in order.
    pub lanes: Vec<LaneSpec>,
    /// Peers with whom a handshake under it is done.
    pub connected: BTreeSet<String>,
}

/// What the kernel and the tunnels shall hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredState {
    /// Map `CONFIG`.
    pub config: abi::Config,
    /// Map `COVERED`, and the nftables fence: prefixes that do not overlap.
    pub covered: BTreeSet<IpNet>,
    /// Map `IPCACHE`.
    pub ipcache: BTreeMap<(abi::Addr, u8), abi::IpcacheEntry>,
    /// Map `PEERS`.
    pub peers: BTreeMap<u32, abi::Peer>,
    /// Map `PODS`.
    pub pods: BTreeMap<u32, abi::Pod>,
    /// Map `POD_ADDRESSES`.
    pub pod_addresses: BTreeSet<abi::PodAddress>,
    /// Map `VERDICTS`.
    pub verdicts: BTreeMap<abi::VerdictKey, u32>,
    /// Map `PORTS`.
    pub ports: BTreeMap<(abi::PortKey, u8), u32>,
    /// The policies that this is computed by.
    pub rule: Arc<Rule>,
    /// They are not yet those of the cluster: once this is in force, the next step is to be computed.
    pub on_the_way: bool,
    /// What this node's flag says; for [`crate::pair::Input::Want`].
    pub want: Want,
    /// Whether lanes shall be up and conntrack be liberal: the flag is on, or some pair is not Off yet.
    pub tunnel: Tunnel,
    /// WireGuard peers by lane.
    pub lane_peers: BTreeMap<LaneId, BTreeMap<PublicKey, TunnelPeer>>,
    /// The other nodes, by name.
    pub pairs: BTreeMap<String, PairFacts>,
    /// Those of them that cannot take part and are exempt: what goes there stays clear.
    pub exempt: BTreeSet<String>,
    /// This node's NodeTunnel as it shall be published; `lastTransitionTime` is filled in by the source.
    pub publish: NodeTunnel,
    /// Conflicts between objects that concern anybody, for the metric.
    pub conflicts: Vec<Conflict>,
    /// ExternalPeers that were refused, and why.
    pub refused_external_peers: BTreeMap<String, String>,
    /// What of the policies that are to be enforced means nothing, and therefore opens nothing.
    pub policy_problems: Vec<String>,
    /// Settings of the Mesh that this version does not act on.
    pub unsupported: Vec<&'static str>,
}

/// Whether lanes shall be up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// No lanes, no device, no changed setting.
    #[default]
    Down,
    /// Lanes as said here, for the next generation that is brought up.
    Up {
        /// How many.
        lanes: usize,
        /// First port of both ranges: a generation listens from `listen_port + (id % 2) * lanes`.
        listen_port: u16,
    },
}

/// One lane of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The generation's number.
    pub generation: u64,
    /// The lane's place in it.
    pub lane: usize,
}

/// A WireGuard peer of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPeer {
    /// Whose.
    pub owner: PeerOwner,
    /// Which of the pair's sessions it is; session 0 is opened at once and carries control messages.
    pub session: u32,
    /// Where its datagrams go.
    pub endpoint: Option<SocketAddr>,
    /// Inner addresses it may send from and receive for.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives.
    pub persistent_keepalive: Option<u16>,
    /// The peer's address for control messages.
    pub control: Option<SocketAddr>,
}

/// Whose WireGuard peer it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerOwner {
    /// Another node.
    Node(String),
    /// An ExternalPeer.
    External(String),
}

/// What a pair's state machine and its driver need to know of a peer node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFacts {
    /// Its number in the kernel's maps.
    pub number: u32,
    /// What its NodeTunnel says; for [`crate::pair::Input::Peer`].
    pub keys: PeerKeys,
    /// The phase in which a pair starts that this node does not remember.
    pub initial: Phase,
    /// Session 0: the lane that serves it and the peer's key there. None while either side has no lanes.
    pub session: Option<(LaneId, PublicKey)>,
}

/// A reason of a condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// In CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Reason {
    /// A reason with its text.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Why there is no desired state; the kernel and the tunnels stay as they are, and the node is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The source has not read everything yet.
    #[error("the cluster's objects have not all been read yet")]
    NotInSync,
    /// No Mesh has been seen, ever.
    #[error("there is no Mesh named default")]
    NoMesh,
    /// This node's Node object is missing.
    #[error("there is no Node named {0}")]
    NoNode(String),
    /// This node's Node object has no InternalIP.
    #[error("Node {0} has no InternalIP in its status")]
    NoNodeAddress(String),
    /// No covered prefix.
    #[error("nothing is covered: spec.encryption.podCIDRs is empty and no Node has podCIDRs")]
    NothingCovered,
}

impl NotReady {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotInSync => "NotInSync",
            Self::NoMesh => "NoMesh",
            Self::NoNode(_) => "NoNode",
            Self::NoNodeAddress(_) => "NoNodeAddress",
            Self::NothingCovered => "NothingCovered",
        }
    }
}

/// Prefixes of other nodes for which this node needs to know the device by which its routes lead there.
pub fn remote_prefixes(snapshot: &Snapshot, memory: &Memory, node: &str) -> BTreeSet<IpNet> {
    let mut claims = snapshot.claims_of_nodes();
    keep_addresses(snapshot, &mut claims, memory);
    let others = |name: &&String| *name != node;
    let prefixes = claims
        .node_prefixes
        .iter()
        .filter(|(name, _)| others(name))
        .flat_map(|(_, prefixes)| prefixes);
    let addresses = claims
        .node_addresses
        .iter()
        .filter(|(name, _)| others(name))
        .flat_map(|(_, own)| own);
    let external = snapshot
        .external_peers
        .values()
        .flat_map(|peer| &peer.spec.allowed_ips);
    let hosts = addresses.map(|address| IpNet::from(*address));
    prefixes
        .copied()
        .chain(hosts)
        .chain(external.map(IpNet::trunc))
        .collect()
}

/// What this node shall hold. Numbers given and settings seen are noted in `memory`, phases are read there.
pub fn compute(snapshot: &Snapshot, local: &Local, memory: &mut Memory) -> Result<DesiredState, NotReady> {
    compute_and_follow(snapshot, local, memory).map(|(desired, _)| desired)
}

/// The same, and who can tell what becomes of it when pods of other nodes change.
pub fn compute_and_follow(
    snapshot: &Snapshot,
    local: &Local,
    memory: &mut Memory,
) -> Result<(DesiredState, Follower), NotReady> {
    if let Some(mesh) = &snapshot.mesh {
        memory.mesh = Some(mesh.spec.clone());
    }
    let spec = memory.mesh.clone().ok_or(NotReady::NoMesh)?;
    let own = snapshot
        .nodes
        .get(&local.node)
        .ok_or_else(|| NotReady::NoNode(local.node.clone()))?;
    if own.addresses.is_empty() {
        return Err(NotReady::NoNodeAddress(local.node.clone()));
    }
    let mut claims = snapshot.claims();
    let held = attached::settle(local, &mut claims);
    let unreachable = spec.encryption.unreachable_nodes();
    let want = if spec.encryption.enabled {
        Want::On(unreachable)
    } else {
        Want::Off
    };
    let tunnel = tunnel(want, local, memory);
    remember(snapshot, &claims, local, want, memory);
    keep_addresses(snapshot, &mut claims, memory);
    let mut covered = covered(&spec, &claims, memory);
    if covered.is_empty() {
        return Err(NotReady::NothingCovered);
    }
    // Lanes that are on their way out serve nobody and are not published any more.
    let going_down = Local {
        generations: Vec::new(),
        ..local.clone()
    };
    let local = if tunnel == Tunnel::Down {
        &going_down
    } else {
        local
    };
    let mesh_sealed = snapshot.mesh_status().is_some_and(|status| status.sealed);
    let Peers {
        mut peers,
        mut lane_peers,
        pairs,
    } = Peers::of(&claims, local, memory, &Flip { want, mesh_sealed });
    let external = if want.is_on() {
        let is_covered = |prefix: &IpNet| covered.iter().any(|covered| external::overlap(covered, prefix));
        External::of(snapshot, &claims, is_covered, local, memory)
    } else {
        External::default()
    };
    let step = Step::next(local.rule.as_deref(), policies(snapshot, &spec));
    let is_idle = spec.policy.enforcer() == Enforcer::Cni;
    let mut policing = Policing::new(&step, is_idle, &mut memory.numbers);
    let sight = Sight {
        snapshot,
        claims: &claims,
        held: &held,
        local,
        covered: &covered,
        lost: &memory.nodes,
        external: &external.prefixes,
    };
    let addresses = Addresses::of(&sight, &mut policing);
    let (rule, tables) = policing.finish(local.rule.as_deref());
    covered.extend(external.prefixes.iter().map(|(_, prefix)| *prefix));
    peers.extend(external.peers);
    for (lane, key, peer) in external.lane_peers {
        lane_peers.entry(lane).or_default().insert(key, peer);
    }

    let mut desired = DesiredState {
        covered: IpNet::aggregate(&covered.into_iter().collect())
            .into_iter()
            .collect(),
        ipcache: addresses.ipcache,
        peers,
        pods: tables.pods(&addresses.pods),
        pod_addresses: addresses.pod_addresses,
        verdicts: tables.verdicts,
        ports: tables.ports,
        rule: Arc::new(rule),
        on_the_way: !step.is_last,
        want,
        tunnel,
        lane_peers,
        exempt: exempt(want, &pairs, memory),
        pairs,
        conflicts: claims.conflicts.iter().cloned().collect(),
        refused_external_peers: external.refused,
        policy_problems: policy_problems(snapshot, &spec),
        unsupported: unsupported(&spec),
        ..Default::default()
    };
    memory.drop_unknown = drops_unknown(&desired, memory);
    let enforce = match (spec.policy.enforcer(), spec.policy.mode()) {
        (Enforcer::Cni, _) => 0,
        (Enforcer::Hauberk, PolicyMode::Enforce) => abi::CONFIG_ENFORCE,
        (Enforcer::Hauberk, PolicyMode::Audit) => abi::CONFIG_ENFORCE | abi::CONFIG_AUDIT,
    };
    let drop_unknown = if memory.drop_unknown {
        abi::CONFIG_DROP_UNKNOWN
    } else {
        0
    };
    desired.config = abi::Config {
        abi_version: abi::ABI_VERSION,
        flags: enforce | drop_unknown,
    };
    desired.publish = conditions::tunnel(snapshot, &claims, local, &desired);
    forget_what_is_gone(&claims, want, memory);
    let follower = Follower::new(snapshot, &claims, local, addresses.remote, &desired);
    Ok((desired, follower))
}

/// Those that this node has to enforce. While the CNI enforces everything is let through here.
fn policies(snapshot: &Snapshot, spec: &MeshSpec) -> Policies {
    match spec.policy.enforcer() {
        Enforcer::Cni => Policies::default(),
        Enforcer::Hauberk => {
            let read = snapshot.policies.values();
            Policies::new(read.map(|read| Arc::clone(&read.policy)))
        }
    }
}

fn policy_problems(snapshot: &Snapshot, spec: &MeshSpec) -> Vec<String> {
    let read = match spec.policy.enforcer() {
        Enforcer::Cni => return Vec::new(),
        Enforcer::Hauberk => snapshot.policies.values(),
    };
    read.flat_map(|read| &read.problems)
        .map(ToString::to_string)
        .collect()
}

/// A setting that is quietly ignored would be taken for one that is in force.
fn unsupported(spec: &MeshSpec) -> Vec<&'static str> {
    let settings = [
        (
            "spec.encryption.postQuantum",
            spec.encryption.post_quantum == Some(true),
        ),
        (
            "spec.services.kubeProxyReplacement",
            spec.services.kube_proxy_replacement == Some(true),
        ),
        (
            "spec.keys.rotationInterval",
            spec.keys.rotation_interval.is_some(),
        ),
    ];
    settings
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| name)
        .collect()
}

/// Notes Nodes and ExternalPeers as they are now; while the flag is on those that are not seen any more stay
/// as they were. An ExternalPeer that is gone was deleted, unless there is a manifest that cannot be read.
fn remember(snapshot: &Snapshot, claims: &Claims, local: &Local, want: Want, memory: &mut Memory) {
    if !want.is_on() {
        memory.nodes.clear();
        memory.external.clear();
        return;
    }
    for (name, prefixes) in &claims.node_prefixes {
        let known = memory.nodes.entry(name.clone()).or_default();
        // A Node that is made anew has no prefix at first.
        if !prefixes.is_empty() {
            known.prefixes.clone_from(prefixes);
        }
        // And no address, where the cloud's controller writes it.
        if !claims.node_addresses[name].is_empty() {
            known.addresses.clone_from(&claims.node_addresses[name]);
        }
    }
    let all_read = local
        .problems
        .iter()
        .all(|problem| problem.reason != BAD_MANIFEST);
    let peers = &snapshot.external_peers;
    memory
        .external
        .retain(|name, _| !all_read || peers.contains_key(name));
    for (name, peer) in peers.iter() {
        let prefixes = peer.spec.allowed_ips.iter().map(IpNet::trunc).collect();
        memory.external.insert(name.clone(), prefixes);
    }
}

/// A Node that says no address yet keeps those that it had, until somebody else has them, by itself or by a prefix. One
/// whose addresses were refused has none.
fn keep_addresses(snapshot: &Snapshot, claims: &mut Claims, memory: &Memory) {
    let mut taken: BTreeSet<IpAddr> = claims.node_addresses.values().flatten().copied().collect();
    let silent = |name: &String| {
        snapshot
            .nodes
            .get(name)
            .is_some_and(|node| node.addresses.is_empty())
    };
    for (name, own) in claims.node_addresses.iter_mut().filter(|(name, _)| silent(name)) {
        let known = memory.nodes.get(name).map_or(&[][..], |known| &known.addresses);
        let is_others = |address: &IpAddr| {
            let mut others = claims.node_prefixes.iter().filter(|(other, _)| *other != name);
            others.any(|(_, prefixes)| prefixes.iter().any(|prefix| prefix.contains(address)))
        };
        let free = known.iter().filter(|address| !is_others(address));
        own.extend(free.filter(|address| taken.insert(**address)).copied());
    }
}

/// The mesh's prefixes. Nodes are not remembered while the flag is off, so those of now are added.
fn covered(spec: &MeshSpec, claims: &Claims, memory: &Memory) -> BTreeSet<IpNet> {
    let mut covered = memory.mesh_prefixes();
    if spec.encryption.pod_cidrs.is_empty() {
        covered.extend(claims.node_prefixes.values().flatten());
    }
    covered
}

fn tunnel(want: Want, local: &Local, memory: &Memory) -> Tunnel {
    let encrypts = memory.phases.values().any(|phase| *phase > Phase::Off);
    match &memory.mesh {
        Some(spec) if want.is_on() || encrypts => Tunnel::Up {
            lanes: spec.encryption.lanes(local.cores),
            listen_port: spec.encryption.listen_port(),
        },
        _ => Tunnel::Down,
    }
}

/// Peers without a NodeTunnel that have never been Sending, where the user asked to exempt such.
fn exempt(want: Want, pairs: &BTreeMap<String, PairFacts>, memory: &Memory) -> BTreeSet<String> {
    if want != Want::On(UnreachableNodes::Exempt) {
        return BTreeSet::new();
    }
    let clear = |name: &String| {
        memory
            .phases
            .get(name)
            .is_none_or(|phase| *phase < Phase::Sending)
    };
    let names = pairs
        .iter()
        .filter(|(name, facts)| facts.keys == PeerKeys::NoTunnel && clear(name));
    names.map(|(name, _)| name.clone()).collect()
}

/// Once every pair has been Sending, covered addresses of unknown nodes are dropped until the flag is off.
fn drops_unknown(desired: &DesiredState, memory: &Memory) -> bool {
    let sending = |facts: &PairFacts| {
        desired
            .peers
            .get(&facts.number)
            .is_some_and(|peer| peer.phase >= Phase::Sending.number())
    };
    let all = || {
        desired
            .pairs
            .iter()
            .all(|(name, facts)| desired.exempt.contains(name) || sending(facts))
    };
    desired.want.is_on() && (memory.drop_unknown || all())
}

/// A Node that is gone may come back with its pairs still on, so phases are kept while the flag is on; the
/// numbers of pairs whose phase is kept stay theirs.
fn forget_what_is_gone(claims: &Claims, want: Want, memory: &mut Memory) {
    if !want.is_on() {
        memory
            .phases
            .retain(|name, _| claims.node_prefixes.contains_key(name));
    }
    for name in replaced(claims, memory) {
        memory.nodes.remove(&name);
        memory.phases.remove(&name);
    }
    let Memory {
        phases,
        numbers,
        nodes,
        external,
        ..
    } = memory;
    let external: BTreeSet<String> = external.keys().map(|name| external::number_name(name)).collect();
    numbers.retain_peers(|name| {
        claims.node_prefixes.contains_key(name)
            || phases.contains_key(name)
            || nodes.contains_key(name)
            || external.contains(name)
    });
}

/// Nodes that are gone and of whose prefixes and addresses others have every one: nothing is meant for them any more.
/// In a cluster whose nodes come and go they would fill the map of peers.
fn replaced(claims: &Claims, memory: &Memory) -> Vec<String> {
    let prefixes: Vec<_> = claims.node_prefixes.values().flatten().collect();
    let addresses: BTreeSet<_> = claims.node_addresses.values().flatten().collect();
    let is_replaced = |known: &KnownNode| {
        let owned = |lost: &IpNet| prefixes.iter().any(|live| live.contains(lost));
        known.prefixes.iter().all(owned) && known.addresses.iter().all(|lost| addresses.contains(lost))
    };
    let lost = memory
        .nodes
        .iter()
        .filter(|(name, _)| !claims.node_prefixes.contains_key(*name));
    let replaced = lost.filter(|(_, known)| is_replaced(known));
    replaced.map(|(name, _)| name.clone()).collect()
}

/// The kernel's key of a prefix: 16 bytes, and a length counted in the 128-bit form.
pub fn lpm_key(prefix: IpNet) -> (abi::Addr, u8) {
    match prefix {
        IpNet::V4(v4) => (v4.network().to_ipv6_mapped().octets(), v4.prefix_len() + 96),
        IpNet::V6(v6) => (v6.network().octets(), v6.prefix_len()),
    }
}
