//! Prints what cutting and coalescing cost: nanoseconds for each 1,400-byte segment of a TCP bulk flow.
//!
//! `cargo run -p hauberk-tunnel --release --example packet_cost`; each figure is the best of its rounds,
//! so that a busy machine disturbs little.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use hauberk_tunnel::packet::{Coalescer, Cutter, Gso, VnetHdr, checksum, coalesce::Merge, vnet::Partial};

const MTU: usize = 1400;
const HEADERS: usize = 20 + 32;
const SEGMENTS: usize = 46;
const ROUNDS: usize = 400;

fn main() {
    let (vnet, packet) = super_packet();
    let mut cutter = Cutter::new();
    let mut segments = Vec::new();
    let cut = cutter.cut(vnet, &packet, MTU, |segment| {
        segments.push(segment.padded.to_vec())
    });
    assert_eq!(cut, Ok(SEGMENTS));

    report("checksum of a segment", || {
        for segment in &segments {
            black_box(checksum::Sum::default().bytes(black_box(segment)).fold());
        }
    });
    let mut copy = vec![0; MTU];
    report("copy and checksum of a segment", || {
        for segment in &segments {
            black_box(checksum::copy_and_sum(&mut copy[..segment.len()], black_box(segment)).fold());
        }
    });
    report("cut", || {
        let cut = cutter.cut(vnet, black_box(&packet), MTU, |segment| {
            black_box(segment.padded);
        });
        assert_eq!(cut, Ok(SEGMENTS));
    });
    let mut coalescer = Coalescer::new(Merge {
        tcp4: true,
        tcp6: true,
        udp: true,
    });
    let mut writes = 0;
    report("coalesce", || {
        for segment in &segments {
            coalescer.push(black_box(segment), &mut |_, packet| {
                black_box(packet);
                writes += 1;
            });
        }
        coalescer.flush(&mut |_, _| writes += 1);
    });
    println!(
        "segments in each coalesced write: {:.1}",
        (ROUNDS * SEGMENTS) as f64 / f64::from(writes)
    );
}

fn report(name: &str, mut round: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed());
    }
    println!("{name}: {:.1} ns", best.as_nanos() as f64 / SEGMENTS as f64);
}

/// A TSO super-packet as a TUN gives it, with timestamps as its TCP option.
fn super_packet() -> (VnetHdr, Vec<u8>) {
    let len = HEADERS + SEGMENTS * (MTU - HEADERS);
    let mut packet: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 1, 2, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 10, 77, 2, 2,
    ]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let sum = checksum::Sum::default().bytes(&packet[..20]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..HEADERS].copy_from_slice(&[
        0x80, 1, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0,
        0, 7, 0, 0, 0, 9,
    ]);
    let vnet = VnetHdr {
        gso: Gso::Tcp4,
        gso_size: 1448,
        hdr_len: HEADERS as u16,
        partial: Some(Partial {
            start: 20,
            offset: 16,
        }),
    };
    (vnet, packet)
}
