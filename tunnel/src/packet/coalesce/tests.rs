//! Whatever is merged must come apart again into what was pushed, flow by flow.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::packet::{
    Cutter, Gso,
    parse::{Packet, protocol},
    sample::{ACK, Sample},
};

const ALL: Merge = Merge {
    tcp4: true,
    tcp6: true,
    udp: true,
};
const PSH: u8 = 0x08;

type Written = Vec<(VnetHdr, Vec<u8>)>;

fn coalesce(merge: Merge, packets: &[Vec<u8>]) -> Written {
    let mut written = Vec::new();
    let mut coalescer = Coalescer::new(merge);
    let mut write = |vnet: &VnetHdr, packet: &[u8]| written.push((*vnet, packet.to_vec()));
    for packet in packets {
        coalescer.push(packet, &mut write);
    }
    coalescer.flush(&mut write);
    written
}

/// What the kernel makes of the writes again.
fn take_apart(written: &Written) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut cutter = Cutter::new();
    for (vnet, packet) in written {
        cutter
            .cut(*vnet, packet, usize::MAX, |segment| {
                packets.push(segment.padded[..segment.len].to_vec())
            })
            .expect("whole");
    }
    packets
}

/// Packets of each flow in their order; identification and header checksum blanked where DF makes them
/// meaningless.
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for packet in packets {
        let view = Packet::parse(packet).expect("a packet");
        let key = [&[view.protocol()][..], &view.l4()[..4.min(view.l4().len())]].concat();
        let mut packet = view.bytes().to_vec();
        if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        flows.entry(key).or_default().push(packet);
    }
    flows
}

/// One step of a random batch.
#[derive(Clone, Debug)]
enum Change {
    None,
    Ttl,
    Tos,
    FlowLabel,
    DontFragment,
    Option,
    Window,
    Flags(u8),
    Corrupt(prop::sample::Index),
    Id,
    Gap,
    Padding(usize),
    IpOption,
    Length(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => Just(Change::None),
        1 => Just(Change::Ttl),
        1 => Just(Change::Tos),
        1 => Just(Change::FlowLabel),
        1 => Just(Change::DontFragment),
        1 => Just(Change::Option),
        1 => Just(Change::Window),
        2 => any::<u8>().prop_map(Change::Flags),
        1 => any::<prop::sample::Index>().prop_map(Change::Corrupt),
        1 => Just(Change::Id),
        1 => Just(Change::Gap),
        1 => (1..16usize).prop_map(Change::Padding),
        1 => Just(Change::IpOption),
        2 => (0..300usize).prop_map(Change::Length),
    ]
}

