//! A node's key together with the certificate that vouches for it: what signs bindings and opens channels.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    CertificateError, KeyError, NodeIdentity, NodeKey, TrustBundle, Validity, VerifiedCertificate,
    certificate::chain_from_pem,
    pem::{self, PemError},
    validity::{BACKDATE, seconds},
};

/// A node's key and certificate, which its peers believe.
pub struct Credential {
    key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    certificate: VerifiedCertificate,
}

/// Why a key and a certificate are no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not PEM, or too many certificates.
    #[error("certificate: cannot be read")]
    Pem(#[from] PemError),
    /// Peers would not believe it.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It is another node's, or an earlier one's of the same name.
    #[error("certificate: for {found}, but this node is {expected}: the node asks anew")]
    OtherNode {
        /// Whose it is.
        found: Box<NodeIdentity>,
        /// Whose it has to be.
        expected: Box<NodeIdentity>,
    },
    /// It is for another key.
    #[error("certificate: for another key than this node's: the node asks anew")]
    OtherKey,
}

impl Credential {
    /// Takes what the signer gave (PEM, the node's certificate first) if peers with this bundle believe it.
    ///
    /// # Errors
    /// They wouldn't, or it is for another node or key.
    pub fn new(
        key: NodeKey,
        chain_pem: &str,
        expected: &NodeIdentity,
        bundle: &TrustBundle,
        now: UnixTime,
    ) -> Result<Self, CredentialError> {
        let chain = chain_from_pem(chain_pem)?;
        let certificate = bundle.verify(&chain, now)?;
        if certificate.identity() != expected {
            return Err(CredentialError::OtherNode {
                found: Box::new(certificate.identity().clone()),
                expected: Box::new(expected.clone()),
            });
        }
        if certificate.public_key() != key.public_key() {
            return Err(CredentialError::OtherKey);
        }
        Ok(Self {
            key,
            chain,
            certificate,
        })
    }

    /// Whose it is.
    pub fn identity(&self) -> &NodeIdentity {
        self.certificate.identity()
    }

    /// When the certificate holds.
    pub fn validity(&self) -> Validity {
        self.certificate.validity()
    }

    /// When to ask for the next certificate: two thirds into its life, so that the last third bears an
    /// outage of the controller or of the API server, and by the node up to a tenth earlier, so that nodes which came up
    /// together do not all ask at one time.
    pub fn renew_at(&self) -> UnixTime {
        let validity = self.validity();
        let end = validity.not_after().as_secs();
        let life = end.saturating_sub(validity.not_before().as_secs() + BACKDATE.as_secs());
        let mut node = DefaultHasher::new();
        self.identity().to_string().hash(&mut node);
        let earlier = node.finish() % (life / 10).max(1);
        seconds(end - life / 3 - earlier)
    }

    /// The node's certificate, and behind it intermediate CAs'; the trusted CA is left out.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain in PEM, to be kept beside the key.
    pub fn chain_pem(&self) -> String {
        let sections = self.chain.iter().map(|der| pem::encode(pem::CERTIFICATE, der));
        sections.map(|section| section.to_string()).collect()
    }

    /// The private key.
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(message)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("identity", self.identity())
            .field("validity", &self.validity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, DAY, NOW, node_a, node_b};

    #[test]
    fn a_signed_request_becomes_a_credential() {
        let mesh = fixture::Mesh::new();
        let credential = mesh.credential(&node_a());
        assert_eq!(credential.identity(), &node_a());
        let due = NOW.as_secs() + DAY * 2 / 3;
        let at = credential.renew_at().as_secs();
        assert!((due - DAY / 10..=due).contains(&at), "{at}");
        assert_ne!(mesh.credential(&node_b()).renew_at().as_secs(), at);
        let key = NodeKey::from_pem(&credential.key().to_pem()).unwrap();
        let again = Credential::new(key, &credential.chain_pem(), &node_a(), &mesh.bundle, NOW);
        assert_eq!(again.unwrap().chain(), credential.chain());
    }

    #[test]
    fn a_certificate_for_another_node_or_key_is_not_taken() {
        let mesh = fixture::Mesh::new();
        let pem = mesh.credential(&node_a()).chain_pem();
        let take = |node: NodeIdentity| {
            Credential::new(NodeKey::generate().unwrap(), &pem, &node, &mesh.bundle, NOW)
        };
        assert!(matches!(take(node_b()), Err(CredentialError::OtherNode { .. })));
        assert!(matches!(take(node_a()), Err(CredentialError::OtherKey)));
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        let credential = fixture::Mesh::new().credential(&node_a());
        let shown = format!("{credential:?}");
        let key = credential.key().to_pem();
        assert!(!shown.contains(key.lines().nth(1).unwrap()), "{shown}");
    }
}
