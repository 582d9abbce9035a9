//! Whose word counts: puts the peer's messages in order and knows what the peer has seen of ours.
//!
//! Within one epoch of the peer a message counts if its number is higher than the last. The first of
//! another epoch counts only if it answers a number that this node has sent since the last word it
//! took, which no message of a forgotten epoch can. A message that is not proved so makes the last word
//! void: once we answer it, the peer must be able to rely on our not acting on an older one.

use std::time::{Duration, Instant};

use super::phase::Phase;
use crate::control_message::ControlMessage;

/// Answers to messages that prove nothing are not sent more often than this, so that two nodes cannot
/// keep each other busy.
const UNPROVED_ANSWER: Duration = Duration::from_millis(50);

/// The order of messages between two nodes.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    epoch: u64,
    /// Number of the last message sent.
    sent: u64,
    /// The first number sent since the flag was last turned on; no message sent before says so.
    on_since: u64,
    /// `sent` when the last word was taken.
    fence: u64,
    word: Option<Word>,
    seen: (u64, u64),
    answered_unproved: Option<Instant>,
}

/// The peer's latest word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    epoch: u64,
    number: u64,
    /// The latest of our numbers that the peer had seen when it said this.
    answers: u64,
    pub phase: Phase,
    pub wants_on: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is the peer's latest word.
    Taken,
    /// Late or doubled; nothing changed.
    Stale,
    /// Nothing proves that it is not from the past. Whether to answer, which lets the peer prove it.
    Unproved { answer: bool },
}

impl Exchange {
    pub(super) fn new(epoch: u64) -> Self {
        // Epoch 0 means "none" on the wire.
        let epoch = epoch.max(1);
        Self {
            epoch,
            sent: 0,
            on_since: 1,
            fence: 0,
            word: None,
            seen: (0, 0),
            answered_unproved: None,
        }
    }

    /// What is sent from now on says that the flag is on; an answer to anything before does not count.
    pub(super) fn turned_on(&mut self) {
        self.on_since = self.sent + 1;
    }

    /// The peer's latest word.
    pub(super) fn word(&self) -> Option<Word> {
        self.word
    }

    /// The peer's latest word, if it has been said in the knowledge that our flag is on.
    pub(super) fn word_knowing_on(&self) -> Option<Word> {
        self.word.filter(|word| word.answers >= self.on_since)
    }

    pub(super) fn receive(&mut self, message: &ControlMessage, now: Instant) -> Received {
        if let Some(word) = self.word
            && word.epoch == message.epoch
        {
            if message.number <= word.number {
                return Received::Stale;
            }
        } else if message.seen_epoch != self.epoch || message.seen_number <= self.fence {
            self.word = None;
            self.seen = (message.epoch, message.number);
            let answer = self
                .answered_unproved
                .is_none_or(|last| now - last >= UNPROVED_ANSWER);
            if answer {
                self.answered_unproved = Some(now);
            }
            return Received::Unproved { answer };
        }
        self.fence = self.sent;
        self.seen = (message.epoch, message.number);
        self.word = Some(Word {
            epoch: message.epoch,
            number: message.number,
            answers: if message.seen_epoch == self.epoch {
                message.seen_number
            } else {
                0
            },
            phase: message.phase,
            wants_on: message.wants_on,
        });
        Received::Taken
    }

    pub(super) fn send(&mut self, phase: Phase, wants_on: bool, asks: bool) -> ControlMessage {
        self.sent += 1;
        ControlMessage {
            epoch: self.epoch,
            number: self.sent,
            seen_epoch: self.seen.0,
            seen_number: self.seen.1,
            phase,
            wants_on,
            asks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fresh_nodes_take_each_others_word_after_one_round() {
        let now = Instant::now();
        let (mut a, mut b) = (Exchange::new(10), Exchange::new(20));
        let first = a.send(Phase::Off, true, true);
        assert_eq!(b.receive(&first, now), Received::Unproved { answer: true });
        let second = b.send(Phase::Ready, true, true);
        assert_eq!(a.receive(&second, now), Received::Taken);
        let third = a.send(Phase::Off, true, false);
        assert_eq!(b.receive(&third, now), Received::Taken);
        assert_eq!(a.word().unwrap().phase, Phase::Ready);
    }

    #[test]
    fn a_late_message_of_a_forgotten_epoch_is_never_taken() {
        let now = Instant::now();
        let (mut a, mut before, mut after) = (Exchange::new(10), Exchange::new(20), Exchange::new(21));
        let hello = a.send(Phase::Ready, true, true);
        before.receive(&hello, now);
        let late = before.send(Phase::Sending, false, true);
        after.receive(&a.send(Phase::Ready, true, true), now);
        assert_eq!(
            a.receive(&after.send(Phase::Strict, true, true), now),
            Received::Taken
        );
        assert!(matches!(a.receive(&late, now), Received::Unproved { .. }));
        assert_eq!(a.word(), None);
    }

    #[test]
    fn a_doubled_message_changes_nothing() {
        let now = Instant::now();
        let (mut a, mut b) = (Exchange::new(10), Exchange::new(20));
        b.receive(&a.send(Phase::Off, true, true), now);
        let message = b.send(Phase::Ready, true, true);
        assert_eq!(a.receive(&message, now), Received::Taken);
        assert_eq!(a.receive(&message, now), Received::Stale);
        assert!(a.word().is_some());
    }

    #[test]
    fn an_answer_to_what_was_said_before_the_flag_does_not_count() {
        let now = Instant::now();
        let (mut a, mut b) = (Exchange::new(10), Exchange::new(20));
        b.receive(&a.send(Phase::Ready, false, true), now);
        a.turned_on();
        a.receive(&b.send(Phase::Sending, true, true), now);
        assert!(a.word().is_some());
        assert_eq!(a.word_knowing_on(), None);
        b.receive(&a.send(Phase::Ready, true, true), now);
        a.receive(&b.send(Phase::Sending, true, true), now);
        assert!(a.word_knowing_on().is_some());
    }
}