prop_compose! {
    /// Batches of up to 12 flows; each packet follows its flow's last one but for one change.
    fn batch()(steps in prop::collection::vec((0..12u16, change()), 1..120)) -> Vec<Vec<u8>> {
        let mut flows: BTreeMap<u16, Sample> = BTreeMap::new();
        let mut packets = Vec::new();
        for (number, change) in steps {
            let flow = flows.entry(number).or_insert_with(|| {
                let v6 = number % 2 == 1;
                let sample = if number % 3 == 0 { Sample::udp(v6, 100) } else { Sample::tcp(v6, 100) };
                Sample { ports: (number, 80), dont_fragment: number % 4 < 2, ..sample }
            });
            match change {
                Change::Ttl => flow.ttl ^= 1,
                Change::Tos => flow.tos ^= 1,
                Change::FlowLabel => flow.flow_label ^= 1,
                Change::DontFragment => flow.dont_fragment ^= true,
                Change::Option => flow.tcp_options[7] ^= 1,
                Change::Window => flow.window ^= 1,
                Change::Gap => flow.sequence = flow.sequence.wrapping_add(1),
                Change::Id => flow.id = flow.id.wrapping_add(7),
                Change::Length(len) => flow.payload.resize(len, 5),
                _ => {}
            }
            let mut sample = flow.clone();
            match change {
                Change::Flags(flags) => sample.tcp_flags = flags,
                Change::IpOption if !sample.v6 => sample.ip_options = vec![1, 1, 1, 0],
                _ => {}
            }
            let mut packet = sample.build();
            match change {
                Change::Corrupt(at) => {
                    let l4 = sample.l4_offset() + 4;
                    let at = l4 + at.index(packet.len() - l4);
                    packet[at] ^= 0x10;
                }
                Change::Padding(len) => packet.extend(vec![0; len]),
                _ => {}
            }
            packets.push(packet);
            flow.sequence = flow.sequence.wrapping_add(flow.payload.len() as u32);
            flow.id = flow.id.wrapping_add(1);
        }
        packets
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn merging_loses_changes_and_reorders_nothing_within_a_flow(packets in batch()) {
        let written = coalesce(ALL, &packets);
        prop_assert_eq!(by_flow(&take_apart(&written)), by_flow(&packets));
    }

    #[test]
    fn a_super_packet_cut_by_one_lane_is_rebuilt_by_the_other(
        v6: bool, udp: bool, payload in 1500..60_000usize, size in 1000..1369u16, push: bool, dont_fragment: bool,
    ) {
        let sample = if udp { Sample::udp(v6, payload) } else { Sample::tcp(v6, payload) };
        let flags = if push { ACK | PSH } else { ACK };
        let sample = Sample { tcp_flags: flags, dont_fragment, ..sample };
        let (vnet, packet) = sample.partial(sample.gso(), size);
        let mut segments = Vec::new();
        Cutter::new().cut(vnet, &packet, 1440, |segment| segments.push(segment.padded.to_vec())).expect("fits");
        prop_assume!(segments.len() <= 60);
        let written = coalesce(ALL, &segments);
        prop_assert_eq!(written, vec![(vnet, packet)]);
    }

    #[test]
    fn no_bytes_make_it_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let written = coalesce(ALL, &packets);
        prop_assert!(written.len() <= packets.len());
    }
}

/// A flow's consecutive segments of 1,000 bytes.
fn segments(first: &Sample, count: usize) -> Vec<Sample> {
    (0..count)
        .map(|index| Sample {
            id: first.id.wrapping_add(index as u16),
            sequence: first.sequence.wrapping_add(index as u32 * 1000),
            ..first.clone()
        })
        .collect()
}

fn build(samples: &[Sample]) -> Vec<Vec<u8>> {
    samples.iter().map(Sample::build).collect()
}

#[test]
fn consecutive_segments_become_one_write() {
    for sample in [
        Sample::tcp(false, 1000),
        Sample::tcp(true, 1000),
        Sample::udp(false, 1000),
        Sample::udp(true, 1000),
    ] {
        let written = coalesce(ALL, &build(&segments(&sample, 10)));
        assert_eq!(written.len(), 1);
        let (vnet, packet) = &written[0];
        let l4 = if sample.v6 { 40 } else { 20 };
        assert_eq!(vnet.gso, sample.gso());
        assert_eq!(vnet.gso_size, 1000);
        assert_eq!(usize::from(vnet.hdr_len), sample.headers());
        let partial = vnet.partial.expect("NEEDS_CSUM");
        let offset = if sample.protocol == protocol::TCP { 16 } else { 6 };
        assert_eq!((partial.start, partial.offset), (l4, offset));
        assert_eq!(packet.len(), sample.headers() + 10_000);
    }
}

