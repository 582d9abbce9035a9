//! Packets that wait for a peer's handshake: bounded, and nothing leaves unseen.

use std::collections::VecDeque;

/// Most packets that wait for one peer. The kernel's WireGuard holds 128 super-packets
/// (drivers/net/wireguard/messages.h, MAX_STAGED_PACKETS); these are already cut.
const MAX_PACKETS: usize = 512;

/// A packet, cut and padded, with the outer TOS it will have.
pub(crate) struct Waiting {
    pub(crate) tos: u8,
    pub(crate) packet: Vec<u8>,
}

/// The packets of one peer, oldest first.
#[derive(Default)]
pub(crate) struct WaitingRoom(VecDeque<Waiting>);

impl WaitingRoom {
    /// Adds a packet; returns how many old ones had to go to make room. Their memory serves the new ones and
    /// grows to the longest packet's length at most, however long no session comes.
    #[must_use = "what is dropped must be counted"]
    pub(crate) fn push(&mut self, tos: u8, packet: &[u8]) -> u64 {
        let oldest = if self.0.len() == MAX_PACKETS {
            self.0.pop_front()
        } else {
            None
        };
        let dropped = u64::from(oldest.is_some());
        let mut memory = oldest.map_or_else(Vec::new, |waiting| waiting.packet);
        memory.clear();
        memory.reserve_exact(packet.len());
        memory.extend_from_slice(packet);
        self.0.push_back(Waiting { tos, packet: memory });
        dropped
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        self.0.pop_front()
    }

    /// Empties the room; returns how many packets there were.
    #[must_use = "what is dropped must be counted"]
    pub(crate) fn clear(&mut self) -> u64 {
        let packets = self.0.len() as u64;
        self.0 = VecDeque::new();
        packets
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_packet_makes_room_and_is_told() {
        let mut room = WaitingRoom::default();
        let dropped: u64 = (0..MAX_PACKETS + 3).map(|n| room.push(0, &n.to_be_bytes())).sum();
        assert_eq!(dropped, 3);
        assert_eq!(&*room.pop().expect("not empty").packet, &3_usize.to_be_bytes());
        assert_eq!(room.clear(), MAX_PACKETS as u64 - 1);
        assert!(room.is_empty());
    }

    #[test]
    fn a_full_room_takes_packets_into_the_memory_of_those_that_go() {
        let mut room = WaitingRoom::default();
        let full: u64 = (0..MAX_PACKETS).map(|_| room.push(0, &[1; 1_440])).sum();
        assert_eq!(full, 0);
        let places = |room: &WaitingRoom| -> std::collections::BTreeSet<*const u8> {
            room.0.iter().map(|waiting| waiting.packet.as_ptr()).collect()
        };
        let before = places(&room);
        for n in 0..2 * MAX_PACKETS {
            assert_eq!(room.push(7, &vec![2; 1 + n % 1_440]), 1);
        }
        assert_eq!(places(&room), before);
        let last = room.0.back().expect("full");
        assert_eq!(
            (last.tos, last.packet.len()),
            (7, 1 + (2 * MAX_PACKETS - 1) % 1_440)
        );
        assert!(
            last.packet.iter().all(|byte| *byte == 2),
            "nothing of the old one is left"
        );
    }
}
