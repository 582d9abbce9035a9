//! Why a lane dropped a packet: numbered reasons and their counters.
//!
//! A failure of one packet is a number here, never a log line.

macro_rules! drop_reasons {
    ($($(#[$meta:meta])* $variant:ident = $n:literal $name:literal,)*) => {
        /// Why a lane dropped a packet. Numbers never change their meaning; new ones are added at the end.
        #[repr(usize)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason { $($(#[$meta])* $variant = $n,)* }
        impl DropReason {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name used in metrics and in `hauberk status`.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
        }
    };
}

drop_reasons! {
    /// A packet from the TUN whose headers cannot be read.
    Malformed = 0 "LaneMalformed",
    /// A packet from the TUN whose checksum is wrong.
    BadChecksum = 1 "LaneBadChecksum",
    /// No peer's AllowedIPs hold the destination.
    NoPeer = 2 "LaneNoPeer",
    /// The peer has no UDP endpoint yet.
    NoEndpoint = 3 "LaneNoEndpoint",
    /// Too big for the path, and it may not or cannot be cut.
    TooBig = 4 "LaneTooBig",
    /// Waiting for a handshake, more packets than the peer's waiting room holds.
    HandshakeQueueFull = 5 "LaneHandshakeQueueFull",
    /// Waiting for a handshake that never came.
    HandshakeTimeout = 6 "LaneHandshakeTimeout",
    /// The kernel did not take the datagram.
    SendFailed = 7 "LaneSendFailed",
    /// Sealed for a path MTU that had just become smaller.
    PathMtuShrunk = 8 "LanePathMtuShrunk",
    /// A datagram that is no WireGuard message (truncated, wrong type or wrong length).
    NotWireGuard = 9 "LaneNotWireGuard",
    /// A receiver index that no session here has.
    WrongIndex = 10 "LaneWrongIndex",
    /// Authentication failed: wrong key, a corrupt datagram, or an unknown peer's handshake.
    BadAuthentication = 11 "LaneBadAuthentication",
    /// Seen before, or too old for the replay window.
    Replayed = 12 "LaneReplayed",
    /// A handshake refused while under load.
    UnderLoad = 13 "LaneUnderLoad",
    /// The inner source address is not within the peer's AllowedIPs.
    SpoofedSource = 14 "LaneSpoofedSource",
    /// An authenticated payload that is no IP packet.
    InnerMalformed = 15 "LaneInnerMalformed",
    /// Congestion was marked on a packet that does not know ECN (RFC 6040).
    EcnInvalid = 16 "LaneEcnInvalid",
    /// The TUN did not take the packet.
    TunWriteFailed = 17 "LaneTunWriteFailed",
    /// A control message to a peer without control address, or while no own address of that family is set.
    ControlUnroutable = 18 "LaneControlUnroutable",
    /// The datagram was longer than the receive buffer.
    Oversized = 19 "LaneOversized",
    /// Multicast or link-local, and no peer's: the device's own chatter (router solicitation, MLD).
    LinkLocal = 20 "LaneLinkLocal",
}

/// Packets dropped, by reason. Plain numbers: a lane has one writer and answers questions itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Packets dropped for `reason`.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count of packets, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.count(reason)))
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn add(&mut self, reason: DropReason, packets: u64) {
        self.0[reason as usize] += packets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_positions_in_all() {
        for (position, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, position);
        }
    }
}