#[test]
fn a_difference_a_receiver_could_see_is_never_merged() {
    type Differ = fn(&mut Sample);
    let differences: [(&str, Differ); 12] = [
        ("ttl", |s| s.ttl -= 1),
        ("tos", |s| s.tos ^= 0x20),
        ("ecn", |s| s.tos |= 3),
        ("flow label", |s| s.flow_label += 1),
        ("df", |s| s.dont_fragment = false),
        ("tcp option", |s| s.tcp_options[11] += 1),
        ("options' length", |s| s.tcp_options.truncate(4)),
        ("window", |s| s.window += 1),
        ("sequence", |s| s.sequence += 1),
        ("ECE", |s| s.tcp_flags |= 0x40),
        ("CWR", |s| s.tcp_flags |= 0x80),
        ("SYN", |s| s.tcp_flags |= 0x02),
    ];
    for v6 in [false, true] {
        let same = segments(&Sample::tcp(v6, 1000), 2);
        assert_eq!(coalesce(ALL, &build(&same)).len(), 1);
        for (name, differ) in differences {
            if v6 && name == "df" || !v6 && name == "flow label" {
                continue;
            }
            let mut samples = same.clone();
            differ(&mut samples[1]);
            let packets = build(&samples);
            let written: Vec<_> = coalesce(ALL, &packets)
                .into_iter()
                .map(|(_, packet)| packet)
                .collect();
            assert_eq!(written, packets, "{name}");
        }
    }
}

#[test]
fn without_df_the_identification_must_count_up() {
    let mut samples = segments(
        &Sample {
            dont_fragment: false,
            ..Sample::tcp(false, 1000)
        },
        3,
    );
    assert_eq!(coalesce(ALL, &build(&samples)).len(), 1);
    samples[2].id += 1;
    assert_eq!(coalesce(ALL, &build(&samples)).len(), 2);
}

#[test]
fn a_wrong_checksum_passes_unchanged_and_in_order() {
    for sample in [Sample::tcp(false, 1000), Sample::udp(true, 1000)] {
        for corrupt in 0..3 {
            let mut packets = build(&segments(&sample, 3));
            *packets[corrupt].last_mut().expect("not empty") ^= 1;
            let written = coalesce(ALL, &packets);
            assert!(
                written
                    .iter()
                    .any(|(vnet, packet)| *vnet == VnetHdr::default() && *packet == packets[corrupt])
            );
            assert_eq!(by_flow(&take_apart(&written)), by_flow(&packets));
        }
        // A wrong IPv4 header checksum is not mended either.
        if !sample.v6 {
            let mut packets = build(&segments(&sample, 2));
            packets[1][10] ^= 1;
            assert_eq!(coalesce(ALL, &packets)[1].1, packets[1]);
        }
    }
}

#[test]
fn a_push_or_a_short_segment_ends_the_super_packet() {
    let mut samples = segments(&Sample::tcp(false, 1000), 4);
    samples[1].tcp_flags |= PSH;
    assert_eq!(coalesce(ALL, &build(&samples)).len(), 2);
    let mut samples = segments(&Sample::udp(false, 1000), 4);
    samples[1].payload.truncate(999);
    assert_eq!(coalesce(ALL, &build(&samples)).len(), 2);
}

#[test]
fn a_super_packet_never_passes_65535_bytes() {
    for v6 in [false, true] {
        let written = coalesce(ALL, &build(&segments(&Sample::tcp(v6, 1000), 70)));
        assert_eq!(written.len(), 2);
        assert!(written[0].1.len() <= 65_535);
    }
}

#[test]
fn a_pure_ack_does_not_overtake_data_of_its_flow() {
    let mut samples = segments(&Sample::tcp(false, 1000), 2);
    samples.push(Sample {
        payload: vec![],
        sequence: samples[1].sequence.wrapping_add(1000),
        ..samples[1].clone()
    });
    let written = coalesce(ALL, &build(&samples));
    assert_eq!(written.len(), 2);
    assert_eq!(written[1].1, samples[2].build());
}

#[test]
fn what_the_tun_does_not_take_is_not_merged() {
    let packets = build(&segments(&Sample::tcp(false, 1000), 3));
    assert_eq!(coalesce(Merge { tcp4: false, ..ALL }, &packets).len(), 3);
    let packets = build(&segments(&Sample::udp(false, 1000), 3));
    let written = coalesce(Merge { udp: false, ..ALL }, &packets);
    assert!(written.iter().all(|(vnet, _)| vnet.gso == Gso::None));
}
