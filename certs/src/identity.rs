//! A node's identity and its one written form, `spiffe://TRUST-DOMAIN/node/NAME/UID`.
//!
//! Parsed strictly: what is not exactly the form that is written here is no identity. So two texts that
//! differ are two identities, and comparing them needs no normalising.

use std::{fmt, str::FromStr};

/// Longest trust domain (SPIFFE-ID §2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// Longest node name: a DNS subdomain (RFC 1123, as Kubernetes checks it).
const MAX_NAME: usize = 253;
/// Longest UID. Kubernetes's are UUIDs of 36 characters, but promised only to be opaque.
const MAX_UID: usize = 64;

const SCHEME: &str = "spiffe://";
const KIND: &str = "node";

/// A SPIFFE trust domain, such as `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

/// A node as certificates name it. The UID tells it from a later node of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIdentity {
    trust_domain: TrustDomain,
    name: String,
    uid: String,
}

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a trust domain.
    #[error("`{0}` is no trust domain: 1 to 255 of a-z, 0-9, dot, dash and underscore")]
    TrustDomain(String),
    /// Not a node name.
    #[error(
        "`{0}` is no node name: a DNS subdomain of at most 253 characters, as `kubectl get nodes` shows it"
    )]
    Name(String),
    /// Not a UID.
    #[error("`{0}` is no node UID: 1 to 64 of a-z, A-Z, 0-9, dot, dash and underscore, as in metadata.uid")]
    Uid(String),
    /// Not the form of a node's SPIFFE ID.
    #[error("`{0}` does not have the form spiffe://TRUST-DOMAIN/node/NAME/UID")]
    Form(String),
}

impl TrustDomain {
    /// As text, without the scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own SPIFFE ID, which its CA carries: `spiffe://TRUST-DOMAIN`.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    /// SPIFFE-ID §2.1.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > MAX_TRUST_DOMAIN || !text.bytes().all(allowed) {
            return Err(IdentityError::TrustDomain(shown(text)));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NodeIdentity {
    /// The identity of the node with this name and UID.
    ///
    /// # Errors
    /// The name or the UID is not one that Kubernetes gives.
    pub fn new(trust_domain: TrustDomain, name: &str, uid: &str) -> Result<Self, IdentityError> {
        if !is_dns_subdomain(name) {
            return Err(IdentityError::Name(shown(name)));
        }
        if !is_path_segment(uid) || uid.len() > MAX_UID {
            return Err(IdentityError::Uid(shown(uid)));
        }
        Ok(Self {
            trust_domain,
            name: name.into(),
            uid: uid.into(),
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Node's `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl FromStr for NodeIdentity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || IdentityError::Form(shown(text));
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(form)?.split('/');
        let (Some(trust_domain), Some(KIND), Some(name), Some(uid), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(form());
        };
        Self::new(trust_domain.parse()?, name, uid)
    }
}

impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            name,
            uid,
        } = self;
        write!(f, "{SCHEME}{trust_domain}/{KIND}/{name}/{uid}")
    }
}

/// SPIFFE-ID §2.2: no empty, relative or percent-encoded segment.
fn is_path_segment(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !matches!(text, "" | "." | "..") && text.bytes().all(allowed)
}

/// RFC 1123 subdomain, as Kubernetes requires of a Node's name.
fn is_dns_subdomain(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|&b| alphanumeric(b) || b == b'-')
            && bytes.first().is_some_and(|&b| alphanumeric(b))
            && bytes.last().is_some_and(|&b| alphanumeric(b))
    };
    text.len() <= MAX_NAME && text.split('.').all(label)
}

/// What an error repeats of a text that others wrote: bounded, and nothing that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().take(MAX_NAME).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0f0cdd2f-8c8f-4d4e-9f5c-2a1f9d3f7b11";

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let node = NodeIdentity::new(domain, "worker-1.example.com", UID).unwrap();
        let text = node.to_string();
        assert_eq!(
            text,
            format!("spiffe://cluster.local/node/worker-1.example.com/{UID}")
        );
        assert_eq!(text.parse(), Ok(node));
    }

    #[test]
    fn only_the_exact_form_is_an_identity() {
        for text in [
            "",
            "spiffe://",
            "spiffe://d/node/a",
            "spiffe://d/node/a/u/",
            "spiffe://d/node/a/u/v",
            "spiffe://d/node//u",
            "spiffe://d/node/a/",
            "spiffe:///node/a/u",
            "spiffe://d//node/a/u",
            "spiffe://d/nodes/a/u",
            "spiffe://d/ns/a/sa/b",
            "SPIFFE://d/node/a/u",
            "https://d/node/a/u",
            " spiffe://d/node/a/u",
            "spiffe://d/node/a/u ",
            "spiffe://d/node/a/u?x=1",
            "spiffe://d/node/a/u#x",
            "spiffe://d:8443/node/a/u",
            "spiffe://user@d/node/a/u",
            "spiffe://D/node/a/u",
            "spiffe://d/node/A/u",
            "spiffe://d/node/%61/u",
            "spiffe://d/node/a/%75",
            "spiffe://d/node/./u",
            "spiffe://d/node/a/..",
            "spiffe://d/node/-a/u",
            "spiffe://d/node/a./u",
            "spiffe://d/node/a\0/u",
            "spiffe://d/node/ä/u",
        ] {
            assert!(text.parse::<NodeIdentity>().is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let domain = |n| "d".repeat(n).parse::<TrustDomain>();
        assert!(domain(255).is_ok() && domain(256).is_err());
        let node = |name, uid| NodeIdentity::new(domain(1).unwrap(), &"n".repeat(name), &"u".repeat(uid));
        assert!(node(253, 64).is_ok());
        assert!(matches!(node(254, 64), Err(IdentityError::Name(_))));
        assert!(matches!(node(253, 65), Err(IdentityError::Uid(_))));
        assert!(node(100_000, 1).unwrap_err().to_string().len() < 1000);
    }

    #[test]
    fn an_error_does_not_hand_control_characters_to_a_terminal() {
        let error = "spiffe://\x1b[2J".parse::<NodeIdentity>().unwrap_err();
        assert!(error.to_string().chars().all(|c| !c.is_control()), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_written_the_same_way(
            text in "spiffe://[a-d./%]{0,6}/node/[a-z.%/-]{0,8}/[a-zA-Z./%]{0,8}",
        ) {
            if let Ok(node) = text.parse::<NodeIdentity>() {
                prop_assert_eq!(node.to_string(), text);
            }
        }
    }
}
