//! The defaults of the kinds, in one place, with their reasons.

/// First UDP port of the lanes: outside the NodePort range (30000–32767) and the ephemeral range
/// (32768–60999), which WireGuard's customary 51820 is not.
pub(crate) const LISTEN_PORT: u16 = 23400;
/// Most lanes a node takes when the Mesh doesn't say.
pub(crate) const MAX_DEFAULT_LANES: usize = 4;
/// Most lanes a Mesh may ask for: two generations of a node fit the kernel's 32 slots.
pub(crate) const MAX_LANES: usize = 16;
/// Least first port of the lanes: below are ports that only root's services have.
pub(crate) const MIN_LISTEN_PORT: u16 = 1024;
/// Highest first port of the lanes.
pub(crate) const MAX_LISTEN_PORT: u16 = 65500;

// Both ranges of the most lanes end within UDP's ports.
const _: () = assert!(MAX_LISTEN_PORT as usize + 2 * MAX_LANES - 1 <= u16::MAX as usize);
