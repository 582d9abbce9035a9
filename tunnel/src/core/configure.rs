//! Changes of keys and peers, from the lane's owner or from `wg set`.

use std::net::SocketAddr;
use std::sync::Arc;

use boringtun::noise::Tunn;
use ipnet::IpNet;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Core, Edges, Identity};
use crate::lane::{LaneError, PeerConfig};
use crate::peers::{Peer, PeerId};

/// What is to change about one peer; `None` leaves as it is.
#[derive(Default)]
pub(crate) struct PeerChange {
    pub(crate) public_key: [u8; 32],
    pub(crate) remove: bool,
    /// Does nothing when the peer is not there yet.
    pub(crate) update_only: bool,
    /// All zeros stands for none, as in WireGuard itself.
    pub(crate) preshared_key: Option<Zeroizing<[u8; 32]>>,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Seconds; 0 for none.
    pub(crate) keepalive: Option<u16>,
    pub(crate) replace_allowed_ips: bool,
    pub(crate) allowed_ips: Vec<(IpNet, Allow)>,
    pub(crate) control: Option<Option<SocketAddr>>,
}

/// Whether a prefix is given to a peer or taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allow {
    Add,
    Remove,
}

impl From<PeerConfig> for PeerChange {
    fn from(config: PeerConfig) -> Self {
        Self {
            public_key: config.public_key.to_bytes(),
            preshared_key: Some(config.preshared_key.unwrap_or_default()),
            endpoint: config.endpoint,
            keepalive: Some(config.persistent_keepalive.unwrap_or(0)),
            replace_allowed_ips: true,
            allowed_ips: config
                .allowed_ips
                .into_iter()
                .map(|net| (net, Allow::Add))
                .collect(),
            control: Some(config.control),
            ..Self::default()
        }
    }
}

impl Core {
    /// Applies a change.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`] when the peer would be this lane itself.
    pub(crate) fn change_peer(
        &mut self,
        change: PeerChange,
        edges: &mut impl Edges,
    ) -> Result<(), LaneError> {
        let public_key = PublicKey::from(change.public_key);
        if change.remove {
            self.remove_peer(&public_key);
            return Ok(());
        }
        if public_key == self.identity.public {
            return Err(LaneError::BadPeer("its public key is this lane's own"));
        }
        let id = match self.peers.id(&public_key) {
            Some(id) => id,
            None if change.update_only => return Ok(()),
            None => {
                let index = self.peers.free_index();
                self.peers.add(Peer::new(public_key, index))
            }
        };
        let mut fresh_keys = false;
        let peer = self.peers.peer(id);
        if let Some(key) = change.preshared_key {
            let key = (*key != [0; 32]).then_some(key);
            fresh_keys = key != peer.preshared_key;
            peer.preshared_key = key;
        }
        if let Some(seconds) = change.keepalive {
            peer.keepalive = (seconds != 0).then_some(seconds);
            peer.last_traffic = None;
        }
        if let Some(control) = change.control {
            peer.control = control;
        }
        if let Some(endpoint) = change.endpoint
            && peer.configured_endpoint.replace(endpoint) != Some(endpoint)
        {
            peer.move_to(endpoint, edges.path_mtu(endpoint));
        }
        if fresh_keys {
            self.restart_sessions(id);
        }
        if change.replace_allowed_ips {
            self.peers.disallow_all(id);
        }
        for (net, allow) in change.allowed_ips {
            match allow {
                Allow::Add => self.peers.allow(net, id),
                Allow::Remove => self.peers.disallow(net, id),
            }
        }
        Ok(())
    }

    /// Removes a peer with its sessions; returns whether it was there.
    pub(crate) fn remove_peer(&mut self, key: &PublicKey) -> bool {
        self.peers.remove(key).is_some()
    }

    pub(crate) fn remove_all_peers(&mut self) {
        let keys: Vec<_> = self.peers.iter().map(|(_, peer)| peer.public_key).collect();
        for key in keys {
            self.peers.remove(&key);
        }
    }

    /// Becomes someone else: every session ends, and a peer that we now are ourselves is removed. `None`
    /// takes a throw-away key.
    pub(crate) fn set_private_key(&mut self, key: Option<StaticSecret>) {
        self.identity = Identity::new(key);
        self.peers.remove(&self.identity.public);
        for id in self.peers.ids() {
            self.restart_sessions(id);
        }
    }

    /// New keys mean new sessions: boringtun fixes a peer's keys when its state is made.
    fn restart_sessions(&mut self, id: PeerId) {
        let index = self.peers.free_index();
        let peer = self.peers.peer(id);
        peer.tunn = None;
        peer.established = false;
        peer.unconfirmed = None;
        self.peers.reindex(id, index);
    }
}

impl Identity {
    /// A peer's state machine, made now if there is none.
    pub(super) fn tunn<'a>(&self, peer: &'a mut Peer) -> &'a mut Tunn {
        peer.tunn.get_or_insert_with(|| {
            let preshared_key = peer.preshared_key.as_deref().copied();
            Box::new(Tunn::new(
                self.private.clone(),
                peer.public_key,
                preshared_key,
                None,
                peer.index,
                Some(Arc::clone(&self.limiter)),
            ))
        })
    }
}
