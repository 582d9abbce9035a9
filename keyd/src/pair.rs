//! The flip of one pair of nodes, as a state machine without I/O: it is told the flag, the session,
//! the peer's messages and the time, and answers with actions.
//!
//! `Off` → `Ready` (handshake done) → `Sending` (the peer is at least Ready) → `Strict` (the peer is
//! at least Sending); off runs backwards. Three rules keep the promise that no node sends clear to a peer
//! that refuses it, nor ciphertext to one that cannot open it:
//!
//! 1. A phase is told to the peer only when the kernel has it: while an [`Action::Apply`] is under way
//!    this node keeps silent, and [`Input::Applied`] ends that.
//! 2. Only the peer's latest word counts. Messages carry an epoch (one per start) and a number, so that
//!    late and doubled ones are seen; the first word of a new epoch counts only if it answers a
//!    number that this node has sent since the last word of the old one.
//! 3. Going up relies on the peer not turning back on an older "off" of ours, so it takes a message that
//!    answers a number sent since the flag was turned on. Going down takes the peer's own word that
//!    it wants off as well.
//!
//! A peer without a NodeTunnel cannot take part: with `unreachableNodes: Drop` the pair is Strict at once,
//! and so it stays when the peer appears. The pair never goes back because only the peer says so, and it
//! persists nothing itself.

mod exchange;
mod phase;
#[cfg(test)]
mod simulation;

use std::time::{Duration, Instant};

use hauberk_api::UnreachableNodes;

use crate::control_message::ControlMessage;
use exchange::{Exchange, Received};

pub use phase::{Phase, Want};

/// A message is repeated this often while the pair is on its way.
pub const REPEAT: Duration = Duration::from_secs(1);
/// A message is repeated this often once the pair has settled.
pub const SETTLED_REPEAT: Duration = Duration::from_secs(10);
/// A handshake is begun this often with a peer that has left so many unanswered: it is likely down, and begins one
/// itself once it is up again. A second is added by the pair, lest all that went down together be tried together.
const PATIENT_CONNECT: Duration = Duration::from_secs(5);
const EAGER_CONNECTS: u32 = 10;
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
pub struct Pair {
    phase: Phase,
    /// The phase that the kernel was asked to have, and when.
    applying: Option<(Phase, Option<Instant>)>,
    want: Option<Want>,
    keys: Option<PeerKeys>,
    /// Since when the peer has had no NodeTunnel, or one without keys.
    keyless_since: Option<Instant>,
    session: bool,
    exchange: Exchange,
    /// Since when everything allows to go from Ready to Off.
    off_since: Option<Instant>,
    /// A message is due: now, and whether it asks for an answer.
    due: Option<Asks>,
    next_repeat: Instant,
    next_connect: Instant,
    /// Handshakes begun since a session was there, or the peer's keys changed.
    connects: u32,
    spread: Duration,
    now: Instant,
}

/// Whether a message asks for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    No,
    Yes,
}

impl Pair {
    /// A pair in the phase that the memory has, or [`crate::compute::PairFacts::initial`]. `epoch` is random,
    /// another of each pair and at every start of keyd. Its first action is to apply that phase.
    pub fn new(phase: Phase, epoch: u64, now: Instant) -> Self {
        Self {
            phase,
            applying: Some((phase, None)),
            want: None,
            keys: None,
            keyless_since: None,
            session: false,
            exchange: Exchange::new(epoch),
            off_since: None,
            due: None,
            next_repeat: now,
            next_connect: now,
            connects: 0,
            spread: Duration::from_millis(epoch % 1000),
            now,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        self.now = now;
        self.take(input);
        let mut actions = Vec::new();
        if self.applying.is_none()
            && let Some(next) = self.next_phase()
        {
            self.applying = Some((next, None));
        }
        if let Some((phase, asked)) = &mut self.applying {
            if asked.is_none_or(|asked| now.saturating_duration_since(asked) >= REAPPLY) {
                *asked = Some(now);
                actions.push(Action::Apply(*phase));
            }
        } else if self.session {
            actions.extend(self.message().map(Action::Send));
        }
        if self.wants_session() && now >= self.next_connect {
            self.next_connect = now
                + if self.connects < EAGER_CONNECTS {
                    REPEAT
                } else {
                    PATIENT_CONNECT + self.spread
                };
            self.connects = self.connects.saturating_add(1);
            actions.push(Action::Connect);
        }
        actions
    }

    /// When it needs a [`Input::Tick`] at the latest; always later than the last step.
    pub fn deadline(&self) -> Instant {
        let applying = self
            .applying
            .and_then(|(_, asked)| asked)
            .map(|asked| asked + REAPPLY);
        let speaks = applying.is_none() && self.session && !self.is_silent();
        let waits_for_absent = self.want == Some(Want::Off) && self.phase > Phase::Off;
        let times = [
            applying,
            speaks.then_some(self.next_repeat),
            self.wants_session().then_some(self.next_connect),
            self.off_since.map(|since| since + OFF_HOLD),
            self.keyless_since
                .filter(|_| waits_for_absent)
                .map(|since| since + ABSENT_HOLD),
        ];
        // A time that has passed has had its effect, or waits for something else.
        let next = times.into_iter().flatten().filter(|time| *time > self.now).min();
        next.unwrap_or(self.now + SETTLED_REPEAT)
    }

    /// The phase that the kernel has.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The peer's phase by its latest word, if it has been heard since this keyd started.
    pub fn peer_phase(&self) -> Option<Phase> {
        self.exchange.word().map(|word| word.phase)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Want(want) => {
                let was = self.want.replace(want);
                if was.is_none_or(|was| was.is_on() != want.is_on()) {
                    if want.is_on() {
                        self.exchange.turned_on();
                    }
                    self.say(Asks::Yes);
                }
            }
            Input::Peer(keys) => {
                self.keys = Some(keys);
                self.connects = 0;
                self.keyless_since = match keys {
                    PeerKeys::Up => None,
                    PeerKeys::Down | PeerKeys::NoTunnel => self.keyless_since.or(Some(self.now)),
                };
            }
            Input::Session => {
                self.session = true;
                self.connects = 0;
                self.say(Asks::Yes);
            }
            Input::NoSession => {
                self.session = false;
                self.connects = 0;
                self.next_connect = self.now;
            }
            Input::Message(message) => match self.exchange.receive(&message, self.now) {
                Received::Taken if message.asks => self.say(Asks::No),
                Received::Unproved { answer: true } => self.say(Asks::Yes),
                Received::Taken | Received::Stale | Received::Unproved { answer: false } => {}
            },
            Input::Applied(phase) => {
                if self.applying.is_some_and(|(asked, _)| asked == phase) {
                    self.applying = None;
                    self.phase = phase;
                    self.say(Asks::Yes);
                }
            }
            Input::Tick => {}
        }
        self.off_since = if self.may_switch_off() {
            self.off_since.or(Some(self.now))
        } else {
            None
        };
    }

