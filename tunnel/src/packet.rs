//! IP packets as bytes: what a lane does to them between its TUN and its sealed datagrams.
//!
//! Out: [`parse`] → [`cut`] (TCP cut again, UDP split, IPv4 fragmented, checksums completed), or
//! [`too_big`] when the packet can only be refused; [`ecn`] gives the outer header's ECN bits.
//! In: [`ecn`] → [`coalesce`] (GRO) → one write with a [`vnet`] header.
//!
//! Nothing here does I/O, tells the time or allocates per packet. Every byte may come from an attacker:
//! a pod on the way out, a peer's pod on the way in.

pub mod checksum;
pub mod coalesce;
pub mod cut;
pub mod datagram;
pub mod ecn;
pub mod parse;
#[cfg(test)]
mod sample;
pub mod too_big;
pub mod vnet;

pub use coalesce::Coalescer;
pub use cut::{CutError, Cutter, Segment};
pub use parse::{Packet, ParseError};
pub use vnet::{Gso, VnetError, VnetHdr};
