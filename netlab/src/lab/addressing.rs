//! Which names and numbers a lab can have.

use std::collections::BTreeSet;

use crate::{LabError, LabSpec, Node};

/// A node's number is written in decimal in a segment of an IPv6 address and in an octet of an IPv4 one; a
/// few dozen namespaces is also what a test can want.
const MOST_NODES: usize = 60;
/// Pods' host-side interfaces are `v-NAME`, and IFNAMSIZ is 16 with the final zero.
const LONGEST_NAME: usize = 13;
/// The first address of a prefix is the gateway of bridged pods.
const FIRST_POD: u8 = 2;

pub(super) fn check(spec: &LabSpec) -> Result<(), LabError> {
    if spec.nodes.is_empty() || spec.nodes.len() > MOST_NODES {
        return Err(LabError::Spec(format!("a lab has 1 to {MOST_NODES} nodes")));
    }
    check_name(&spec.name_hint)?;
    let mut nodes = BTreeSet::new();
    let mut pods = BTreeSet::new();
    for node in &spec.nodes {
        check_name(&node.name)?;
        if !nodes.insert(&node.name) || node.name == "fabric" {
            return Err(LabError::Spec(format!("the node's name {} is taken", node.name)));
        }
        for pod in &node.pods {
            check_name(pod)?;
            if !pods.insert(pod) {
                return Err(LabError::Spec(format!("two pods are named {pod}")));
            }
        }
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), LabError> {
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    if fits
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Ok(());
    }
    Err(LabError::Spec(format!(
        "'{name}' is no name: 1 to {LONGEST_NAME} lower-case letters, digits and hyphens"
    )))
}

/// The last part of the addresses of the node's next pod.
pub(super) fn free_pod_number(node: &Node) -> Result<u8, LabError> {
    (FIRST_POD..u8::MAX)
        .find(|number| node.pods().iter().all(|pod| pod.v4().octets()[3] != *number))
        .ok_or_else(|| LabError::Spec(format!("node {} has no address left for a pod", node.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeSpec, Wiring};

    #[test]
    fn names_that_would_not_fit_an_interface_are_refused() {
        assert!(check_name("a1").is_ok());
        assert!(check_name("").is_err());
        assert!(check_name("a-pod-of-14-ch").is_err());
        assert!(check_name("A").is_err());
    }

    #[test]
    fn pods_of_two_nodes_cannot_share_a_name() {
        let node = |name| NodeSpec::new(name, Wiring::Routed, &["p"]);
        assert!(check(&LabSpec::new("t", vec![node("a"), node("b")])).is_err());
        assert!(check(&LabSpec::new("t", vec![node("a")])).is_ok());
    }
}
