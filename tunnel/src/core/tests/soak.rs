//! A million packets over a wire that loses, doubles and reorders: nothing corrupt, nothing twice, no leak.

use super::packets::{v4, v6};
use super::two::{Datagram, friends};
use crate::packet::{Packet, VnetHdr, datagram};

const PACKETS: u64 = 1_000_000;
const WARM_UP: u64 = 100_000;
/// Per million.
const LOST: u64 = 20_000;
const DOUBLED: u64 = 20_000;
const LATE: u64 = 50_000;
/// How many others pass a late datagram at most: within the replay window of 1,024.
const LATEST: usize = 60;
/// Growth of the process that other tests beside this one may cause.
const MEMORY: usize = 48 << 20;

/// xorshift64*, so that every run is the same.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn is(&mut self, per_million: u64) -> bool {
        self.next() % 1_000_000 < per_million
    }
}

/// Resident bytes of this process.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number of pages");
    pages * 4096
}

fn payload(number: u64, length: usize, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&number.to_be_bytes());
    into.extend((0..length).map(|n| (number as usize + n * 7) as u8));
}

#[test]
fn a_million_packets_survive_loss_reordering_and_duplication() {
    let (mut a, mut b) = friends();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut late: Vec<(u64, Datagram)> = Vec::new();
    let mut seen = vec![0_u64; PACKETS.div_ceil(64) as usize];
    let (mut lost, mut arrived, mut doubled, mut base) = (0, 0, 0, 0);
    let (mut body, mut packet) = (Vec::new(), vec![0; 1_500]);
    for number in 0..PACKETS {
        if number == WARM_UP {
            base = memory();
        }
        let (source, destination) = if number % 2 == 0 {
            (v4(1), v4(2))
        } else {
            (v6(1), v6(2))
        };
        payload(number, (chance.next() % 300) as usize, &mut body);
        let length =
            datagram::build((source, 7).into(), (destination, 9).into(), &body, &mut packet).expect("fits");
        a.tun(VnetHdr::default(), &packet[..length]);
        let datagram = a.edges.sent.pop_front().expect("every packet is sent");
        if chance.is(LOST) {
            lost += 1;
        } else if chance.is(LATE) {
            late.push((number + chance.next() % LATEST as u64, datagram));
        } else {
            b.arrive(a.address, 0, &datagram.bytes);
            if chance.is(DOUBLED) {
                doubled += 1;
                b.arrive(a.address, 0, &datagram.bytes);
            }
        }
        late.retain(|(due, datagram)| {
            let wait = *due > number && number + 1 < PACKETS;
            if !wait {
                b.arrive(a.address, 0, &datagram.bytes);
            }
            wait
        });
        for (_, packet) in b.edges.delivered.drain(..) {
            let view = Packet::parse(&packet).expect("an IP packet");
            let (_, _, bytes) = datagram::read(&view).expect("a whole datagram with a right checksum");
            let number = u64::from_be_bytes(*bytes.first_chunk().expect("a number"));
            payload(number, bytes.len() - 8, &mut body);
            assert_eq!(bytes, body, "packet {number} is corrupt");
            let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
            assert_eq!(seen[word] & bit, 0, "packet {number} came twice");
            seen[word] |= bit;
            arrived += 1;
        }
    }
    assert_eq!(arrived + lost, PACKETS);
    assert_eq!(b.drops(crate::drop_reason::DropReason::Replayed), doubled);
    assert_eq!(a.core.drops().total() + b.core.drops().total(), doubled);
    let grown = memory().saturating_sub(base);
    assert!(
        grown < MEMORY,
        "{grown} bytes more than after the first {WARM_UP} packets"
    );
}
