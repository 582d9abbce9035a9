//! The eBPF program on the fabric's ports: loading it and its maps.
#![allow(unsafe_code)]

use std::{fmt, net::IpAddr};

use aya::{
    Ebpf, include_bytes_aligned,
    maps::{Array, LpmTrie, MapData, PerCpuArray, lpm_trie::Key},
    programs::{SchedClassifier, TcAttachType, tc},
    util::KernelVersion,
};
use ipnet::IpNet;

use super::{
    counts::{Count, FabricCounts, Tally},
    impairment::Impairment,
    layout::{self, Settings, Tallies},
};
use crate::LabError;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fabric"));
/// The first with TCX.
const TCX_SINCE: (u8, u8, u16) = (6, 6, 0);

// SAFETY: `#[repr(C)]`, no padding (sizes asserted in layout.rs), valid for every bit pattern.
unsafe impl aya::Pod for Settings {}
// SAFETY: as above.
unsafe impl aya::Pod for Tallies {}

/// The loaded program; detached when dropped.
pub(super) struct Program {
    /// Holds the links.
    _ebpf: Ebpf,
    settings: Array<MapData, Settings>,
    covered: LpmTrie<MapData, [u8; 16], u32>,
    tallies: PerCpuArray<MapData, Tallies>,
    decisions: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl Program {
    /// Loads it and attaches it to these devices of the calling thread's namespace; also says their ifindexes.
    pub(super) fn attach(devices: &[String]) -> Result<(Self, Vec<u32>), LabError> {
        let mut ebpf = Ebpf::load(OBJECT).map_err(program)?;
        let classifier: &mut SchedClassifier = ebpf
            .program_mut("fabric_port")
            .expect("the object has it")
            .try_into()
            .map_err(program)?;
        classifier.load().map_err(program)?;
        let (major, minor, patch) = TCX_SINCE;
        let has_tcx =
            KernelVersion::current().is_ok_and(|running| running >= KernelVersion::new(major, minor, patch));
        let mut ifindexes = Vec::new();
        for device in devices {
            if !has_tcx {
                tc::qdisc_add_clsact(device).map_err(program)?;
            }
            classifier
                .attach(device, TcAttachType::Ingress)
                .map_err(program)?;
            let ifindex = nix::net::if_::if_nametoindex(device.as_str()).map_err(|e| LabError::System {
                what: format!("no device {device}"),
                source: e.into(),
            })?;
            ifindexes.push(ifindex);
        }
        let settings = map(&mut ebpf, "SETTINGS").try_into().map_err(program)?;
        let covered = map(&mut ebpf, "COVERED_PREFIXES").try_into().map_err(program)?;
        let tallies = map(&mut ebpf, "TALLIES").try_into().map_err(program)?;
        let decisions = map(&mut ebpf, "DECISIONS").try_into().map_err(program)?;
        Ok((
            Self {
                _ebpf: ebpf,
                settings,
                covered,
                tallies,
                decisions,
            },
            ifindexes,
        ))
    }

    pub(super) fn set_covered(&mut self, prefixes: &[IpNet]) -> Result<(), LabError> {
        let wanted: Vec<_> = prefixes.iter().map(key).collect();
        let present: Result<Vec<_>, _> = self.covered.keys().collect();
        for key in &wanted {
            self.covered.insert(key, 1, 0).map_err(program)?;
        }
        for key in present.map_err(program)? {
            let same = |k: &Key<[u8; 16]>| k.prefix_len() == key.prefix_len() && k.data() == key.data();
            if !wanted.iter().any(same) {
                self.covered.remove(&key).map_err(program)?;
            }
        }
        self.update(|settings| settings.covered = (!wanted.is_empty()).into())
    }

    /// At most 16 bytes.
    pub(super) fn set_marker(&mut self, marker: &[u8]) -> Result<(), LabError> {
        let value = marker
            .iter()
            .fold(0u128, |value, byte| value << 8 | u128::from(*byte));
        let mask = marker.iter().fold(0u128, |mask, _| mask << 8 | 0xff);
        self.update(|settings| {
            (settings.marker_high, settings.marker_low) = ((value >> 64) as u64, value as u64);
            (settings.mask_high, settings.mask_low) = ((mask >> 64) as u64, mask as u64);
        })
    }

    pub(super) fn set_impairment(
        &mut self,
        impairment: Impairment,
        hold_ifindex: u32,
    ) -> Result<(), LabError> {
        let cpus = self.decisions.get(&0, 0).map_err(program)?.len();
        let zeros = vec![0; cpus].try_into().map_err(program)?;
        self.decisions.set(0, zeros, 0).map_err(program)?;
        self.update(|settings| {
            settings.loss = impairment.loss_ppm;
            settings.duplicate = impairment.duplicate_ppm;
            settings.reorder = impairment.reorder_ppm;
            settings.seed = impairment.seed;
            settings.hold_ifindex = hold_ifindex;
        })
    }

    fn update(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), LabError> {
        let mut settings = self.settings.get(&0, 0).map_err(program)?;
        change(&mut settings);
        self.settings.set(0, settings, 0).map_err(program)
    }

    /// All that came in by a port since the program was attached.
    pub(super) fn counts(&self, ifindex: u32) -> Result<FabricCounts, LabError> {
        let port = if ifindex < layout::PORTS { ifindex } else { 0 };
        let mut sum = FabricCounts::default();
        for cpu in self.tallies.get(&port, 0).map_err(program)?.iter() {
            let tally = |kind: usize| {
                let mut tally = Tally::default();
                let (cells, _) = cpu.kinds[kind].as_chunks::<4>();
                for (to, from) in tally.cells.iter_mut().flatten().zip(cells.iter().flatten()) {
                    *to = Count {
                        packets: from.packets,
                        bytes: from.bytes,
                    };
                }
                tally
            };
            sum.add(&FabricCounts {
                all: tally(layout::ALL),
                covered: tally(layout::COVERED),
                marker: tally(layout::MARKER),
                fragments: tally(layout::FRAGMENT),
                lost: tally(layout::LOST),
                duplicated: tally(layout::DUPLICATED),
                reordered: tally(layout::REORDERED),
            });
        }
        Ok(sum)
    }
}

fn map(ebpf: &mut Ebpf, name: &str) -> aya::maps::Map {
    ebpf.take_map(name).expect("the object has it")
}

/// Prefix lengths count from the 128-bit form.
fn key(prefix: &IpNet) -> Key<[u8; 16]> {
    match prefix.network() {
        IpAddr::V4(v4) => Key::new(96 + u32::from(prefix.prefix_len()), v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => Key::new(prefix.prefix_len().into(), v6.octets()),
    }
}

fn program(error: impl std::error::Error + Send + Sync + 'static) -> LabError {
    LabError::Program(Box::new(error))
}
