//! Merging what came out of the tunnel.
//!
//! Input: what to mend, then packets, each behind its length in two bytes.

use std::{cell::RefCell, collections::BTreeMap};

use hauberk_tunnel::packet::{Coalescer, Cutter, Gso, Packet, VnetHdr, coalesce::Merge, parse::Fragment};

use super::{Target, sample};

pub(crate) const COALESCE: Target = Target {
    name: "coalesce",
    about: "batches of packets on their way out of the tunnel",
    seeds,
    words: &[],
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let batch = |packets: Vec<Vec<u8>>| {
        let mut input = vec![sample::MEND_ALL];
        for packet in packets {
            input.extend((packet.len() as u16).to_be_bytes());
            input.extend(packet);
        }
        input
    };
    let mut out = Vec::new();
    for v6 in [false, true] {
        out.push(batch(
            (0..6)
                .map(|i| sample::tcp(v6, (u32::MAX - 200).wrapping_add(i * 100), 100))
                .collect(),
        ));
        out.push(batch((0..6).map(|_| sample::udp(v6, 64)).collect()));
        out.push(batch(vec![
            sample::tcp(v6, 0, 50),
            sample::udp(v6, 20),
            sample::tcp(v6, 50, 50),
            sample::ping(v6, 20),
            sample::tcp(v6, 100, 20),
            sample::tcp(v6, 120, 0),
            sample::udp(v6, 10),
        ]));
    }
    out
}

thread_local! {
    static BUFFERS: RefCell<(Coalescer, Cutter)> = RefCell::new((
        Coalescer::new(Merge { tcp4: true, tcp6: true, udp: true }),
        Cutter::new(),
    ));
}

fn run(input: &[u8]) -> u64 {
    let Some((&mend, mut rest)) = input.split_first() else {
        return 0;
    };
    let mut pushed = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (packet, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes(*len))));
        let mut packet = packet.to_vec();
        sample::mend(mend & !1, &mut packet);
        pushed.push(packet);
        rest = after;
    }
    let mut written = Vec::new();
    let mut received = Vec::new();
    BUFFERS.with_borrow_mut(|(coalescer, cutter)| {
        let mut write = |vnet: &VnetHdr, packet: &[u8]| written.push((*vnet, packet.to_vec()));
        for packet in &pushed {
            coalescer.push(packet, &mut write);
        }
        coalescer.flush(&mut write);
        // What the kernel makes of each write again.
        for (vnet, packet) in &written {
            if vnet.gso == Gso::None {
                received.push(packet.clone());
                continue;
            }
            let cut = cutter.cut(*vnet, packet, usize::MAX, |s| {
                received.push(s.padded[..s.len].to_vec())
            });
            assert!(
                cut.is_ok_and(|count| count >= 2),
                "a super-packet is worth its header"
            );
        }
    });
    assert_eq!(
        by_flow(&received),
        by_flow(&pushed),
        "nothing is lost, changed or reordered in its flow"
    );
    let merged = written.iter().filter(|(vnet, _)| vnet.gso != Gso::None).count() as u64;
    (pushed.len() as u64) << 8 | merged
}

/// Packets in the order of their flows. Where DF is set, identification (and with it the header checksum)
/// means nothing (RFC 6864 §4.1).
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for bytes in packets {
        let (key, mut packet) = match Packet::parse(bytes) {
            Ok(packet) => {
                // Later fragments have no ports, and no place in a flow.
                let ports = match packet.fragment() {
                    Fragment::Later => &b"fragments"[..],
                    _ => &packet.l4()[..packet.l4().len().min(4)],
                };
                let key = format!(
                    "{} {} {}",
                    packet.source(),
                    packet.destination(),
                    packet.protocol()
                );
                ([key.as_bytes(), ports].concat(), packet.bytes().to_vec())
            }
            Err(_) => (Vec::new(), bytes.clone()),
        };
        if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        flows.entry(key).or_default().push(packet);
    }
    flows
}
