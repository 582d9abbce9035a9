//! Drives the pairs' state machines: tells each what changed, and collects what they want done.

use std::collections::BTreeMap;
use std::time::Instant;

use hauberk_api::PublicKey;

use crate::compute::{DesiredState, LaneId, PairFacts};
use crate::memory::Memory;
use crate::pair::{Action, Input, Pair, PeerKeys, Phase, Want};

/// The pairs of this node, by the other node's name.
pub struct Pairs {
    driven: BTreeMap<String, Driven>,
    epoch: u64,
}

struct Driven {
    pair: Pair,
    want: Option<Want>,
    keys: Option<PeerKeys>,
    session: Option<(LaneId, PublicKey)>,
}

/// Actions with the node that they concern.
pub type Actions = Vec<(String, Action)>;

impl Pairs {
    /// None yet. `epoch` is random, another at every start; each pair has another one from there on, also one that is
    /// known again.
    pub fn new(epoch: u64) -> Self {
        Self {
            driven: BTreeMap::new(),
            epoch,
        }
    }

    /// Takes in the desired state: pairs that came and went, the flag, the peers' keys and sessions.
    pub fn learn(&mut self, desired: &DesiredState, memory: &Memory, now: Instant) -> Actions {
        self.driven.retain(|name, _| desired.pairs.contains_key(name));
        let mut actions = Actions::new();
        for (name, facts) in &desired.pairs {
            let driven = self.driven.entry(name.clone()).or_insert_with(|| {
                let phase = memory.phases.get(name).copied().unwrap_or(facts.initial);
                self.epoch = self.epoch.wrapping_add(1);
                Driven {
                    pair: Pair::new(phase, self.epoch, now),
                    want: None,
                    keys: None,
                    session: None,
                }
            });
            let inputs = driven.news(desired.want, facts);
            let wanted = inputs.into_iter().flat_map(|input| driven.pair.step(input, now));
            actions.extend(wanted.map(|action| (name.clone(), action)));
        }
        actions
    }

    /// Tells one pair something; a pair that is not known (any more) wants nothing.
    pub fn tell(&mut self, name: &str, input: Input, now: Instant) -> Actions {
        let Some(driven) = self.driven.get_mut(name) else {
            return Actions::new();
        };
        driven
            .pair
            .step(input, now)
            .into_iter()
            .map(|action| (name.to_owned(), action))
            .collect()
    }

    /// Tells the pairs whose time has come.
    pub fn tick(&mut self, now: Instant) -> Actions {
        let due: Vec<String> = self
            .driven
            .iter()
            .filter(|(_, driven)| driven.pair.deadline() <= now)
            .map(|(name, _)| name.clone())
            .collect();
        due.iter()
            .flat_map(|name| self.tell(name, Input::Tick, now))
            .collect()
    }

    /// When [`Pairs::tick`] is needed next.
    pub fn deadline(&self) -> Option<Instant> {
        self.driven.values().map(|driven| driven.pair.deadline()).min()
    }

    /// The phase that the kernel has, of each pair.
    pub fn phases(&self) -> impl Iterator<Item = (&str, Phase)> {
        self.driven
            .iter()
            .map(|(name, driven)| (name.as_str(), driven.pair.phase()))
    }

    /// Session 0 with a node: the lane and the peer's key.
    pub fn session(&self, name: &str) -> Option<(LaneId, PublicKey)> {
        self.driven.get(name)?.session
    }
}

impl Driven {
    fn news(&mut self, want: Want, facts: &PairFacts) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.session != facts.session {
            if self.session.is_some() {
                inputs.push(Input::NoSession);
            }
            self.session = facts.session;
        }
        if self.keys != Some(facts.keys) {
            self.keys = Some(facts.keys);
            inputs.push(Input::Peer(facts.keys));
        }
        if self.want != Some(want) {
            self.want = Some(want);
            inputs.push(Input::Want(want));
        }
        inputs
    }
}
