//! What policies tell addresses and pods apart by.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::identity::Vocabulary;
use crate::judge::Policies;
use crate::networks::Networks;

/// All that some policies ask for. Whatever is the same in it they judge alike; by more than they ask for they judge as
/// by all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distinctions {
    /// Labels and names.
    pub vocabulary: Vocabulary,
    /// Networks.
    pub networks: BTreeSet<IpNet>,
}

impl Distinctions {
    /// Those that these policies make.
    pub fn of(policies: &Policies) -> Self {
        Self {
            vocabulary: policies.vocabulary(),
            networks: Networks::of(policies).iter().collect(),
        }
    }

    /// These and those.
    pub fn and(mut self, others: &Self) -> Self {
        self.networks.extend(&others.networks);
        let names = self.vocabulary.names_mut();
        for (own, others) in names.into_iter().zip(others.vocabulary.names()) {
            own.extend(others.iter().cloned());
        }
        self
    }

    /// Whether all of those are among these.
    pub fn include(&self, others: &Self) -> bool {
        let mut names = self.vocabulary.names().into_iter().zip(others.vocabulary.names());
        self.networks.is_superset(&others.networks) && names.all(|(own, others)| own.is_superset(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_together_include_each_and_neither_the_other() {
        let of = |label: &str, network: &str| Distinctions {
            vocabulary: Vocabulary {
                labels: [label.to_owned()].into(),
                ..Vocabulary::default()
            },
            networks: [network.parse().unwrap()].into(),
        };
        let (one, other) = (of("app", "10.0.0.0/8"), of("tier", "10.0.0.0/8"));
        let both = one.clone().and(&other);
        assert!(both.include(&one) && both.include(&other));
        assert!(!one.include(&other) && !other.include(&both));
        let elsewhere = of("app", "192.0.2.0/24");
        assert!(!one.include(&elsewhere), "a network counts too");
        assert!(one.include(&Distinctions::default()));
    }
}
