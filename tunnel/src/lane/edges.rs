//! The kernel's side of a lane: its TUN, its socket and its owner's ear.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{LaneEvent, LaneEventKind};
use crate::core::Edges;
use crate::packet::VnetHdr;
use crate::socket::{Batch, PathProbe, SendError, Socket};
use crate::tun::Tun;

/// Where a lane's packets, datagrams and events go.
pub(super) struct KernelEdges {
    pub(super) tun: Tun,
    pub(super) socket: Socket,
    pub(super) probe: PathProbe,
    pub(super) name: Arc<str>,
    pub(super) events: Box<dyn FnMut(LaneEvent) + Send>,
}

impl Edges for KernelEdges {
    #[inline]
    fn send(&mut self, batch: &Batch) -> Result<(), SendError> {
        self.socket.send(batch)
    }

    #[inline]
    fn deliver(&mut self, header: &VnetHdr, packet: &[u8]) -> io::Result<()> {
        self.tun
            .write(&[IoSlice::new(&header.encode()), IoSlice::new(packet)])
    }

    fn path_mtu(&mut self, to: SocketAddr) -> Option<u16> {
        self.probe.mtu(to)
    }

    fn event(&mut self, kind: LaneEventKind) {
        (self.events)(LaneEvent {
            lane: Arc::clone(&self.name),
            kind,
        });
    }
}
