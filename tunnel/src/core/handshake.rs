//! Handshake messages: answered under a rate limit, and what a finished handshake sets going.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use x25519_dalek::PublicKey;

use super::inbound::{Origin, drop_reason, word};
use super::outbound::Begin;
use super::{Core, Edges, HANDSHAKE_TOS, MESSAGE_BUFFER};
use crate::drop_reason::DropReason;
use crate::lane::{LaneError, LaneEventKind};
use crate::peers::PeerId;
use crate::socket::Batch;

/// Least time between two searches among all peers for the sender of a datagram of no session.
const SEARCH_INTERVAL: Duration = Duration::from_millis(10);
/// Least time between two handshakes that such datagrams start, for a peer without and with a session.
const REVIVAL_INTERVAL: Duration = Duration::from_secs(1);
const REVIVAL_INTERVAL_ESTABLISHED: Duration = Duration::from_secs(5);

const COOKIE_REPLY: u8 = 3;

impl Core {
    /// An initiation: from whom stands encrypted inside it, so it is verified before its peer is known.
    pub(super) fn initiation(&mut self, datagram: &[u8], origin: Origin, edges: &mut impl Edges) {
        let mut answer = [0; MESSAGE_BUFFER];
        let initiation =
            match self
                .identity
                .limiter
                .verify_packet(Some(origin.from.ip()), datagram, &mut answer)
            {
                Ok(Packet::HandshakeInit(initiation)) => initiation,
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    self.drops.add(DropReason::UnderLoad, 1);
                    return self.answer(origin.from, cookie, edges);
                }
                Err(TunnResult::Err(error)) => return self.drops.add(drop_reason(&error), 1),
                _ => return self.drops.add(DropReason::NotWireGuard, 1),
            };
        let (private, public) = (&self.identity.private, &self.identity.public);
        let id = parse_handshake_anon(private, public, &initiation)
            .ok()
            .and_then(|half| self.peers.id(&PublicKey::from(half.peer_static_public)));
        let Some(id) = id else {
            return self.drops.add(DropReason::BadAuthentication, 1);
        };
        let peer = self.peers.peer(id);
        let tunn = self.identity.tunn(peer);
        match tunn.decapsulate(Some(origin.from.ip()), datagram, &mut answer) {
            TunnResult::WriteToNetwork(response) if response[0] == COOKIE_REPLY => {
                self.drops.add(DropReason::UnderLoad, 1);
                self.answer(origin.from, response, edges);
            }
            TunnResult::WriteToNetwork(response) => {
                // The peer's own data will confirm the session (whitepaper §5.4.6).
                peer.unconfirmed = Some(word(response, 4));
                peer.tx_bytes += response.len() as u64;
                self.answer(origin.from, response, edges);
                self.heard(id, datagram.len(), origin, edges);
            }
            TunnResult::Err(error) => self.drops.add(drop_reason(&error), 1),
            _ => {}
        }
    }

    /// The response to our initiation.
    pub(super) fn response(&mut self, datagram: &[u8], origin: Origin, edges: &mut impl Edges) {
        let mut answer = [0; MESSAGE_BUFFER];
        let index = word(datagram, 8);
        let Some(id) = self.peers.by_receiver_index(index) else {
            return self.drops.add(DropReason::WrongIndex, 1);
        };
        let peer = self.peers.peer(id);
        let Some(tunn) = &mut peer.tunn else {
            return self.drops.add(DropReason::WrongIndex, 1);
        };
        match tunn.decapsulate(Some(origin.from.ip()), datagram, &mut answer) {
            TunnResult::WriteToNetwork(cookie) if cookie[0] == COOKIE_REPLY => {
                self.drops.add(DropReason::UnderLoad, 1);
                self.answer(origin.from, cookie, edges);
            }
            TunnResult::WriteToNetwork(keepalive) => {
                peer.tx_bytes += keepalive.len() as u64;
                self.answer(origin.from, keepalive, edges);
                self.heard(id, datagram.len(), origin, edges);
                self.session_confirmed(id, origin.now, edges);
            }
            TunnResult::Err(error) => self.drops.add(drop_reason(&error), 1),
            _ => {}
        }
    }

    /// The other side is under load: our next initiation carries its cookie.
    pub(super) fn cookie_reply(&mut self, datagram: &[u8], origin: Origin) {
        let mut unused = [0; MESSAGE_BUFFER];
        let Some(id) = self.peers.by_receiver_index(word(datagram, 4)) else {
            return self.drops.add(DropReason::WrongIndex, 1);
        };
        let Some(tunn) = &mut self.peers.peer(id).tunn else {
            return self.drops.add(DropReason::WrongIndex, 1);
        };
        if let TunnResult::Err(error) = tunn.decapsulate(Some(origin.from.ip()), datagram, &mut unused) {
            self.drops.add(drop_reason(&error), 1);
        }
    }

    /// Both sides have a session's keys: what waited may go.
    pub(super) fn session_confirmed(&mut self, id: PeerId, now: Instant, edges: &mut impl Edges) {
        let peer = self.peers.peer(id);
        peer.last_handshake = Some((now, SystemTime::now()));
        peer.refresh();
        let public_key = peer.public_key;
        edges.event(LaneEventKind::HandshakeDone { peer: public_key });
        self.outbound(edges).release(id);
    }

    /// A datagram of a session that is no more shows that its sender does not know of our restart: a new
    /// handshake tells it, long before its own timers would (15 s).
    pub(super) fn revive(&mut self, origin: Origin, edges: &mut impl Edges) {
        let Origin { from, now, .. } = origin;
        if !passed(self.last_search, SEARCH_INTERVAL, now) {
            return;
        }
        self.last_search = Some(now);
        let Some(id) = self.peers.by_endpoint(from) else {
            return;
        };
        let peer = self.peers.peer(id);
        let interval = if peer.established {
            REVIVAL_INTERVAL_ESTABLISHED
        } else {
            REVIVAL_INTERVAL
        };
        if passed(peer.last_revival, interval, now) {
            peer.last_revival = Some(now);
            self.outbound(edges).handshake(id, Begin::Again);
        }
    }

    /// Starts a handshake now. One under way is repeated, if that was not done within the last second.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`] when there is no such peer or its endpoint is not known.
    pub(crate) fn connect(
        &mut self,
        key: &PublicKey,
        now: Instant,
        edges: &mut impl Edges,
    ) -> Result<(), LaneError> {
        let id = self.peers.id(key).ok_or(LaneError::BadPeer("no such peer"))?;
        let peer = self.peers.peer(id);
        if peer.endpoint.is_none() {
            return Err(LaneError::BadPeer("its UDP endpoint is not known"));
        }
        let again = passed(peer.last_revival, REVIVAL_INTERVAL, now);
        if again {
            peer.last_revival = Some(now);
        }
        self.outbound(edges)
            .handshake(id, if again { Begin::Again } else { Begin::Once });
        Ok(())
    }

    /// As [`Core::connect`], where packets wait for the handshake; else nothing.
    ///
    /// # Errors
    /// As [`Core::connect`].
    pub(crate) fn connect_waiting(
        &mut self,
        key: &PublicKey,
        now: Instant,
        edges: &mut impl Edges,
    ) -> Result<(), LaneError> {
        let id = self.peers.id(key).ok_or(LaneError::BadPeer("no such peer"))?;
        let peer = self.peers.peer(id);
        if peer.established || peer.waiting.is_empty() {
            return Ok(());
        }
        self.connect(key, now, edges)
    }

    fn answer(&mut self, to: SocketAddr, message: &[u8], edges: &mut impl Edges) {
        if edges
            .send(&Batch {
                to,
                tos: HANDSHAKE_TOS,
                bytes: message,
                segment: message.len(),
            })
            .is_err()
        {
            self.drops.add(DropReason::SendFailed, 1);
        }
    }
}

fn passed(last: Option<Instant>, interval: Duration, now: Instant) -> bool {
    last.is_none_or(|at| now.duration_since(at) >= interval)
}
