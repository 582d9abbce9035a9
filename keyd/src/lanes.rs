//! This node's lanes: started, given their peers, asked for their numbers, stopped.
//!
//! A lane sits in a slot; its TUN is named after the slot and is persistent, so that after a crash
//! the device, its ifindex and the programs on it are still there: packets are dropped, not leaked.
//! Nothing here decides anything: keys, ports and peers come from the desired state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hauberk_api as api;
use hauberk_tunnel::x25519::{PublicKey, StaticSecret};
use hauberk_tunnel::{Lane, LaneConfig, LaneError, LaneEvent, LaneStats, PeerConfig, QueueGauge};
use tokio::sync::mpsc;

use crate::compute::TunnelPeer;

/// Bytes that may wait in a lane's TUN: about 3 ms at 5 Gb/s, 32 super-packets.
pub const QUEUE_LIMIT_BYTES: u32 = 2 << 20;

/// Events that may wait for the node's task; a message that finds no room is lost, as on a network.
pub const EVENT_QUEUE: usize = 1024;

/// What the TUNs of lanes are called before their slot's number.
const TUN_PREFIX: &str = "hbk";

/// The TUN of a slot.
pub fn tun_name(slot: u32) -> String {
    format!("{TUN_PREFIX}{slot}")
}

/// Whether a TUN of this name is one of keyd's, of this process or of one that died.
pub fn is_tun_name(name: &str) -> bool {
    name.strip_prefix(TUN_PREFIX)
        .is_some_and(|slot| slot.parse::<u32>().is_ok())
}

/// What a lane needs to start.
pub struct LaneSeat {
    /// Its slot in the kernel's `LANES`.
    pub slot: u32,
    /// Its private key.
    pub private_key: StaticSecret,
    /// Its UDP port.
    pub port: u16,
}

/// The lanes that run, by slot.
pub struct Lanes {
    running: BTreeMap<u32, Running>,
    events: mpsc::Sender<LaneEvent>,
    events_lost: Arc<AtomicU64>,
    uapi_dir: PathBuf,
}

struct Running {
    lane: Lane,
    control: Vec<SocketAddr>,
    peers: BTreeMap<[u8; 32], PeerConfig>,
}

impl Lanes {
    /// No lane yet; what lanes say comes out of the receiver.
    pub fn new(uapi_dir: PathBuf) -> (Self, mpsc::Receiver<LaneEvent>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        (
            Self {
                running: BTreeMap::new(),
                events,
                events_lost: Arc::default(),
                uapi_dir,
            },
            receiver,
        )
    }

