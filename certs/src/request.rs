//! The signer's check: may who asks have the identity that they ask for?
//!
//! Three things have to agree: what the request asks for ([`Csr`]), what the API server says of who asks
//! ([`Applicant`], from the CertificateSigningRequest, whose `spec` the API server fills in and nobody
//! changes), and the Node as it is now ([`Expected`]). Only then is there an [`Approved`], and only that can
//! be signed.

use std::{collections::BTreeMap, time::Duration};

use crate::{Csr, CsrError, NodeIdentity, certificate::Point};

/// `spec.signerName` of the CertificateSigningRequests that are ours.
pub const SIGNER: &str = "hauberk.dev/node";

/// The key of `spec.extra` with the node's name, from the node-bound token (Kubernetes 1.30 or later).
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// The key of `spec.extra` with the node's UID, from the node-bound token.
pub const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// `spec.usages` of a node's request, exactly these: what its certificate has.
pub const USAGES: [&str; 3] = ["client auth", "digital signature", "server auth"];

/// The lifetime of a certificate that asks for none.
pub const DEFAULT_LIFETIME: Duration = MIN_LIFETIME;
/// The shortest lifetime that is signed: an outage of the controller of nearly a day blocks nobody.
pub const MIN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The longest lifetime that is signed. Nothing revokes a certificate but its Node's end.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the API server says of who asks: the CertificateSigningRequest's `spec`, but for `request`.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// `spec.signerName`.
    pub signer: &'a str,
    /// `spec.username`.
    pub username: &'a str,
    /// `spec.extra`.
    pub extra: &'a BTreeMap<String, Vec<String>>,
    /// `spec.usages`.
    pub usages: &'a [String],
    /// `spec.expirationSeconds`.
    pub expiration_seconds: Option<i32>,
}

/// What an applicant has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Namespace of keyd's ServiceAccount on nodes.
    pub namespace: &'a str,
    /// Name of keyd's ServiceAccount on nodes.
    pub service_account: &'a str,
    /// The Node that [`Applicant::node_name`] names, as it is now: with its live UID.
    pub node: &'a NodeIdentity,
}

/// A request that may be signed. Only [`check`] makes one.
#[derive(Clone, Debug)]
pub struct Approved {
    identity: NodeIdentity,
    public_key: Point,
    lifetime: Duration,
}

/// Why a request is not signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is for another signer.
    #[error("for the signer `{0}`, not `{SIGNER}`")]
    Signer(String),
    /// Not keyd's ServiceAccount asks.
    #[error("asked for by `{found}`, and only `{expected}` may: is keyd's ServiceAccount another one?")]
    Username {
        /// Who asks.
        found: String,
        /// Who may.
        expected: String,
    },
    /// The token names no node.
    #[error(
        "the token isn't bound to a node (no `{NODE_NAME}`): Kubernetes 1.30 or later is needed, and a \
         pod's token"
    )]
    NoNode,
    /// The token's claim has several values.
    #[error("`{0}` has {1} values, where 1 is right")]
    Claim(&'static str, usize),
    /// The token is another node's.
    #[error("the token is bound to the node `{found}`, not `{expected}`")]
    NodeName {
        /// The token's node.
        found: String,
        /// The Node that was looked up.
        expected: String,
    },
    /// The token is an earlier node's of the same name.
    #[error("the token is bound to a node with UID `{found}`, but the node of that name has `{expected}`")]
    NodeUid {
        /// The token's.
        found: String,
        /// The live one.
        expected: String,
    },
    /// Not exactly [`USAGES`].
    #[error("asks for the usages {0:?}, where exactly {USAGES:?} are right")]
    Usages(Vec<String>),
    /// Out of bounds.
    #[error(
        "asks for {0} s, where {min} to {max} are right",
        min = MIN_LIFETIME.as_secs(),
        max = MAX_LIFETIME.as_secs()
    )]
    Lifetime(i32),
    /// The request itself.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// It asks for another identity than the node's own.
    #[error("asks for {found}, but this is {expected}")]
    Identity {
        /// What it asks for.
        found: Box<NodeIdentity>,
        /// What it may have.
        expected: Box<NodeIdentity>,
    },
}

