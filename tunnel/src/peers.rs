//! A lane's peers, found by public key, by receiver index, or by inner address.

mod allowed_ips;
mod peer;
mod waiting;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use x25519_dalek::PublicKey;

use allowed_ips::AllowedIps;
pub(crate) use peer::{DATA_OVERHEAD, Peer, padded};
pub(crate) use waiting::WaitingRoom;

/// Names a peer within its lane, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(usize);

/// A session index is the peer's 24 bits here and 8 that boringtun counts up.
const SESSION_BITS: u32 = 8;
const INDEX_MASK: u32 = (1 << 24) - 1;

/// The table.
#[derive(Default)]
pub(crate) struct Peers {
    peers: Vec<Option<Peer>>,
    by_key: HashMap<PublicKey, PeerId>,
    by_index: HashMap<u32, PeerId>,
    allowed: AllowedIps,
    /// The last index that was found: the datagrams of one batch mostly belong to one session.
    last_index: Option<(u32, PeerId)>,
    /// The last inner address that was found: a flow's packets come in rows.
    last_address: Option<(IpAddr, PeerId)>,
}

impl Peers {
    /// Adds a peer; its index must come from [`Peers::free_index`].
    pub(crate) fn add(&mut self, peer: Peer) -> PeerId {
        let free = self.peers.iter().position(Option::is_none);
        let id = PeerId(free.unwrap_or(self.peers.len()));
        if free.is_none() {
            self.peers.push(None);
        }
        self.by_key.insert(peer.public_key, id);
        self.by_index.insert(peer.index, id);
        self.peers[id.0] = Some(peer);
        id
    }

    /// Gives a peer another index, as its new sessions need after a change of keys.
    pub(crate) fn reindex(&mut self, id: PeerId, index: u32) {
        let before = std::mem::replace(&mut self.peer(id).index, index);
        self.by_index.remove(&before);
        self.by_index.insert(index, id);
        self.forget();
    }

    pub(crate) fn remove(&mut self, key: &PublicKey) -> Option<Peer> {
        let id = self.by_key.remove(key)?;
        let peer = self.peers[id.0].take()?;
        self.by_index.remove(&peer.index);
        self.allowed.remove_peer(id);
        self.forget();
        Some(peer)
    }

    /// An index no peer has: at random, so that datagrams meant for an earlier life of this lane are told from
    /// those for this one.
    pub(crate) fn free_index(&self) -> u32 {
        loop {
            let mut bytes = [0; 4];
            getrandom::getrandom(&mut bytes).expect("the kernel has random numbers");
            let index = u32::from_ne_bytes(bytes) & INDEX_MASK;
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    pub(crate) fn id(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// The peer whose session has the receiver index of a datagram.
    pub(crate) fn by_receiver_index(&mut self, receiver_index: u32) -> Option<PeerId> {
        let index = receiver_index >> SESSION_BITS;
        match self.last_index {
            Some((last, id)) if last == index => Some(id),
            _ => {
                let id = *self.by_index.get(&index)?;
                self.last_index = Some((index, id));
                Some(id)
            }
        }
    }

    /// The peer whose AllowedIPs hold the address, by the longest prefix.
    #[inline]
    pub(crate) fn by_inner_address(&mut self, address: IpAddr) -> Option<PeerId> {
        match self.last_address {
            Some((last, id)) if last == address => Some(id),
            _ => {
                let id = self.allowed.lookup(address)?;
                self.last_address = Some((address, id));
                Some(id)
            }
        }
    }

    /// The peer last heard from at a UDP endpoint. Looks at every peer.
    pub(crate) fn by_endpoint(&self, endpoint: SocketAddr) -> Option<PeerId> {
        self.iter()
            .find(|(_, peer)| peer.endpoint == Some(endpoint))
            .map(|(id, _)| id)
    }

    /// # Panics
    /// When the peer was removed: ids are used within one call of the lane, in which none is.
    pub(crate) fn peer(&mut self, id: PeerId) -> &mut Peer {
        self.peers[id.0]
            .as_mut()
            .expect("an id is looked up in the same call that uses it")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers
            .iter()
            .enumerate()
            .filter_map(|(n, peer)| Some((PeerId(n), peer.as_ref()?)))
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.iter().map(|(id, _)| id).collect()
    }

    /// Peers there is room for without more memory.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn allow(&mut self, net: IpNet, id: PeerId) {
        self.allowed.insert(net, id);
        self.forget();
    }

    pub(crate) fn disallow(&mut self, net: IpNet, id: PeerId) {
        self.allowed.remove(net, id);
        self.forget();
    }

    pub(crate) fn disallow_all(&mut self, id: PeerId) {
        self.allowed.remove_peer(id);
        self.forget();
    }

    /// What was found before may not hold any more.
    fn forget(&mut self) {
        self.last_index = None;
        self.last_address = None;
    }

    pub(crate) fn allowed_ips(&self, id: PeerId) -> Vec<IpNet> {
        self.allowed.of(id).collect()
    }
}
