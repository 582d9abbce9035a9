//! A node's certificate: the one profile that is signed and believed here.
//!
//! X.509 v3, ECDSA P-256, not a CA, key usage digitalSignature and no more, extended key usage client and
//! server authentication and no more, one URI name (the node's identity) and no other
//! (SPIFFE X509-SVID §2–4).
//! Whether somebody vouches for it is [`TrustBundle`](crate::TrustBundle)'s to say.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
    x509::{SubjectPublicKeyInfo, X509Version},
};

use crate::{
    IdentityError, NodeIdentity,
    pem::{self, PemError},
    validity::{TimeError, Validity},
};

/// Most certificates in a chain: the node's and two intermediate CAs'. The trusted CA isn't in it.
pub const MAX_CHAIN: usize = 3;

/// An uncompressed point on P-256 (SEC 1 §2.3.3).
pub(crate) type Point = [u8; 65];

/// Why a certificate is not believed to be a node's.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It would be right at another time. Said only if all else is right.
    #[error(
        "certificate: outside its validity: see whether `keyd controller` runs and signs, and compare the \
         nodes' clocks"
    )]
    Time(#[from] TimeError),
    /// Not X.509 v3 in DER.
    #[error("certificate: damaged, or not X.509 v3 in DER")]
    Malformed,
    /// No certificate, or more than [`MAX_CHAIN`].
    #[error("certificate: a chain of {0}, where 1 to {MAX_CHAIN} make sense")]
    ChainLength(usize),
    /// A CA's certificate.
    #[error("certificate: a CA's, where a node's is needed")]
    IsCa,
    /// Other usages than a node's certificate has.
    #[error("certificate: its usages are not exactly digital signature, client and server authentication")]
    Usages,
    /// Not exactly one name, a URI.
    #[error("certificate: it doesn't have exactly one name, a URI")]
    Names,
    /// The name is no node's.
    #[error("certificate: its name is no node's")]
    Identity(#[from] IdentityError),
    /// Not an ECDSA P-256 key.
    #[error("certificate: its key is not ECDSA P-256")]
    KeyType,
    /// No CA of the bundle vouches for it.
    #[error(
        "certificate: no current CA of the trust bundle vouches for it (expired CAs don't count): was the CA \
         replaced without keeping the old one in the bundle?"
    )]
    Untrusted(#[source] webpki::Error),
}

/// A certificate that chained to the trust bundle: this identity's key, at the time when it was checked.
#[derive(Clone, Debug)]
pub struct VerifiedCertificate(Leaf);

impl VerifiedCertificate {
    /// Only [`TrustBundle::verify`](crate::TrustBundle::verify) makes one.
    pub(crate) fn new(leaf: Leaf) -> Self {
        Self(leaf)
    }

    /// Whose it is.
    pub fn identity(&self) -> &NodeIdentity {
        &self.0.identity
    }

    /// When it holds.
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// Its key, an uncompressed point.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }
}

/// A certificate with a node's profile, for which nobody has vouched yet.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) identity: NodeIdentity,
    pub(crate) validity: Validity,
    public_key: Point,
}

impl Leaf {
    /// Checks the profile.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse_v3(der).ok_or(CertificateError::Malformed)?;
        if certificate.is_ca() {
            return Err(CertificateError::IsCa);
        }
        if !has_node_usages(&certificate) {
            return Err(CertificateError::Usages);
        }
        Ok(Self {
            identity: only_uri(&certificate).ok_or(CertificateError::Names)?.parse()?,
            validity: Validity::of_certificate(certificate.validity()).ok_or(CertificateError::Malformed)?,
            public_key: p256_point(certificate.public_key()).ok_or(CertificateError::KeyType)?,
        })
    }

    /// Whether this key signed the message: ECDSA with SHA-256, in ASN.1 DER.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.public_key)
            .verify(message, signature)
            .is_ok()
    }
}

/// The certificates in this text, the node's first.
pub(crate) fn chain_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    pem::decode(text, pem::CERTIFICATE, MAX_CHAIN)
}

