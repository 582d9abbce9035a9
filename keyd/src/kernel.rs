//! Puts the desired state into the kernel: maps, programs, the fence.
//!
//! Order: policy and pods, ipcache, lanes, peers, covered prefixes and flags, then programs; last
//! the fence. Once ciphertext is sent to anybody, unknown addresses are closed while entries are on their way.
//! Programs go before what they need goes: devices that left are detached first. A step that fails does not
//! stop the later ones, since each closes something; what failed is tried again with the next change or tick.
//!
//! Maps are compared with what the kernel holds, since they outlive this process and anybody with the right may
//! write them. Only the ipcache, which grows with the cluster, is compared at most twice a minute; in between what
//! differs from the state before is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hauberk_abi as abi;
use hauberk_ebpf_redirect::fence::{self, Fence, FenceError};
use hauberk_ebpf_redirect::{AttachMode, Hook, Options, QueueCell, Redirect, RedirectError};
use hauberk_tunnel::QueueGauge;

use crate::compute::{self, AddressChanges, DesiredState};
use crate::lanes::{Lanes, QUEUE_LIMIT_BYTES};
use crate::wiring::tables::Tables;

/// After so long the next time that all is computed has all of the ipcache compared. Well below `node::follow`'s time to
/// compute all, so that each of those compares.
const COMPARE_AFTER: Duration = Duration::from_secs(30);

/// Why the kernel's part cannot be set up or taken away.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Programs or maps.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The fence.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// Somebody flushed the rules.
    #[error("somebody took the nftables table {} away; it is put back", fence::TABLE)]
    FenceGone,
}

/// The devices of this node by what they are to the programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Host-side interfaces of pods.
    pub pods: BTreeSet<u32>,
    /// TUNs of lanes, those that a dead process left included.
    pub tuns: BTreeSet<u32>,
    /// Guarded devices with their MAC addresses.
    pub uplinks: BTreeMap<u32, [u8; 6]>,
    /// All that are known: pods, TUNs, uplinks, and bridges of pods.
    pub known: BTreeSet<u32>,
    /// Bridges of pods that an uplink is a port of as well.
    pub mixed: BTreeSet<u32>,
}

impl Devices {
    /// Sorts the node's links.
    pub fn sort(tables: &Tables, pods: BTreeSet<u32>, tuns: BTreeSet<u32>) -> Self {
        let uplinks: BTreeMap<u32, [u8; 6]> = tables
            .uplinks(&pods, &tuns)
            .into_iter()
            .filter_map(|index| Some((index, tables.links.get(&index)?.mac.unwrap_or_default())))
            .collect();
        let bridges = tables.pod_bridges(&pods);
        let mixed = uplinks
            .keys()
            .filter_map(|port| tables.links.get(port)?.controller)
            .filter(|controller| bridges.contains(controller))
            .collect();
        let known = bridges
            .into_iter()
            .chain(pods.iter().copied())
            .chain(tuns.iter().copied())
            .chain(uplinks.keys().copied())
            .collect();
        Self {
            pods,
            tuns,
            uplinks,
            known,
            mixed,
        }
    }

    /// Devices that lead to nobody but this node's own pods and lanes.
    pub fn own(&self) -> BTreeSet<u32> {
        let mut own = self.passable(&BTreeSet::new());
        own.retain(|index| !self.mixed.contains(index));
        own
    }

    /// Devices that covered traffic may leave by: no uplink before its guard is attached.
    fn passable(&self, guarded: &BTreeSet<u32>) -> BTreeSet<u32> {
        let known = self.known.iter().copied();
        known
            .filter(|index| !self.uplinks.contains_key(index) || guarded.contains(index))
            .collect()
    }

    fn hooks(&self) -> BTreeSet<(Hook, u32)> {
        let pods = self
            .pods
            .iter()
            .flat_map(|index| [(Hook::ToPod, *index), (Hook::FromPod, *index)]);
        let uplinks = self.uplinks.keys().map(|index| (Hook::ToNetwork, *index));
        self.tuns
            .iter()
            .map(|index| (Hook::FromTunnel, *index))
            .chain(pods)
            .chain(uplinks)
            .collect()
    }
}

/// The loaded programs and the fence.
pub struct Kernel {
    redirect: Redirect,
    fence: Option<Fence>,
    pin_dir: PathBuf,
    displaced: u64,
    /// When all of the ipcache was found, or brought, in step; none since something of it was not written.
    compared: Option<Instant>,
    /// Programs of another version, which ours replace, are gone.
    alone: bool,
}

