//! Packets that wait for a peer's handshake: bounded, and nothing leaves unseen.

use std::collections::VecDeque;

/// Most packets that wait for one peer. The kernel's WireGuard holds 128 super-packets
/// (drivers/net/wireguard/messages.h, MAX_STAGED_PACKETS); these are already cut.
const MAX_PACKETS: usize = 512;

/// A packet, cut and padded, with the outer TOS it will have.
pub(crate) struct Waiting {
    pub(crate) tos: u8,
    pub(crate) packet: Box<[u8]>,
}

/// The packets of one peer, oldest first.
#[derive(Default)]
pub(crate) struct WaitingRoom(VecDeque<Waiting>);

impl WaitingRoom {
    /// Adds a packet; returns how many old ones had to go to make room.
    #[must_use = "what is dropped must be counted"]
    pub(crate) fn push(&mut self, tos: u8, packet: &[u8]) -> u64 {
        self.0.push_back(Waiting {
            tos,
            packet: packet.into(),
        });
        if self.0.len() > MAX_PACKETS {
            self.0.pop_front();
            return 1;
        }
        0
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
}