impl Applicant<'_> {
    /// The node that the token is bound to: the one to look up for [`Expected::node`].
    ///
    /// # Errors
    /// The token names none, or several.
    pub fn node_name(&self) -> Result<&str, Refusal> {
        self.claim(NODE_NAME)?.ok_or(Refusal::NoNode)
    }

    /// The one value of a claim, if it is there.
    fn claim(&self, key: &'static str) -> Result<Option<&str>, Refusal> {
        match self.extra.get(key).map(Vec::as_slice) {
            None => Ok(None),
            Some([value]) => Ok(Some(value)),
            Some(values) => Err(Refusal::Claim(key, values.len())),
        }
    }
}

impl Approved {
    /// The identity to be signed.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// How long the certificate is to live from now: as asked for, or [`DEFAULT_LIFETIME`].
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub(crate) fn public_key(&self) -> &Point {
        &self.public_key
    }
}

/// Checks all that would be signed. `csr_pem` is the CertificateSigningRequest's `spec.request`.
///
/// # Errors
/// The first thing that doesn't agree.
pub fn check(csr_pem: &str, applicant: &Applicant<'_>, expected: &Expected<'_>) -> Result<Approved, Refusal> {
    check_applicant(applicant, expected)?;
    let lifetime = lifetime(applicant.expiration_seconds)?;
    let csr = Csr::from_pem(csr_pem)?;
    if csr.identity() != expected.node {
        return Err(Refusal::Identity {
            found: Box::new(csr.identity().clone()),
            expected: Box::new(expected.node.clone()),
        });
    }
    Ok(Approved {
        public_key: *csr.public_key(),
        identity: expected.node.clone(),
        lifetime,
    })
}

fn check_applicant(applicant: &Applicant<'_>, expected: &Expected<'_>) -> Result<(), Refusal> {
    if applicant.signer != SIGNER {
        return Err(Refusal::Signer(applicant.signer.into()));
    }
    let username = format!(
        "system:serviceaccount:{}:{}",
        expected.namespace, expected.service_account
    );
    if applicant.username != username {
        return Err(Refusal::Username {
            found: applicant.username.into(),
            expected: username,
        });
    }
    let name = applicant.node_name()?;
    if name != expected.node.name() {
        return Err(Refusal::NodeName {
            found: name.into(),
            expected: expected.node.name().into(),
        });
    }
    if let Some(uid) = applicant.claim(NODE_UID)?
        && uid != expected.node.uid()
    {
        return Err(Refusal::NodeUid {
            found: uid.into(),
            expected: expected.node.uid().into(),
        });
    }
    let mut usages = applicant.usages.to_vec();
    usages.sort_unstable();
    if usages != USAGES {
        return Err(Refusal::Usages(applicant.usages.to_vec()));
    }
    Ok(())
}