    /// The next phase, if everything is there for it.
    fn next_phase(&self) -> Option<Phase> {
        match (self.want?, self.phase) {
            (Want::On(UnreachableNodes::Drop), phase) if self.keys == Some(PeerKeys::NoTunnel) => {
                (phase != Phase::Strict).then_some(Phase::Strict)
            }
            (Want::On(_), Phase::Off) => self.session.then_some(Phase::Ready),
            (Want::On(_), Phase::Ready) => {
                (self.session && self.peer_knowing_on() >= Some(Phase::Ready)).then_some(Phase::Sending)
            }
            (Want::On(_), Phase::Sending) => {
                (self.peer_knowing_on() >= Some(Phase::Sending)).then_some(Phase::Strict)
            }
            (Want::On(_), Phase::Strict) => None,
            (Want::Off, Phase::Strict) => Some(Phase::Sending),
            (Want::Off, Phase::Sending) => {
                let agreed = self
                    .exchange
                    .word()
                    .is_some_and(|word| !word.wants_on && word.phase <= Phase::Sending);
                (agreed || self.keyless_for(ABSENT_HOLD)).then_some(Phase::Ready)
            }
            (Want::Off, Phase::Ready) => {
                let held = self.off_since.is_some_and(|since| self.since(since) >= OFF_HOLD);
                (held || self.keyless_for(ABSENT_HOLD)).then_some(Phase::Off)
            }
            (Want::Off, Phase::Off) => None,
        }
    }

    /// Whether the peer sends no ciphertext any more, nor will without having heard from us again.
    fn may_switch_off(&self) -> bool {
        if self.phase != Phase::Ready || self.want != Some(Want::Off) {
            return false;
        }
        match self.exchange.word() {
            Some(word) if word.wants_on => false,
            Some(word) if word.phase <= Phase::Ready => true,
            // A node takes its keys back when all its pairs are off.
            _ => self.keys == Some(PeerKeys::Down),
        }
    }

    fn peer_knowing_on(&self) -> Option<Phase> {
        self.exchange.word_knowing_on().map(|word| word.phase)
    }

    fn keyless_for(&self, time: Duration) -> bool {
        self.keyless_since.is_some_and(|since| self.since(since) >= time)
    }

    fn since(&self, earlier: Instant) -> Duration {
        self.now.saturating_duration_since(earlier)
    }

    fn wants_session(&self) -> bool {
        let needed = self.want.is_some_and(Want::is_on) || self.phase > Phase::Off;
        needed && !self.session && self.keys == Some(PeerKeys::Up)
    }

    fn say(&mut self, asks: Asks) {
        self.due = self.due.max(Some(asks));
    }

    /// Nothing to say unless asked.
    fn is_silent(&self) -> bool {
        self.want.is_none() || (self.want == Some(Want::Off) && self.phase == Phase::Off)
    }

    /// Both sides are where the flag wants them.
    fn is_settled(&self) -> bool {
        self.phase == Phase::Strict
            && self.want.is_some_and(Want::is_on)
            && self
                .exchange
                .word()
                .is_some_and(|word| word.wants_on && word.phase == Phase::Strict)
    }

    /// The message that is due now, if any.
    fn message(&mut self) -> Option<ControlMessage> {
        let want = self.want?;
        if self.due.is_none() && !self.is_silent() && self.now >= self.next_repeat {
            self.due = Some(Asks::Yes);
        }
        let asks = self.due.take()?;
        self.next_repeat = self.now + if self.is_settled() { SETTLED_REPEAT } else { REPEAT };
        Some(self.exchange.send(self.phase, want.is_on(), asks == Asks::Yes))
    }
}
