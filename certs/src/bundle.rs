//! The CAs that a node trusts: one, or several while one takes another's place.
//!
//! Rotating a CA: the new one is added to the bundle, every node reads it, the new one signs, and the old
//! one leaves the bundle when the last certificate that it signed has expired.

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::{
    MeshCa,
    authority::{Authority, AuthorityError},
    certificate::{CertificateError, Leaf, MAX_CHAIN, VerifiedCertificate},
    pem::{self, PemError},
};

/// Most CAs in a bundle.
const MAX_AUTHORITIES: usize = 16;

/// The CAs that vouch for nodes.
#[derive(Clone, Debug)]
pub struct TrustBundle(Vec<Authority>);

/// Why a text is no trust bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not PEM, no certificate, or too many.
    #[error("trust bundle: cannot be read")]
    Pem(#[from] PemError),
    /// One of them isn't a CA's.
    #[error("trust bundle: its certificate {number} cannot be trusted")]
    Authority {
        /// Which, from 1.
        number: usize,
        /// Why not.
        source: AuthorityError,
    },
}

impl TrustBundle {
    /// The bundle in this text: 1 to 16 CA certificates in PEM.
    ///
    /// # Errors
    /// There are none or too many, or one isn't a CA's. A bundle is taken as a whole or not at all.
    pub fn from_pem(text: &str) -> Result<Self, BundleError> {
        let mut bundle = Self(Vec::new());
        let certificates = pem::decode(text, pem::CERTIFICATE, MAX_AUTHORITIES)?;
        for (certificate, number) in certificates.into_iter().zip(1..) {
            let authority =
                Authority::parse(certificate).map_err(|source| BundleError::Authority { number, source })?;
            bundle.add(&authority);
        }
        Ok(bundle)
    }

    /// As PEM, in the order in which the CAs were added.
    pub fn to_pem(&self) -> String {
        let sections = self
            .0
            .iter()
            .map(|authority| pem::encode(pem::CERTIFICATE, &authority.der));
        sections.map(|section| section.to_string()).collect()
    }

    /// Trusts this CA too. Says whether that is new.
    pub fn insert(&mut self, ca: &MeshCa) -> bool {
        self.add(ca.authority())
    }

    /// Forgets CAs that have expired; they vouch for nobody any more. Says whether there were any.
    pub fn drop_expired(&mut self, now: UnixTime) -> bool {
        let before = self.0.len();
        self.0.retain(|authority| now <= authority.validity.not_after());
        self.0.len() < before
    }

    /// Whether a node's certificate is believed now. `chain` is the node's certificate and, behind it, the
    /// intermediate CAs' up to one of this bundle, which itself is left out.
    ///
    /// # Errors
    /// It isn't. [`CertificateError::Time`] is said only if it would be believed at another time.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<VerifiedCertificate, CertificateError> {
        let leaf = self.vouch(chain, now)?;
        leaf.validity.check(now)?;
        Ok(VerifiedCertificate::new(leaf))
    }

    /// Whether a node's certificate is believed at that second of its own validity that is nearest to `now`.
    /// So the caller can tell what has merely expired from what is wrong.
    pub(crate) fn vouch(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Leaf, CertificateError> {
        let (node, intermediates) = match chain {
            [node, intermediates @ ..] if chain.len() <= MAX_CHAIN => (node, intermediates),
            _ => return Err(CertificateError::ChainLength(chain.len())),
        };
        let leaf = Leaf::parse(node)?;
        let time = leaf.validity.nearest(now);
        // webpki knows no expiry of a trust anchor, so that an expired one has to be left out here.
        let anchors: Vec<TrustAnchor<'_>> = self
            .0
            .iter()
            .filter(|authority| authority.validity.check(time).is_ok())
            .map(|authority| authority.anchor.clone())
            .collect();
        let end_entity = EndEntityCert::try_from(node).map_err(CertificateError::Untrusted)?;
        end_entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                intermediates,
                time,
                // Of intermediates too, if they limit it. `Leaf::parse` has seen to the node's.
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(CertificateError::Untrusted)?;
        Ok(leaf)
    }

    fn add(&mut self, authority: &Authority) -> bool {
        let new = self.0.iter().all(|known| known.der != authority.der);
        if new {
            self.0.push(authority.clone());
        }
        new
    }
}

