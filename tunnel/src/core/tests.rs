//! Two lanes over channels, without devices: what the core does, packet by packet.

mod attack;
mod packets;
mod path;
mod session;
mod soak;
mod two;
