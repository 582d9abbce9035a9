//! A node's request for a certificate (PKCS#10, RFC 2986), taken apart: it may ask for one URI name and
//! nothing else, and proves that who asks holds the key. Whether they may have it is [`request`]'s to say.
//!
//! [`request`]: crate::request

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::{
    certification_request::{X509CertificationRequest, X509CertificationRequestInfo},
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension, X509Extension},
    oid_registry::OID_SIG_ECDSA_WITH_SHA256,
    prelude::FromDer,
    x509::X509Version,
};

use crate::{
    IdentityError, NodeIdentity,
    certificate::{Point, p256_point},
    pem::{self, PemError},
};

/// Why a request is not one that a node makes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not PEM, or not one request.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not PKCS#10 in DER.
    #[error("request: damaged, or not PKCS#10")]
    Malformed,
    /// Not an ECDSA P-256 key with SHA-256.
    #[error("request: its key or signature is not ECDSA P-256 with SHA-256")]
    KeyType,
    /// Not signed by the key that it is for.
    #[error("request: not signed by its own key")]
    Signature,
    /// It asks for a subject.
    #[error("request: its subject is not empty")]
    Subject,
    /// It has other attributes than one request for extensions.
    #[error("request: it has other attributes than one list of extensions")]
    Attributes,
    /// It asks for another extension than subjectAltName, or for several.
    #[error("request: it asks for other extensions than one subjectAltName: {0}")]
    Extensions(String),
    /// It doesn't ask for exactly one name, a URI.
    #[error("request: it doesn't ask for exactly one name, a URI")]
    Names,
    /// The name is no node's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A request whose maker holds the key. It asks for an identity; nothing says yet that it may have it.
#[derive(Clone, Debug)]
pub struct Csr {
    identity: NodeIdentity,
    public_key: Point,
}

impl Csr {
    /// The one request in this PEM text, as a CertificateSigningRequest's `spec.request` holds it.
    ///
    /// # Errors
    /// It is damaged, asks for anything but one identity, or isn't signed by its key.
    pub fn from_pem(text: &str) -> Result<Self, CsrError> {
        let der: CertificateSigningRequestDer<'_> = pem::decode_one(text, pem::REQUEST)?;
        Self::from_der(&der)
    }

    /// The same, in DER.
    ///
    /// # Errors
    /// As [`Csr::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let Ok((&[], request)) = X509CertificationRequest::from_der(der) else {
            return Err(CsrError::Malformed);
        };
        let info = &request.certification_request_info;
        if info.version != X509Version::V1 {
            return Err(CsrError::Malformed);
        }
        let public_key = p256_point(&info.subject_pki).ok_or(CsrError::KeyType)?;
        let algorithm = &request.signature_algorithm;
        // RFC 5758 §3.2: without parameters.
        if algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 || algorithm.parameters.is_some() {
            return Err(CsrError::KeyType);
        }
        if request.signature_value.unused_bits != 0 {
            return Err(CsrError::Malformed);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public_key)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| CsrError::Signature)?;
        if info.subject.iter().next().is_some() {
            return Err(CsrError::Subject);
        }
        let identity = only_uri(only_extension(info)?)?.parse()?;
        Ok(Self { identity, public_key })
    }

    /// The identity that it asks for.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// The key that it is for.
    pub(crate) fn public_key(&self) -> &Point {
        &self.public_key
    }
}

fn only_extension<'a>(info: &'a X509CertificationRequestInfo<'_>) -> Result<&'a X509Extension<'a>, CsrError> {
    let [attribute] = info.attributes() else {
        return Err(CsrError::Attributes);
    };
    let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
        return Err(CsrError::Attributes);
    };
    match request.extensions.as_slice() {
        [extension] => Ok(extension),
        extensions => Err(CsrError::Extensions(oids(extensions))),
    }
}

fn only_uri<'a>(extension: &'a X509Extension<'_>) -> Result<&'a str, CsrError> {
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => match names.general_names.as_slice() {
            [GeneralName::URI(uri)] => Ok(uri),
            _ => Err(CsrError::Names),
        },
        _ => Err(CsrError::Extensions(oids(std::slice::from_ref(extension)))),
    }
}

