//! The flip of one pair of nodes, as a state machine without I/O: it is told the flag, the session,
//! the peer's messages and the time, and answers with actions.
//!
//! `Off` → `Ready` (handshake done) → `Sending` (the peer is at least Ready) → `Strict` (the peer is
//! at least Sending and knows that this node wants encryption); off runs backwards. Three rules keep
//! the promise that no node sends clear to a peer that refuses it:
//!
//! 1. A phase is told to the peer only when the kernel has it: while an [`Action::Apply`] is under way
//!    this node keeps silent, and [`Input::Applied`] ends that.
//! 2. Only the peer's latest word counts. Messages carry an epoch (one per start) and a number, so that
//!    late and doubled ones are seen; the first word of a new epoch counts only if it answers a
//!    number that this node has sent since the last word of the old one.
//! 3. Going up to Strict relies on the peer not turning back on an older "off" of ours, so it takes a
//!    message that answers a number sent since the flag was turned on. Going down to Ready takes
//!    the peer's own word that it wants off and no longer refuses clear.
//!
//! It never goes back because only the peer says so, and it never persists anything itself.

mod phase;

use std::time::{Duration, Instant};

use crate::control_message::ControlMessage;

pub use phase::{Phase, Want};

/// A message is repeated this often while the pair is on its way.
pub const REPEAT: Duration = Duration::from_secs(1);
/// A message is repeated this often once the pair has settled.
pub const SETTLED_REPEAT: Duration = Duration::from_secs(10);
/// Ready is kept this long on the way to Off, for ciphertext still under way.
pub const OFF_HOLD: Duration = Duration::from_secs(1);
/// A pair that wants off stops waiting for a peer whose keys have been gone for this long.
pub const ABSENT_HOLD: Duration = Duration::from_secs(30);
/// A request to apply a phase that has not been confirmed is repeated this often.
const REAPPLY: Duration = Duration::from_secs(1);

/// What a pair is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// What this node's flag says, and what happens to peers that cannot take part.
    Want(Want),
    /// Whether the peer publishes a tunnel, and keys in it.
    Peer(PeerKeys),
    /// A handshake of session 0 with the peer is done (again).
    Session,
    /// The session is gone: the lanes or the peer's keys changed.
    NoSession,
    /// The peer's control message, received inside the session.
    Message(ControlMessage),
    /// The kernel has this phase, and it is on disk: the answer to [`Action::Apply`].
    Applied(Phase),
    /// Time has passed; to be sent at [`Pair::deadline`] or each 100 ms or so.
    Tick,
}

/// What the peer's NodeTunnel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKeys {
    /// There is no NodeTunnel: as far as this node knows the peer cannot take part.
    NoTunnel,
    /// A NodeTunnel without a generation: the peer can take part, and its tunnel is down.
    Down,
    /// A generation with keys.
    Up,
}

/// What is to be done, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this phase into the kernel's map of peers and onto the disk, then answer
    /// [`Input::Applied`] with it. Repeated while there is no answer.
    Apply(Phase),
    /// Send this to the peer's control address through session 0; it may get lost.
    Send(ControlMessage),
    /// Open session 0 to the peer now.
    Connect,
}

/// One pair of nodes, seen from this node.
#[derive(Clone, Debug)]
pub struct Pair;

impl Pair {
    /// A pair in the phase that the memory has, or [`crate::compute::PairFacts::initial`]. `epoch` is random,
    /// another at every start of keyd. Its first action is to apply that phase.
    pub fn new(_phase: Phase, _epoch: u64, _now: Instant) -> Self {
        todo!()
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, _input: Input, _now: Instant) -> Vec<Action> {
        todo!()
    }

    /// When it needs a [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Instant {
        todo!()
    }

    /// The phase that the kernel has.
    pub fn phase(&self) -> Phase {
        todo!()
    }

    /// The peer's phase, as last told in this epoch of ours.
    pub fn peer_phase(&self) -> Option<Phase> {
        todo!()
    }
}
