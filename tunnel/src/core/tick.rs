//! Timers: WireGuard's own (through boringtun), persistent keepalives, and once a second the paths' MTUs.

use std::time::{Duration, Instant};

use boringtun::noise::TunnResult;
use boringtun::noise::errors::WireGuardError;

use super::outbound::Begin;
use super::{Core, Edges, MESSAGE_BUFFER};
use crate::drop_reason::DropReason;
use crate::peers::PeerId;

/// How often [`Core::tick`] is to be called. WireGuard's shortest time is five seconds.
pub(crate) const TICK: Duration = Duration::from_millis(250);

impl Core {
    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant, edges: &mut impl Edges) {
        let second = self
            .last_second
            .is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1));
        if second {
            self.last_second = Some(now);
            self.identity.limiter.reset_count();
        }
        for id in self.peers.ids() {
            self.tick_peer(id, edges);
            self.keep_alive(id, now, edges);
            if second {
                self.follow_path(id, edges);
            }
        }
    }

    fn tick_peer(&mut self, id: PeerId, edges: &mut impl Edges) {
        let mut message = [0; MESSAGE_BUFFER];
        let peer = self.peers.peer(id);
        let Some(tunn) = &mut peer.tunn else { return };
        let result = tunn.update_timers(&mut message);
        match result {
            TunnResult::WriteToNetwork(message) => self.outbound(edges).send_message(id, message),
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                // No answer for 90 s: what waited is given up, as the whitepaper says (§6.4).
                let dropped = peer.waiting.clear();
                self.drops.add(DropReason::HandshakeTimeout, dropped);
            }
            _ => {}
        }
        self.peers.peer(id).refresh();
    }

    /// Persistent keepalives are the lane's work: boringtun's stop for ever when a handshake gave up, and
    /// their interval is fixed with the session.
    fn keep_alive(&mut self, id: PeerId, now: Instant, edges: &mut impl Edges) {
        let mut message = [0; MESSAGE_BUFFER];
        let peer = self.peers.peer(id);
        let Some(seconds) = peer.keepalive else { return };
        let bytes = peer.tx_bytes + peer.rx_bytes;
        let due = match peer.last_traffic {
            Some((_, then)) if then != bytes => false,
            Some((at, _)) if now.duration_since(at) < Duration::from_secs(seconds.into()) => return,
            _ => true,
        };
        peer.last_traffic = Some((now, bytes));
        if !due || peer.endpoint.is_none() {
            return;
        }
        if !peer.established {
            return self.outbound(edges).handshake(id, Begin::Once);
        }
        let Some(tunn) = &mut peer.tunn else { return };
        if let TunnResult::WriteToNetwork(keepalive) = tunn.encapsulate(&[], &mut message) {
            self.outbound(edges).send_message(id, keepalive);
        }
    }

    /// Asks for the path's MTU again where packets flow: it may have grown, or shrunk without a refusal.
    fn follow_path(&mut self, id: PeerId, edges: &mut impl Edges) {
        let peer = self.peers.peer(id);
        let Some(endpoint) = peer.endpoint else { return };
        if std::mem::replace(&mut peer.probed_at_tx, peer.tx_bytes) == peer.tx_bytes {
            return;
        }
        if let Some(mtu) = edges.path_mtu(endpoint) {
            peer.set_path_mtu(mtu);
        }
    }
}