impl Kernel {
    /// Loads the programs, or takes over what an earlier process pinned.
    pub fn open(pin_dir: &Path, attach: AttachMode) -> Result<Self, KernelError> {
        let redirect = Redirect::open(Options {
            pin_dir: pin_dir.to_owned(),
            attach,
            ..Options::default()
        })?;
        Ok(Self {
            redirect,
            fence: None,
            pin_dir: pin_dir.to_owned(),
            displaced: 0,
            compared: None,
            alone: false,
        })
    }

    /// Makes the kernel hold `desired`, after `before` where this process put that in force; returns what failed, in
    /// words.
    pub fn apply(
        &mut self,
        before: Option<&DesiredState>,
        desired: &DesiredState,
        devices: &Devices,
        lanes: &Lanes,
    ) -> Vec<String> {
        let mut failed = Failures::default();
        let hooks = devices.hooks();
        for (hook, index) in self.redirect.attached().difference(&hooks) {
            failed.note(self.redirect.detach(*hook, *index));
        }
        let redirect = &mut self.redirect;
        let config_before = redirect.config();
        failed.note(config_before.and_then(|config| redirect.set_config(meanwhile(desired, config))));
        // What a set says of all other identities counts for those that the addresses in the kernel have now, as they were
        // computed together; where that is not known, it waits until they are.
        let in_step = before.is_some() && self.compared.is_some();
        let added = match in_step {
            true => redirect.add_policy(&desired.verdicts, &desired.ports),
            false => redirect.add_policy(&of_single_identities(&desired.verdicts), &desired.ports),
        };
        let pods = closed_where(&desired.pods, added.as_ref().ok());
        if let Some(text) = closed(&desired.pods, &pods) {
            failed.0.push(text);
        }
        failed.note(added);
        failed.note(redirect.sync_pods(&pods));
        failed.note(redirect.sync_pod_addresses(&desired.pod_addresses));
        let mut known = failed.note(self.put_addresses(before, desired));
        let redirect = &mut self.redirect;
        failed.note(
            redirect.sync_devices(
                &devices
                    .uplinks
                    .iter()
                    .map(|(index, mac)| {
                        (
                            *index,
                            abi::Device {
                                mac: *mac,
                                kind: abi::DEVICE_UPLINK,
                            },
                        )
                    })
                    .collect(),
            ),
        );
        let (slots, cookies) = seats(lanes);
        failed.note(redirect.sync_lane_cookies(&cookies));
        failed.note(redirect.sync_lanes(&slots));
        known &= failed.note(redirect.sync_peers(&desired.peers));
        known &= failed.note(
            redirect.sync_covered(
                &desired
                    .covered
                    .iter()
                    .map(|net| crate::compute::lpm_key(*net))
                    .collect(),
            ),
        );
        failed.note(redirect.set_config(config(desired, known)));
        // Only once pods and addresses refer to nothing else.
        if known {
            if !in_step {
                failed.note(redirect.add_policy(&desired.verdicts, &desired.ports));
            }
            failed.note(redirect.prune_policy(&desired.verdicts, &desired.ports));
        }
        let attached = redirect.attached();
        let mut guarded = BTreeSet::new();
        for (hook, index) in &hooks {
            // The fence lets pass what guards guard, so they are looked at each time; few devices have one.
            if *hook != Hook::ToNetwork && attached.contains(&(*hook, *index)) {
                continue;
            }
            let attached = redirect.attach(*hook, *index);
            // A device that went while we worked is not there to be guarded; netlink tells next.
            if matches!(attached, Err(RedirectError::NoDevice(_))) {
                continue;
            }
            if failed.note(attached) && *hook == Hook::ToNetwork {
                guarded.insert(*index);
            }
        }
        let fence = Fence {
            covered: desired.covered.clone(),
            nodes: other_nodes(desired),
            known_devices: devices.passable(&guarded),
        };
        if self.fence.as_ref() != Some(&fence) {
            match fence::apply(&fence) {
                Ok(()) => self.fence = Some(fence),
                Err(error) => failed.0.push(error.to_string()),
            }
        }
        // Those of another version go on until ours are in force.
        if failed.0.is_empty() && !self.alone {
            failed.note(self.redirect.retire_other_versions());
            self.alone = failed.0.is_empty();
        }
        failed.0
    }

    /// Changes who has single addresses, of which none changes what is covered or closed.
    pub fn change_addresses(&mut self, changes: &AddressChanges) -> Result<(), KernelError> {
        let changed = self.redirect.change_ipcache(changes);
        if changed.is_err() {
            self.compared = None;
        }
        Ok(changed?)
    }

