//! The targets: one for each parser of bytes, with samples it accepts and what must hold for every input.
//!
//! A target fails by panicking. It returns a number for what it did, by which the runner tells inputs
//! apart.

mod certs;
mod cni;
mod coalesce;
mod cut;
mod keyd;
mod packet;
mod sample;
mod uapi;

/// One parser under test.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Inputs that are accepted.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the input's language, for inputs that are text.
    pub(crate) words: &'static [&'static str],
    /// Runs one input; the number stands for what happened.
    pub(crate) run: fn(&[u8]) -> u64,
}

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    packet::VNET,
    packet::PARSE,
    packet::ECN,
    packet::TOO_BIG,
    packet::DATAGRAM,
    cut::CUT,
    coalesce::COALESCE,
    uapi::UAPI,
    keyd::CONTROL_MESSAGE,
    keyd::KEY_FILE,
    keyd::MANIFEST,
    cni::CALL,
    cni::CONFLIST,
    certs::NODE_IDENTITY,
    certs::CERTIFICATE_REQUEST,
    certs::TRUST_BUNDLE,
    certs::BINDING,
];
