//! What a binding states, and the bytes of it that are signed.
//!
//! The bytes begin with a context string, so that a signature for one purpose never serves another: TLS 1.3
//! signs what begins with 64 spaces (RFC 8446 §4.4.3), a certificate request what begins with a DER
//! sequence. Behind it every field stands in a fixed order, in big endian, texts and lists behind their
//! length, so that two statements never have the same bytes.

use std::net::IpAddr;

use crate::{NodeIdentity, Validity};

/// The purpose and the version of what is signed. Another layout gets another number.
const CONTEXT: &[u8] = b"hauberk.dev node binding 1\0";

/// A lane as its peers reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The lane's WireGuard public key.
    pub public_key: [u8; 32],
    /// The lane's UDP port.
    pub port: u16,
}

/// One generation of a node, as the node states it and as its peers expect it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The cluster: the UID of its namespace kube-system.
    pub cluster: String,
    /// Whose generation it is.
    pub node: NodeIdentity,
    /// The generation's number.
    pub generation: u64,
    /// The generation's lanes, in order.
    pub lanes: Vec<Lane>,
    /// The addresses at which the lanes receive, in order.
    pub addresses: Vec<IpAddr>,
}

impl Statement {
    /// What is signed.
    pub(crate) fn bytes(&self, validity: &Validity) -> Vec<u8> {
        let mut bytes = CONTEXT.to_vec();
        text(&mut bytes, &self.cluster);
        text(&mut bytes, self.node.trust_domain().as_str());
        text(&mut bytes, self.node.name());
        text(&mut bytes, self.node.uid());
        number(&mut bytes, self.generation);
        number(&mut bytes, validity.not_before().as_secs());
        number(&mut bytes, validity.not_after().as_secs());
        number(&mut bytes, self.lanes.len() as u64);
        for lane in &self.lanes {
            bytes.extend(lane.public_key);
            bytes.extend(lane.port.to_be_bytes());
        }
        number(&mut bytes, self.addresses.len() as u64);
        for address in &self.addresses {
            // The family first: an IPv4 address and the same one mapped into IPv6 are two texts in the
            // object, and so two statements.
            match address {
                IpAddr::V4(address) => {
                    bytes.push(4);
                    bytes.extend(address.octets());
                }
                IpAddr::V6(address) => {
                    bytes.push(6);
                    bytes.extend(address.octets());
                }
            }
        }
        bytes
    }
}

fn number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(number.to_be_bytes());
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{node_a, seconds, statement};

    /// A reader of what `bytes` writes: that there is one shows that no two statements share their bytes.
    fn read(mut bytes: &[u8]) -> Option<(Statement, Validity)> {
        fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
            let (taken, rest) = bytes.split_at_checked(count)?;
            *bytes = rest;
            Some(taken)
        }
        fn number(bytes: &mut &[u8]) -> Option<u64> {
            Some(u64::from_be_bytes(take(bytes, 8)?.try_into().ok()?))
        }
        fn text(bytes: &mut &[u8]) -> Option<String> {
            let length = number(bytes)? as usize;
            String::from_utf8(take(bytes, length)?.to_vec()).ok()
        }
        let bytes = &mut bytes;
        (take(bytes, CONTEXT.len())? == CONTEXT).then_some(())?;
        let cluster = text(bytes)?;
        let node = NodeIdentity::new(text(bytes)?.parse().ok()?, &text(bytes)?, &text(bytes)?).ok()?;
        let generation = number(bytes)?;
        let validity = Validity::new(seconds(number(bytes)?), seconds(number(bytes)?))?;
        let lanes = (0..number(bytes)?).map(|_| {
            Some(Lane {
                public_key: take(bytes, 32)?.try_into().ok()?,
                port: u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?),
            })
        });
        let lanes = lanes.collect::<Option<_>>()?;
        let addresses = (0..number(bytes)?).map(|_| {
            Some(match take(bytes, 1)? {
                [4] => IpAddr::from(<[u8; 4]>::try_from(take(bytes, 4)?).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(take(bytes, 16)?).ok()?),
            })
        });
        let addresses = addresses.collect::<Option<_>>()?;
        bytes.is_empty().then_some(())?;
        let statement = Statement {
            cluster,
            node,
            generation,
            lanes,
            addresses,
        };
        Some((statement, validity))
    }

    #[test]
    fn a_mapped_address_is_another_statement() {
        let mut other = statement(&node_a());
        let validity = Validity::new(seconds(1), seconds(2)).unwrap();
        let before = other.bytes(&validity);
        let IpAddr::V4(v4) = other.addresses[0] else {
            panic!("the first address is IPv4");
        };
        other.addresses[0] = v4.to_ipv6_mapped().into();
        assert_ne!(other.bytes(&validity), before);
    }

    proptest! {
        #[test]
        fn every_statement_can_be_read_back_from_its_bytes(
            cluster in ".{0,40}",
            generation: u64,
            lanes in proptest::collection::vec((any::<[u8; 32]>(), any::<u16>()), 0..5),
            addresses in proptest::collection::vec(any::<IpAddr>(), 0..4),
            from: u64,
            to: u64,
        ) {
            let lanes = lanes.into_iter().map(|(public_key, port)| Lane { public_key, port }).collect();
            let statement = Statement { cluster, node: node_a(), generation, lanes, addresses };
            let validity = Validity::new(seconds(from.min(to)), seconds(from.max(to))).unwrap();
            prop_assert_eq!(read(&statement.bytes(&validity)), Some((statement, validity)));
        }
    }
}
