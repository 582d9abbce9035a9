//! Which packets must not leave in clear, and to which peer they go.

use hauberk_abi::{
    Addr, CONFIG_DROP_UNKNOWN, DropReason, IP_NODE, IP_SELF, IpcacheEntry, NO_PEER, PHASE_SENDING, Peer,
};

use crate::maps::{PEERS, copied, is_covered};

/// A packet is covered by its destination, or by its source when it goes to another node's address.
#[inline(always)]
pub fn packet_is_covered(src: &Addr, dst: &Addr, to: Option<&IpcacheEntry>) -> bool {
    is_covered(dst) || (is_other_node(to) && is_covered(src))
}

#[inline(always)]
pub fn is_other_node(entry: Option<&IpcacheEntry>) -> bool {
    entry.is_some_and(|e| e.flags & (IP_NODE | IP_SELF) == IP_NODE)
}

/// The peer that a covered packet is encrypted for; `None` while it may go in clear.
///
/// A covered address that is nobody's, or this node's own (what leaves for it by an uplink has lost its way,
/// as after a pod's end), has no peer.
#[inline(always)]
pub fn peer_for(to: Option<&IpcacheEntry>, flags: u32) -> Result<Option<Peer>, DropReason> {
    let known = match to {
        Some(entry) if entry.peer != NO_PEER => copied(&PEERS, &entry.peer),
        _ => None,
    };
    let Some(peer) = known else {
        return if flags & CONFIG_DROP_UNKNOWN != 0 {
            Err(DropReason::UnknownPeer)
        } else {
            Ok(None)
        };
    };
    if peer.phase < PHASE_SENDING {
        return Ok(None);
    }
    if peer.sessions == 0 {
        return Err(DropReason::PeerKeyMissing);
    }
    Ok(Some(peer))
}
