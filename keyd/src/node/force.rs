//! Brings the encryption of this node up, keeps it in force, and takes it away.
//!
//! Up: conntrack liberal, programs loaded, lanes seated; then maps, programs on their devices, fence,
//! WireGuard peers. Away, once the last pair is Off: the same backwards.

use std::net::SocketAddr;

use hauberk_abi::{CONFIG_DROP_UNKNOWN, PHASE_SENDING};

use super::Node;
use super::generation::{self, GenerationError};
use crate::compute::{CONTROL_PORT, DesiredState, LaneId};
use crate::kernel::{self, Devices, Kernel};
use crate::{conntrack, keyfile, lanes};

impl Node {
    /// Loads the programs, makes conntrack liberal and starts the lanes that do not run; says whether
    /// anything of that was to be done.
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
        self.liberal.set()?;
        if self.kernel.is_none() {
            self.kernel = Some(Kernel::open(&self.options.pin_dir, self.options.attach)?);
        }
        self.seat_lanes(lanes, listen_port)?;
        self.reread().await;
        Ok(true)
    }

    fn seat_lanes(&mut self, lanes: usize, listen_port: u16) -> Result<(), GenerationError> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let keys = generation::keys(&self.options, &mut self.memory, lanes, listen_port)?;
        let update = self.updates.borrow().clone();
        let own = update.snapshot.nodes.get(&self.options.node);
        let control: Vec<SocketAddr> = own
            .map(|node| {
                node.addresses
                    .iter()
                    .map(|address| SocketAddr::new(*address, CONTROL_PORT))
                    .collect()
            })
            .unwrap_or_default();
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

    /// What is left to do when lanes cannot be had: a pair that sends ciphertext stays closed, its packets are
    /// dropped; where there is none, nothing is left behind.
    pub(super) async fn close(&mut self, desired: &DesiredState) {
        let closed = desired.config.flags & CONFIG_DROP_UNKNOWN != 0
            || desired.peers.values().any(|peer| peer.phase >= PHASE_SENDING);
        if closed {
            self.put_in_force(desired);
        } else {
            self.take_away().await;
        }
    }

    pub(super) fn put_in_force(&mut self, desired: &DesiredState) {
        let Some(kernel) = &mut self.kernel else { return };
        let tuns = self
            .wiring
            .lane_tuns()
            .into_iter()
            .chain(self.lanes.iter().map(|(_, lane)| lane.tun_ifindex()));
        let pods = desired.pods.keys().copied().collect();
        let devices = Devices::sort(self.wiring.tables(), pods, tuns.collect());
        self.failures = kernel.apply(desired, &devices, &self.lanes);
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
        for failure in &self.failures {
            tracing::error!(failure, "not in force");
        }
    }

    /// Takes away everything of the encryption, in the reverse order of bringing it up.
    pub(super) async fn take_away(&mut self) {
        if self.clean {
            return;
        }
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
            keyfile::KeyFile::remove(&self.options.state_dir)
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
