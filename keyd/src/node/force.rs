//! Brings the encryption of this node up, keeps it in force, and takes it away.
//!
//! Up: programs loaded, lanes seated; then conntrack liberal, maps, programs on their devices, fence,
//! WireGuard peers. Away, once the last pair is Off: the same backwards.

use std::net::SocketAddr;

use hauberk_abi::{CONFIG_DROP_UNKNOWN, PHASE_SENDING};
use hauberk_api::NodeTunnel;

use super::fallback::Fallback;
use super::{Node, generation};
use crate::compute::{CONTROL_PORT, DesiredState, LaneId, Tunnel};
use crate::kernel::{self, Devices, Kernel};
use crate::keyfile::KeyFile;
use crate::memory::MemoryError;
use crate::{conntrack, lanes};

impl Node {
    /// Loads the programs and starts the lanes that do not run; says whether anything of that was to be done. A
    /// [`MemoryError`] among the errors means that the number of a new generation cannot be noted.
    pub(super) async fn bring_up(&mut self, lanes: usize, listen_port: u16) -> anyhow::Result<bool> {
        self.clean = false;
        let slots: usize = self
            .generations
            .iter()
            .map(|generation| generation.lanes.len())
            .sum();
        if self.kernel.is_some() && slots > 0 && self.lanes.iter().count() == slots {
            return Ok(false);
        }
        if self.kernel.is_none() {
            self.kernel = Some(Kernel::open(&self.options.pin_dir, self.options.attach)?);
        }
        self.seat_lanes(lanes, listen_port)?;
        self.reread().await;
        Ok(true)
    }

    fn seat_lanes(&mut self, lanes: usize, listen_port: u16) -> anyhow::Result<()> {
        let published = KeyFile::load(&self.options.state_dir)?;
        let number = published
            .as_ref()
            .map_or(self.memory.generation.max(self.generation_told()) + 1, |keys| {
                keys.generation
            });
        if number > self.memory.generation {
            self.memory.generation = number;
            self.note()?;
        }
        let keys = match published {
            Some(keys) => keys,
            None => generation::make(&self.options.state_dir, number, lanes, listen_port)?,
        };
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let control = self.control_addresses();
        let mut generation = generation::seat(&keys, &mut self.lanes, kernel, &control)?;
        if let Some(before) = self.generations.iter().find(|before| before.id == generation.id) {
            generation.connected = before.connected.clone();
        } else {
            tracing::info!(
                generation = generation.id,
                lanes = generation.lanes.len(),
                "lanes are up"
            );
        }
        self.generations = vec![generation];
        Ok(())
    }

    /// The newest generation that the cluster knows of this node; a disk that was lost makes no number old again.
    fn generation_told(&self) -> u64 {
        let update = self.updates.borrow();
        let own = update.snapshot.tunnels.get(&self.options.node);
        own.and_then(NodeTunnel::newest_generation)
            .map_or(0, |newest| newest.id)
    }

    /// This node's own addresses of control messages.
    fn control_addresses(&self) -> Vec<SocketAddr> {
        let update = self.updates.borrow();
        let own = update.snapshot.nodes.get(&self.options.node);
        let addresses = own.into_iter().flat_map(|node| &node.addresses);
        addresses
            .map(|address| SocketAddr::new(*address, CONTROL_PORT))
            .collect()
    }

    /// What is left to do when programs or lanes cannot be had: a pair that sends ciphertext stays closed, its
    /// packets are dropped; where there is none, nothing is left behind.
    pub(super) async fn close(&mut self, desired: &DesiredState) {
        let closed = desired.config.flags & CONFIG_DROP_UNKNOWN != 0
            || desired.peers.values().any(|peer| peer.phase >= PHASE_SENDING);
        if !closed {
            self.take_away().await;
        } else if self.kernel.is_some() && self.note().is_ok() {
            self.put_in_force(desired);
        } else {
            self.fall_back();
        }
    }

    /// What is left to do when nothing can be noted: what is in force stays so, on the devices of now.
    pub(super) fn hold(&mut self, desired: DesiredState, error: MemoryError) {
        self.memory = self.noted.clone();
        if let Some(before) = self.desired.take_if(|before| before.tunnel != Tunnel::Down) {
            self.put_in_force(&before);
            self.desired = Some(before);
        } else {
            self.fall_back();
        }
        let failure = format!(
            "nothing is changed until it can be noted: {:#}",
            anyhow::Error::from(error)
        );
        tracing::error!(failure, "not in force");
        self.failures.push(failure);
        self.tunnel = Some(desired.publish);
    }

