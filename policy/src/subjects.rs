//! Which policies are about a pod, without asking each of them.

use std::collections::HashMap;

use crate::identity::Identity;
use crate::peer::Namespaces;
use crate::policy::Policy;

/// Policies by what their subjects have to have.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    /// By namespace, where one is named, and one label that a pod has to have with one of some values.
    labelled: HashMap<(Option<String>, String, String), Vec<usize>>,
    /// By namespace alone: their selectors ask for no label's value.
    others: HashMap<Option<String>, Vec<usize>>,
}

impl Subjects {
    /// Of these policies, which answers name by their places.
    pub(crate) fn new(policies: &[&Policy]) -> Self {
        let mut subjects = Self::default();
        for (number, policy) in policies.iter().enumerate() {
            let namespace = match &policy.subject.namespaces {
                Namespaces::Named(name) => Some(name.clone()),
                Namespaces::Matching(_) => None,
            };
            match policy.subject.pods.wanted() {
                None => subjects.others.entry(namespace).or_default().push(number),
                Some((key, values)) => {
                    for value in values {
                        let place = (namespace.clone(), key.to_owned(), value.clone());
                        subjects.labelled.entry(place).or_default().push(number);
                    }
                }
            }
        }
        subjects
    }

    /// The places of those that may be about the pod, in order; all that are, are among them.
    pub(crate) fn candidates(&self, pod: &Identity) -> Vec<usize> {
        let mut found = Vec::new();
        for namespace in [Some(pod.namespace.clone()), None] {
            for (key, value) in &pod.labels {
                let place = (namespace.clone(), key.clone(), value.clone());
                found.extend(self.labelled.get(&place).into_iter().flatten());
            }
            found.extend(self.others.get(&namespace).into_iter().flatten());
        }
        found.sort_unstable();
        found
    }
}