    fn put_addresses(
        &mut self,
        before: Option<&DesiredState>,
        desired: &DesiredState,
    ) -> Result<(), KernelError> {
        let compared = self.compared.filter(|at| at.elapsed() < COMPARE_AFTER);
        if let (Some(before), Some(_)) = (before, compared) {
            return self.change_addresses(&compute::address_changes(&before.ipcache, &desired.ipcache));
        }
        self.compared = None;
        self.redirect.sync_ipcache(&desired.ipcache)?;
        self.compared = Some(Instant::now());
        Ok(())
    }

    /// Puts programs that a foreign one stands before first again, and counts; says where, and what failed.
    pub fn mend_order(&mut self) -> (Vec<String>, Vec<String>) {
        let (displaced, failed) = self.redirect.check_order();
        self.displaced += displaced.len() as u64;
        let places = displaced
            .iter()
            .map(|found| format!("{} on device {}", found.hook, found.ifindex));
        (places.collect(), failed.iter().map(ToString::to_string).collect())
    }

    /// How often a program was found displaced.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// The programs' counts of what they dropped and let through.
    #[expect(
        clippy::type_complexity,
        reason = "two lists of pairs, named by their element types"
    )]
    pub fn counts(
        &self,
    ) -> Result<
        (
            Vec<(abi::DropReason, abi::Count)>,
            Vec<(abi::Counter, abi::Count)>,
        ),
        KernelError,
    > {
        Ok((self.redirect.drops()?, self.redirect.counters()?))
    }

    /// Packets that the fence dropped, once it stands. One that is gone is put up again by [`Kernel::apply`].
    pub fn fence_dropped(&mut self) -> Result<Option<u64>, KernelError> {
        match fence::dropped_packets()? {
            None if self.fence.take().is_some() => Err(KernelError::FenceGone),
            packets => Ok(packets),
        }
    }

    /// The gauge of a slot's queue, for the lane in it.
    pub fn gauge(&self, slot: u32) -> Box<dyn QueueGauge> {
        Box::new(Gauge(self.redirect.queue(slot)))
    }

    /// Takes everything away: programs, pins, fence.
    pub fn remove(self) -> Result<(), KernelError> {
        let Self {
            redirect, pin_dir, ..
        } = self;
        drop(redirect);
        remove_left(&pin_dir)
    }
}

/// Takes away what a process that died has left in `pin_dir`, and its fence.
pub fn remove_left(pin_dir: &Path) -> Result<(), KernelError> {
    Redirect::remove_all(pin_dir)?;
    fence::remove()?;
    Ok(())
}

struct Gauge(QueueCell);

impl QueueGauge for Gauge {
    fn consumed(&self, bytes: u64) {
        self.0.consumed(bytes);
    }

    fn empty(&self) {
        self.0.empty();
    }
}

#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    /// Says whether it succeeded.
    fn note<T, E: ToString>(&mut self, result: Result<T, E>) -> bool {
        result.map_err(|error| self.0.push(error.to_string())).is_ok()
    }
}

/// An address that found no room must not be taken for that of a node to which clear is still sent.
fn config(desired: &DesiredState, all_known: bool) -> abi::Config {
    let sending = desired
        .peers
        .values()
        .any(|peer| peer.phase >= abi::PHASE_SENDING);
    let closed = if sending && !all_known {
        abi::CONFIG_DROP_UNKNOWN
    } else {
        0
    };
    abi::Config {
        flags: desired.config.flags | closed,
        ..desired.config
    }
}

/// The flags while the maps change.
fn meanwhile(desired: &DesiredState, before: abi::Config) -> abi::Config {
    abi::Config {
        flags: before.flags | config(desired, false).flags & abi::CONFIG_DROP_UNKNOWN,
        ..before
    }
}

fn of_single_identities(verdicts: &BTreeMap<abi::VerdictKey, u32>) -> BTreeMap<abi::VerdictKey, u32> {
    let single = verdicts.iter().filter(|(key, _)| key.remote != abi::IDENTITY_ANY);
    single.map(|(key, verdict)| (*key, *verdict)).collect()
}

/// Pods whose set is not complete in the kernel, or of which that is not known, are closed.
fn closed_where(
    pods: &BTreeMap<u32, abi::Pod>,
    incomplete: Option<&BTreeSet<u32>>,
) -> BTreeMap<u32, abi::Pod> {
    let is_complete = |set: &u32| incomplete.is_some_and(|incomplete| !incomplete.contains(set));
    let closed = pods.iter().map(|(index, pod)| match is_complete(&pod.set) {
        true => (*index, *pod),
        false => (*index, abi::Pod { set: abi::SET_CLOSED }),
    });
    closed.collect()
}