    /// Closes what was encrypted before this process put anything in force.
    pub(super) fn fall_back(&mut self) {
        if self.is_up() {
            return;
        }
        let snapshot = self.updates.borrow().snapshot.clone();
        let found = self.pod_interfaces(&snapshot).into_values();
        let pods = found.chain(self.attachments.interfaces()).collect();
        let devices = Devices::sort(self.wiring.tables(), pods, self.wiring.lane_tuns());
        if let Err(error) = self.fallback.close(&self.memory, devices.own()) {
            tracing::error!(%error, "not closed");
            self.failures.push(error.to_string());
        }
    }

    pub(super) fn put_in_force(&mut self, desired: &DesiredState) {
        let control = self.control_addresses();
        let Some(kernel) = &mut self.kernel else { return };
        if let Err(error) = self.liberal.set() {
            self.failures.push(format!("{:#}", anyhow::Error::from(error)));
        }
        let tuns = self
            .wiring
            .lane_tuns()
            .into_iter()
            .chain(self.lanes.iter().map(|(_, lane)| lane.tun_ifindex()));
        let pods = desired.pods.keys().copied().collect();
        let devices = Devices::sort(self.wiring.tables(), pods, tuns.collect());
        self.failures
            .extend(kernel.apply(self.desired.as_ref(), desired, &devices, &self.lanes));
        self.rule = Some(desired.rule.clone());
        if let Err(error) = self.lanes.sync_control(&control) {
            self.failures.push(format!("control addresses of lanes: {error}"));
        }
        for generation in &self.generations {
            for lane in 0..generation.lanes.len() {
                let id = LaneId {
                    generation: generation.id,
                    lane,
                };
                let peers = desired.lane_peers.get(&id).into_iter().flatten();
                let peers = peers.map(|(key, peer)| lanes::peer_config(key, peer)).collect();
                if let Err(error) = self.lanes.sync_peers(generation.slot_base + lane as u32, peers) {
                    self.failures.push(format!("peers of lane {lane}: {error}"));
                }
            }
        }
        // They are tried again each second, and logged once.
        for failure in self.failures.iter().filter(|now| !self.logged.contains(now)) {
            tracing::error!(failure, "not in force");
        }
        self.logged.clone_from(&self.failures);
    }

    /// Takes away everything of the encryption, in the reverse order of bringing it up.
    pub(super) async fn take_away(&mut self) {
        if self.clean {
            return;
        }
        self.fallback = Fallback::default();
        self.rule = None;
        let removed = match self.kernel.take() {
            Some(kernel) => kernel.remove(),
            None => kernel::remove_left(&self.options.pin_dir),
        };
        let mut failures: Vec<String> = removed.err().map(|error| error.to_string()).into_iter().collect();
        self.lanes.destroy_all();
        self.generations.clear();
        let tuns = match self.wiring.refresh().await {
            Ok(_) => self.wiring.remove_lane_tuns().await,
            Err(error) => Err(error),
        };
        failures.extend(tuns.err().map(|error| error.to_string()));
        failures.extend(
            KeyFile::remove(&self.options.state_dir)
                .err()
                .map(|error| error.to_string()),
        );
        failures.extend(self.restore_conntrack().err());
        for failure in &failures {
            tracing::error!(failure, "not taken away");
        }
        self.clean = failures.is_empty();
        self.failures = failures;
    }

    /// Puts conntrack's setting back, once the connections that it lost sight of need it no longer.
    fn restore_conntrack(&self) -> Result<(), String> {
        if !self.liberal.is_set() {
            return Ok(());
        }
        let covered: Vec<_> = self.covered.iter().copied().collect();
        let changed = conntrack::be_liberal(&covered)
            .map_err(|error| format!("tracked connections cannot be made liberal by netlink: {error}"))?;
        tracing::info!(
            connections = changed,
            "conntrack is strict again, but for connections from before"
        );
        self.liberal
            .restore()
            .map(drop)
            .map_err(|error| error.to_string())
    }
}