    /// Starts the lane of a seat unless it runs. `control`: this node's addresses with the control port.
    pub fn start(
        &mut self,
        seat: &LaneSeat,
        control: &[SocketAddr],
        gauge: impl FnOnce() -> Box<dyn QueueGauge>,
    ) -> Result<(), LaneError> {
        if self.running.contains_key(&seat.slot) {
            return Ok(());
        }
        let config = LaneConfig {
            tun_name: tun_name(seat.slot),
            tun_up: true,
            listen_port: seat.port,
            private_key: Some(seat.private_key.clone()),
            control: control.to_vec(),
            uapi_dir: Some(self.uapi_dir.clone()),
            gauge: Some(gauge()),
            persist_tun: true,
            ..LaneConfig::default()
        };
        let (events, lost) = (self.events.clone(), self.events_lost.clone());
        let lane = Lane::start(config, move |event| {
            if events.try_send(event).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        self.running.insert(
            seat.slot,
            Running {
                lane,
                control: control.to_vec(),
                peers: BTreeMap::new(),
            },
        );
        Ok(())
    }

    /// Makes the peers of the lane in `slot` these; only what differs is touched, sessions survive.
    pub fn sync_peers(&mut self, slot: u32, desired: Vec<PeerConfig>) -> Result<(), LaneError> {
        let Some(running) = self.running.get_mut(&slot) else {
            return Err(LaneError::Stopped);
        };
        let desired: BTreeMap<[u8; 32], PeerConfig> = desired
            .into_iter()
            .map(|peer| (peer.public_key.to_bytes(), peer))
            .collect();
        for gone in running.peers.keys().filter(|key| !desired.contains_key(*key)) {
            running.lane.remove_peer(&PublicKey::from(*gone))?;
        }
        for (key, peer) in &desired {
            if !running.peers.get(key).is_some_and(|before| same(before, peer)) {
                running.lane.set_peer(peer.clone())?;
            }
        }
        running.peers = desired;
        Ok(())
    }

    /// Makes this node's addresses with the control port these, for every lane.
    pub fn sync_control(&mut self, control: &[SocketAddr]) -> Result<(), LaneError> {
        for running in self
            .running
            .values_mut()
            .filter(|running| running.control != control)
        {
            running.lane.set_control(control.to_vec())?;
            running.control = control.to_vec();
        }
        Ok(())
    }

    /// Begins a handshake with the peer.
    pub fn connect(&self, slot: u32, peer: &PublicKey) -> Result<(), LaneError> {
        self.running
            .get(&slot)
            .ok_or(LaneError::Stopped)?
            .lane
            .connect(peer)
    }

    /// Begins a handshake with the peer if packets wait for it.
    pub fn connect_waiting(&self, slot: u32, peer: &PublicKey) -> Result<(), LaneError> {
        self.running
            .get(&slot)
            .ok_or(LaneError::Stopped)?
            .lane
            .connect_waiting(peer)
    }

    /// Sends a control message through the session with the peer; it may be lost.
    pub fn send_control(&self, slot: u32, peer: &PublicKey, payload: Vec<u8>) -> Result<(), LaneError> {
        self.running
            .get(&slot)
            .ok_or(LaneError::Stopped)?
            .lane
            .send_control(peer, payload)
    }

    /// Slots with a running lane, and the lanes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Lane)> {
        self.running.iter().map(|(slot, running)| (*slot, &running.lane))
    }

    /// Whether no lane runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The numbers of every lane that answers, by slot.
    pub fn stats(&self) -> BTreeMap<u32, LaneStats> {
        self.iter()
            .filter_map(|(slot, lane)| Some((slot, lane.stats().ok()?)))
            .collect()
    }

    /// Events that found no room.
    pub fn events_lost(&self) -> u64 {
        self.events_lost.load(Ordering::Relaxed)
    }

    /// Forgets lanes that ended by themselves, so that they are started again; returns their slots.
    pub fn reap(&mut self) -> Vec<u32> {
        let ended: Vec<u32> = self
            .iter()
            .filter(|(_, lane)| matches!(lane.stats(), Err(LaneError::Stopped)))
            .map(|(slot, _)| slot)
            .collect();
        for slot in &ended {
            self.running.remove(slot);
        }
        ended
    }

    /// Stops every lane; their TUNs stay and drop what reaches them.
    pub fn stop_all(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.lane.stop();
        }
    }

    /// Stops every lane and removes its TUN.
    pub fn destroy_all(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.lane.destroy();
        }
    }
}

/// A peer in the tunnel's words.
pub fn peer_config(key: &api::PublicKey, peer: &TunnelPeer) -> PeerConfig {
    PeerConfig {
        public_key: PublicKey::from(*key.as_bytes()),
        preshared_key: None,
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips.clone(),
        persistent_keepalive: peer.persistent_keepalive,
        control: peer.control,
    }
}

fn same(a: &PeerConfig, b: &PeerConfig) -> bool {
    a.public_key == b.public_key
        && a.preshared_key == b.preshared_key
        && a.endpoint == b.endpoint
        && a.allowed_ips == b.allowed_ips
        && a.persistent_keepalive == b.persistent_keepalive
        && a.control == b.control
}