impl From<&MeshCa> for TrustBundle {
    /// The bundle of a mesh with this one CA.
    fn from(ca: &MeshCa) -> Self {
        Self(vec![ca.authority().clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CA_LIFETIME, TimeError,
        certificate::chain_from_pem,
        fixture::{self, DAY, NOW, node_a, seconds},
    };

    #[test]
    fn a_node_of_the_mesh_is_believed_and_named() {
        let mesh = fixture::Mesh::new();
        let chain = mesh.chain(&node_a());
        assert_eq!(mesh.bundle.verify(&chain, NOW).unwrap().identity(), &node_a());
    }

    #[test]
    fn a_node_of_another_ca_is_not_believed_even_if_the_ca_has_the_same_name() {
        let [mesh, other] = [fixture::Mesh::new(), fixture::Mesh::new()];
        let found = mesh.bundle.verify(&other.chain(&node_a()), NOW);
        assert!(matches!(found, Err(CertificateError::Untrusted(_))));
    }

    #[test]
    fn while_a_ca_takes_anothers_place_both_vouch() {
        let [old, new] = [fixture::Mesh::new(), fixture::Mesh::new()];
        let mut bundle = old.bundle.clone();
        assert!(bundle.insert(&new.ca) && !bundle.insert(&new.ca));
        let bundle = TrustBundle::from_pem(&bundle.to_pem()).unwrap();
        for mesh in [&old, &new] {
            assert!(bundle.verify(&mesh.chain(&node_a()), NOW).is_ok());
        }
    }

    #[test]
    fn a_certificate_is_told_from_a_wrong_one_when_it_is_early_or_late() {
        let mesh = fixture::Mesh::new();
        let chain = mesh.chain(&node_a());
        let at = |time| mesh.bundle.verify(&chain, seconds(time)).map(|_| ());
        let late = at(NOW.as_secs() + DAY + 1);
        assert!(matches!(
            late,
            Err(CertificateError::Time(TimeError::Expired { seconds: 1 }))
        ));
        let early = at(NOW.as_secs() - 2 * 3600 - 1);
        assert!(matches!(
            early,
            Err(CertificateError::Time(TimeError::NotYetValid { seconds: 1 }))
        ));
        let wrong = fixture::Mesh::new()
            .bundle
            .verify(&chain, seconds(NOW.as_secs() + 2 * DAY));
        assert!(matches!(wrong, Err(CertificateError::Untrusted(_))));
    }

    #[test]
    fn an_expired_ca_vouches_for_nobody_and_can_be_dropped() {
        let mut mesh = fixture::Mesh::new();
        let end = NOW.as_secs() + CA_LIFETIME.as_secs();
        // Signed by somebody who doesn't cap a certificate at its CA's end.
        let chain = [fixture::signed_by(&mesh.ca, seconds(end + 10), |_| ())];
        let found = mesh.bundle.verify(&chain, seconds(end + 10));
        assert!(matches!(found, Err(CertificateError::Untrusted(_))));
        assert!(!mesh.bundle.drop_expired(seconds(end)));
        assert!(mesh.bundle.drop_expired(seconds(end + 1)));
    }

    #[test]
    fn an_intermediate_is_followed_and_a_node_cannot_be_one() {
        let (bundle, chain) = fixture::chain_with_intermediate(true);
        assert!(bundle.verify(&chain, NOW).is_ok());
        assert!(bundle.verify(&chain[..1], NOW).is_err());
        let (bundle, chain) = fixture::chain_with_intermediate(false);
        assert!(matches!(
            bundle.verify(&chain, NOW),
            Err(CertificateError::Untrusted(_))
        ));
    }

    #[test]
    fn the_cas_own_certificate_is_no_nodes() {
        let mesh = fixture::Mesh::new();
        let chain = chain_from_pem(&mesh.ca.certificate_pem()).unwrap();
        assert!(matches!(
            mesh.bundle.verify(&chain, NOW),
            Err(CertificateError::IsCa)
        ));
    }

    #[test]
    fn a_chains_length_is_bounded() {
        let mesh = fixture::Mesh::new();
        let chain = vec![mesh.chain(&node_a()).remove(0); 4];
        for chain in [&chain[..0], &chain[..4]] {
            let found = mesh.bundle.verify(chain, NOW);
            assert!(matches!(found, Err(CertificateError::ChainLength(n)) if n == chain.len()));
        }
    }

    #[test]
    fn a_bundle_is_taken_whole_or_not_at_all() {
        let mesh = fixture::Mesh::new();
        let node = pem::encode(pem::CERTIFICATE, &mesh.chain(&node_a())[0]).to_string();
        let found = TrustBundle::from_pem(&(mesh.ca.certificate_pem() + &node));
        assert!(matches!(
            found,
            Err(BundleError::Authority {
                number: 2,
                source: AuthorityError::NotCa
            })
        ));
        assert!(TrustBundle::from_pem("").is_err());
        assert!(TrustBundle::from_pem(&mesh.ca.certificate_pem().repeat(17)).is_err());
    }
}