fn closed(desired: &BTreeMap<u32, abi::Pod>, pods: &BTreeMap<u32, abi::Pod>) -> Option<String> {
    let closed = pods.iter().filter(|(index, pod)| desired[index] != **pod).count();
    (closed > 0).then(|| {
        format!(
            "the policies about {closed} pods of this node found no room in the kernel's maps VERDICTS and PORTS; nothing \
             is let through to and from these pods"
        )
    })
}

fn seats(lanes: &Lanes) -> ([abi::Lane; abi::MAX_SLOTS as usize], BTreeMap<u64, u32>) {
    let mut slots = [abi::Lane::default(); abi::MAX_SLOTS as usize];
    let mut cookies = BTreeMap::new();
    for (slot, lane) in lanes.iter() {
        slots[slot as usize] = abi::Lane {
            tun_ifindex: lane.tun_ifindex(),
            queue_limit_bytes: QUEUE_LIMIT_BYTES,
        };
        cookies.insert(lane.socket_cookie(), slot);
    }
    (slots, cookies)
}

fn other_nodes(desired: &DesiredState) -> BTreeSet<IpAddr> {
    desired
        .ipcache
        .iter()
        .filter(|(_, entry)| entry.flags & abi::IP_NODE != 0 && entry.flags & abi::IP_SELF == 0)
        .map(|((address, _), _)| Ipv6Addr::from(*address).to_canonical())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::tables::{Link, LinkKind};

    fn link(name: &str, kind: LinkKind, controller: Option<u32>) -> Link {
        Link {
            name: name.into(),
            kind,
            mac: Some([2, 0, 0, 0, 0, 1]),
            controller,
        }
    }

    #[test]
    fn every_device_has_its_programs_and_only_explained_ones_are_let_through_the_fence() {
        let mut tables = Tables::default();
        tables.links.insert(1, link("lo", LinkKind::Loopback, None));
        tables.links.insert(2, link("eth0", LinkKind::Other, None));
        tables.links.insert(3, link("cni0", LinkKind::Bridge, None));
        tables.links.insert(4, link("veth-a", LinkKind::Veth, Some(3)));
        tables.links.insert(6, link("hbk0", LinkKind::Tun, None));
        let devices = Devices::sort(&tables, BTreeSet::from([4]), BTreeSet::from([6]));
        let expected = [
            (Hook::FromPod, 4),
            (Hook::ToPod, 4),
            (Hook::FromTunnel, 6),
            (Hook::ToNetwork, 2),
        ];
        assert_eq!(devices.hooks(), BTreeSet::from(expected));
        assert_eq!(
            devices.passable(&BTreeSet::from([2])),
            BTreeSet::from([2, 3, 4, 6])
        );
        assert_eq!(devices.passable(&BTreeSet::new()), BTreeSet::from([3, 4, 6]));
        assert_eq!(devices.own(), BTreeSet::from([3, 4, 6]));

        // Without a guard on its port, a bridge that leads out is a way out.
        tables.links.insert(2, link("eth0", LinkKind::Other, Some(3)));
        let devices = Devices::sort(&tables, BTreeSet::from([4]), BTreeSet::from([6]));
        assert_eq!(devices.own(), BTreeSet::from([4, 6]));
    }

    #[test]
    fn what_found_no_room_is_dropped_once_ciphertext_is_sent_to_anybody() {
        let mut desired = DesiredState::default();
        let drops =
            |desired: &DesiredState, known| config(desired, known).flags & abi::CONFIG_DROP_UNKNOWN != 0;
        for (phase, closed) in [(abi::PHASE_READY, false), (abi::PHASE_SENDING, true)] {
            let peer = abi::Peer {
                phase,
                ..Default::default()
            };
            desired.peers.insert(1, peer);
            assert_eq!(drops(&desired, false), closed);
            assert!(!drops(&desired, true));
        }
    }

    #[test]
    fn unknown_addresses_are_closed_before_the_entries_that_close_them_change() {
        let mut desired = DesiredState::default();
        let before = abi::Config {
            abi_version: abi::ABI_VERSION,
            flags: abi::CONFIG_ENFORCE,
        };
        assert_eq!(meanwhile(&desired, before), before);
        let closed = abi::CONFIG_ENFORCE | abi::CONFIG_DROP_UNKNOWN;
        desired.config.flags = abi::CONFIG_DROP_UNKNOWN;
        assert_eq!(meanwhile(&desired, before).flags, closed);
        desired.config.flags = 0;
        let peer = abi::Peer {
            phase: abi::PHASE_SENDING,
            ..Default::default()
        };
        desired.peers.insert(1, peer);
        assert_eq!(meanwhile(&desired, before).flags, closed);
        // What was closed before stays so until the new flags are written.
        let shut = abi::Config {
            flags: closed,
            ..before
        };
        assert_eq!(meanwhile(&DesiredState::default(), shut), shut);
    }
}