/// The extensions' numbers, for the error: the first few, and "none" for none.
fn oids(extensions: &[X509Extension<'_>]) -> String {
    const SHOWN: usize = 8;
    let oids: Vec<_> = extensions
        .iter()
        .take(SHOWN)
        .map(|one| one.oid.to_id_string())
        .collect();
    match oids.is_empty() {
        true => "none".into(),
        false => oids.join(", ").chars().take(256).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{
        Attribute, BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, SanType,
    };

    use super::*;
    use crate::{
        NodeKey,
        fixture::{self, node_a, node_b},
    };

    fn request(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Result<Csr, CsrError> {
        Csr::from_der(&fixture::request(&KeyPair::generate().unwrap(), change))
    }

    #[test]
    fn a_nodes_own_request_is_read() {
        let key = NodeKey::generate().unwrap();
        let csr = Csr::from_pem(&key.request(&node_a()).unwrap()).unwrap();
        assert_eq!(csr.identity(), &node_a());
        assert_eq!(csr.public_key(), key.public_key());
    }

    #[test]
    fn a_dns_name_or_a_second_uri_is_refused() {
        let dns = || SanType::DnsName("kubernetes.default".try_into().unwrap());
        let address = || SanType::IpAddress([10, 0, 0, 1].into());
        for names in [
            vec![dns()],
            vec![fixture::uri(&node_a()), dns()],
            vec![fixture::uri(&node_a()), address()],
            vec![fixture::uri(&node_a()), fixture::uri(&node_b())],
            vec![fixture::uri(&node_a()), fixture::uri(&node_a())],
        ] {
            let found = request(|params| params.subject_alt_names = names);
            assert_eq!(found.unwrap_err(), CsrError::Names);
        }
    }

    #[test]
    fn asking_to_be_a_ca_or_for_usages_is_refused() {
        let unknown = || CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        for change in [
            (|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
                as fn(&mut rcgen::CertificateParams),
            |params| params.is_ca = IsCa::ExplicitNoCa,
            |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        ] {
            assert!(matches!(request(change), Err(CsrError::Extensions(_))));
        }
        let found = request(|params| params.custom_extensions = vec![unknown()]);
        assert_eq!(
            found.unwrap_err(),
            CsrError::Extensions("2.5.29.17, 1.3.6.1.4.1.99999.1".into())
        );
        let found = request(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions = vec![unknown()];
        });
        assert_eq!(
            found.unwrap_err(),
            CsrError::Extensions("1.3.6.1.4.1.99999.1".into())
        );
    }

    #[test]
    fn no_name_at_all_is_refused() {
        let found = request(|params| params.subject_alt_names.clear());
        assert_eq!(found.unwrap_err(), CsrError::Attributes);
    }

    #[test]
    fn another_attribute_is_refused() {
        let key = KeyPair::generate().unwrap();
        let password = Attribute {
            oid: &[1, 2, 840, 113549, 1, 9, 7],
            // SET { UTF8String "x" }
            values: vec![0x31, 3, 0x0c, 1, b'x'],
        };
        let csr = fixture::params(&node_a())
            .serialize_request_with_attributes(&key, vec![password])
            .unwrap();
        assert_eq!(Csr::from_der(csr.der()).unwrap_err(), CsrError::Attributes);
    }

    #[test]
    fn a_subject_is_refused() {
        let found = request(|params| {
            params
                .distinguished_name
                .push(DnType::OrganizationName, "system:masters")
        });
        assert_eq!(found.unwrap_err(), CsrError::Subject);
    }

    #[test]
    fn an_identity_of_another_form_is_refused() {
        for uri in [
            "spiffe://cluster.local/ns/default/sa/default",
            "spiffe://cluster.local/node/a",
            "https://cluster.local/node/a/b",
        ] {
            let found =
                request(|params| params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())]);
            assert!(matches!(found, Err(CsrError::Identity(_))));
        }
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let found = Csr::from_der(&fixture::request(&key, |_| ()));
            assert_eq!(found.unwrap_err(), CsrError::KeyType);
        }
    }

    #[test]
    fn somebody_elses_key_cannot_be_asked_for() {
        let [victim, thief] = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let mut der = fixture::request(&thief, |_| ());
        let own = rcgen::PublicKeyData::der_bytes(&thief).to_vec();
        let at = der.windows(own.len()).position(|window| window == own).unwrap();
        der[at..at + own.len()].copy_from_slice(rcgen::PublicKeyData::der_bytes(&victim));
        assert_eq!(Csr::from_der(&der).unwrap_err(), CsrError::Signature);
    }

    #[test]
    fn whatever_is_cut_appended_or_flipped_is_refused() {
        let der = fixture::request(&KeyPair::generate().unwrap(), |_| ());
        for length in 0..der.len() {
            assert!(Csr::from_der(&der[..length]).is_err());
        }
        assert!(Csr::from_der(&[&der, [0].as_slice()].concat()).is_err());
        // What is signed is all that matters: the rest is the signature, which nobody gets.
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        let signed = request.certification_request_info.raw;
        let start = der
            .windows(signed.len())
            .position(|window| window == signed)
            .unwrap();
        for at in start..start + signed.len() {
            let mut der = der.clone();
            der[at] ^= 1;
            assert!(Csr::from_der(&der).is_err(), "byte {at}");
        }
    }

    #[test]
    fn there_is_one_request_in_the_text() {
        let pem = NodeKey::generate().unwrap().request(&node_a()).unwrap();
        let found = Csr::from_pem(&pem.repeat(2));
        assert!(matches!(found, Err(CsrError::Pem(PemError::Many { .. }))));
        assert!(matches!(
            Csr::from_pem(""),
            Err(CsrError::Pem(PemError::Missing(_)))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Csr::from_der(&bytes).is_err());
        }
    }
}