fn lifetime(seconds: Option<i32>) -> Result<Duration, Refusal> {
    let Some(asked) = seconds else {
        return Ok(DEFAULT_LIFETIME);
    };
    let lifetime = u64::try_from(asked).map(Duration::from_secs);
    lifetime
        .ok()
        .filter(|lifetime| (MIN_LIFETIME..=MAX_LIFETIME).contains(lifetime))
        .ok_or(Refusal::Lifetime(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        NodeKey,
        fixture::{self, Spec, node_a, node_b},
    };

    /// What becomes of node A's request after `change`.
    fn after(change: impl FnOnce(&mut Spec)) -> Result<Approved, Refusal> {
        let mut spec = Spec::of(&node_a());
        change(&mut spec);
        spec.check(&node_a())
    }

    #[test]
    fn a_nodes_request_for_itself_is_approved() {
        let key = NodeKey::generate().unwrap();
        let approved = Spec::with(&key, &node_a()).check(&node_a()).unwrap();
        assert_eq!(approved.identity(), &node_a());
        assert_eq!(approved.public_key(), key.public_key());
        assert_eq!(approved.lifetime(), DEFAULT_LIFETIME);
    }

    #[test]
    fn another_signers_request_is_left_alone() {
        let found = after(|spec| spec.signer = "kubernetes.io/kubelet-serving".into());
        assert!(matches!(found, Err(Refusal::Signer(_))));
    }

    #[test]
    fn only_keyds_service_account_may_ask() {
        for username in [
            "",
            "system:node:a",
            "system:serviceaccount:hauberk-system:default",
            "system:serviceaccount:default:keyd-node",
            "system:serviceaccount:hauberk-system:keyd-node ",
            "kubernetes-admin",
        ] {
            let found = after(|spec| spec.username = username.into());
            assert!(matches!(found, Err(Refusal::Username { .. })), "{username}");
        }
    }

    #[test]
    fn a_token_that_is_bound_to_no_node_is_refused() {
        let found = after(|spec| {
            spec.extra.remove(NODE_NAME);
        });
        assert_eq!(found.unwrap_err(), Refusal::NoNode);
    }

    #[test]
    fn a_claim_has_exactly_one_value() {
        for key in [NODE_NAME, NODE_UID] {
            for values in [vec![], vec!["a".into(), "a".into()]] {
                let count = values.len();
                let found = after(|spec| {
                    spec.extra.insert(key.into(), values);
                });
                assert_eq!(found.unwrap_err(), Refusal::Claim(key, count));
            }
        }
    }

    #[test]
    fn a_token_of_another_node_is_refused() {
        let found = after(|spec| {
            spec.extra.insert(NODE_NAME.into(), vec![node_b().name().into()]);
        });
        assert!(matches!(found, Err(Refusal::NodeName { .. })));
    }

    #[test]
    fn a_token_of_an_earlier_node_of_the_same_name_is_refused() {
        let found = after(|spec| {
            spec.extra.insert(NODE_UID.into(), vec![node_b().uid().into()]);
        });
        assert!(matches!(found, Err(Refusal::NodeUid { .. })));
        let without = after(|spec| {
            spec.extra.remove(NODE_UID);
        });
        assert!(without.is_ok());
    }

    #[test]
    fn a_request_for_another_identity_is_refused() {
        let other = |domain: &str, name, uid| NodeIdentity::new(domain.parse().unwrap(), name, uid).unwrap();
        let (a, b) = (node_a(), node_b());
        for asked in [
            b.clone(),
            other("elsewhere", a.name(), a.uid()),
            other("cluster.local", b.name(), a.uid()),
            other("cluster.local", a.name(), b.uid()),
        ] {
            let csr = NodeKey::generate().unwrap().request(&asked).unwrap();
            let found = after(|spec| spec.request = csr);
            assert!(matches!(found, Err(Refusal::Identity { .. })), "{asked}");
        }
    }

    #[test]
    fn a_bad_request_is_refused_for_its_own_reason() {
        let found = after(|spec| spec.request = "no request".into());
        assert!(matches!(found, Err(Refusal::Csr(CsrError::Pem(_)))));
    }

    #[test]
    fn usages_are_exact_in_any_order() {
        let usages = |usages: &[&str]| {
            let usages = usages.iter().map(ToString::to_string).collect();
            after(|spec| spec.usages = usages)
        };
        assert!(usages(&["server auth", "digital signature", "client auth"]).is_ok());
        for wrong in [
            &[][..],
            &["client auth", "digital signature"],
            &["client auth", "digital signature", "server auth", "cert sign"],
            &["client auth", "digital signature", "any"],
            &["client auth", "digital signature", "server auth", "server auth"],
        ] {
            assert!(matches!(usages(wrong), Err(Refusal::Usages(_))), "{wrong:?}");
        }
    }

    #[test]
    fn lifetimes_are_bounded() {
        let days = |days: i32, more| after(|spec| spec.expiration_seconds = Some(days * 86400 + more));
        assert_eq!(days(7, 0).unwrap().lifetime(), fixture::days(7));
        assert!(days(1, 0).is_ok() && days(30, 0).is_ok());
        for (number, more) in [(1, -1), (30, 1), (0, 0), (0, -1), (0, i32::MIN), (0, i32::MAX)] {
            assert_eq!(
                days(number, more).unwrap_err(),
                Refusal::Lifetime(number * 86400 + more)
            );
        }
    }
}