/// One certificate of version 3, and nothing behind it.
pub(crate) fn parse_v3(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    (rest.is_empty() && certificate.version() == X509Version::V3).then_some(certificate)
}

/// The key, if it is on P-256 and written as an uncompressed point.
pub(crate) fn p256_point(key: &SubjectPublicKeyInfo<'_>) -> Option<Point> {
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != OID_EC_P256 {
        return None;
    }
    if key.subject_public_key.unused_bits != 0 {
        return None;
    }
    key.subject_public_key.data.as_ref().try_into().ok()
}

fn has_node_usages(certificate: &X509Certificate<'_>) -> bool {
    // Bit 0 of KeyUsage, as x509-parser numbers them from below (RFC 5280 §4.2.1.3).
    const DIGITAL_SIGNATURE: u16 = 1;
    let (Ok(Some(usage)), Ok(Some(extended))) = (certificate.key_usage(), certificate.extended_key_usage())
    else {
        return false;
    };
    let extended = extended.value;
    let others = extended.any
        || extended.code_signing
        || extended.email_protection
        || extended.time_stamping
        || extended.ocsp_signing
        || !extended.other.is_empty();
    usage.value.flags == DIGITAL_SIGNATURE && extended.client_auth && extended.server_auth && !others
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Some(uri),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

    use super::*;
    use crate::fixture;

    /// A certificate with a node's profile but for what `change` does to it.
    fn leaf(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Result<Leaf, CertificateError> {
        Leaf::parse(&fixture::self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, change))
    }

    #[test]
    fn the_profile_itself_is_read() {
        let leaf = leaf(|_| ()).unwrap();
        assert_eq!(leaf.identity, fixture::node_a());
    }

    #[test]
    fn a_ca_is_no_node() {
        let ca = leaf(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        assert!(matches!(ca, Err(CertificateError::IsCa)));
        assert!(leaf(|params| params.is_ca = IsCa::NoCa).is_ok());
    }

    #[test]
    fn usages_are_exact() {
        for change in [
            (|params| params.key_usages.clear()) as fn(&mut rcgen::CertificateParams),
            |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign),
            |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            |params| params.extended_key_usages.clear(),
            |params| params.extended_key_usages.truncate(1),
            |params| {
                params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::CodeSigning)
            },
            |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::Any),
        ] {
            assert!(matches!(leaf(change), Err(CertificateError::Usages)));
        }
    }

    #[test]
    fn there_is_one_name_and_it_is_a_nodes() {
        for names in [
            vec![],
            vec![fixture::uri(&fixture::node_a()), fixture::uri(&fixture::node_a())],
            vec![
                fixture::uri(&fixture::node_a()),
                SanType::DnsName("a".try_into().unwrap()),
            ],
            vec![SanType::DnsName("a".try_into().unwrap())],
        ] {
            let found = leaf(|params| params.subject_alt_names = names);
            assert!(matches!(found, Err(CertificateError::Names)));
        }
        let service = "spiffe://cluster.local/ns/default/sa/default";
        let found = leaf(|params| params.subject_alt_names = vec![SanType::URI(service.try_into().unwrap())]);
        assert!(matches!(found, Err(CertificateError::Identity(_))));
    }

    #[test]
    fn the_same_extension_twice_is_refused() {
        // extendedKeyUsage: codeSigning, beside the one that is right.
        let second = CustomExtension::from_oid_content(
            &[2, 5, 29, 37],
            vec![0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3],
        );
        assert!(leaf(|params| params.custom_extensions = vec![second]).is_err());
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let found = Leaf::parse(&fixture::self_signed(algorithm, |_| ()));
            assert!(matches!(found, Err(CertificateError::KeyType)));
        }
    }

    #[test]
    fn whatever_is_cut_or_appended_is_refused() {
        let der = fixture::self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, |_| ());
        for length in 0..der.len() {
            assert!(Leaf::parse(&der[..length]).is_err());
        }
        assert!(Leaf::parse(&[&der, [0].as_slice()].concat()).is_err());
    }
}
