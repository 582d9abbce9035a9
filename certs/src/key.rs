//! Private keys: a node's own, and any that a CA may sign with. Held wiped-on-drop, written as PKCS#8 PEM.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    NodeIdentity,
    pem::{self, PemError},
};

/// Why a key can't be had or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or not one key.
    #[error("private key: cannot be read")]
    Pem(#[from] PemError),
    /// `EC PRIVATE KEY` or `RSA PRIVATE KEY`.
    #[error(
        "private key: not in PKCS#8: set `privateKey.encoding: PKCS8` on cert-manager's Certificate, or \
         convert it with `openssl pkcs8 -topk8 -nocrypt`"
    )]
    Encoding,
    /// Damaged, or of a kind that can't sign here.
    #[error(
        "private key: damaged or of an unsupported kind: use ECDSA P-256 (for a CA P-384, Ed25519 \
         and RSA from 2048 bits work too)"
    )]
    Unsupported,
    /// A node's key that is not on P-256.
    #[error("private key: a node's key has to be ECDSA P-256: delete it, and the node makes a new one")]
    NotP256,
    /// The system's random numbers or ring failed.
    #[error("private key: making or using it failed")]
    Failed(#[source] rcgen::Error),
}

/// A node's private key, ECDSA on P-256. It never leaves the node.
pub struct NodeKey(Secret);

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self(Secret::generate()?))
    }

    /// The key in this text, as [`NodeKey::to_pem`] writes it.
    ///
    /// # Errors
    /// Not one PKCS#8 key on P-256.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let secret = Secret::from_pem(text)?;
        if !secret.0.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256) {
            return Err(KeyError::NotP256);
        }
        Ok(Self(secret))
    }

    /// As PKCS#8 PEM, wiped when dropped. For a file that only root reads.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.to_pem()
    }

    /// As PKCS#8, for the TLS channel.
    pub fn pkcs8(&self) -> PrivatePkcs8KeyDer<'_> {
        self.0.0.serialized_der().into()
    }

    /// Asks for a certificate for this identity: a PKCS#10 request (RFC 2986) in PEM, with an empty subject
    /// and one URI name, and nothing else.
    ///
    /// # Errors
    /// Signing failed.
    pub fn request(&self, identity: &NodeIdentity) -> Result<String, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&identity.to_string())];
        let request = params.serialize_request(&self.0).map_err(KeyError::Failed)?;
        Ok(pem::encode(pem::REQUEST, request.der()).to_string())
    }

    /// The public key, as a certificate holds it.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.0.der_bytes()
    }

    /// Signs by ECDSA with SHA-256; the signature is in ASN.1 DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0.sign(message).map_err(KeyError::Failed)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// A URI name. What is given here is ASCII by construction: a SPIFFE ID.
pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("a SPIFFE ID is ASCII"))
}

/// Any private key that can sign, wiped when dropped.
pub(crate) struct Secret(KeyPair);

impl Secret {
    /// A new key, ECDSA on P-256.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        KeyPair::generate().map(Self).map_err(KeyError::Failed)
    }

    /// The one PKCS#8 key in this text.
    pub(crate) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut der: PrivateKeyDer<'static> = pem::decode_one(text, pem::PRIVATE_KEY)?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(_) => KeyPair::try_from(&der).map_err(|_| KeyError::Unsupported),
            _ => Err(KeyError::Encoding),
        };
        der.zeroize();
        key.map(Self)
    }

    /// As PKCS#8 PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, self.0.serialized_der())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Secret {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Secret {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert_eq!(*key.to_pem(), *again.to_pem());
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        let key = NodeKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "NodeKey(..)");
    }

    #[test]
    fn a_node_key_on_another_curve_is_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let pem = KeyPair::generate_for(algorithm).unwrap().serialize_pem();
            assert!(matches!(NodeKey::from_pem(&pem), Err(KeyError::NotP256)));
            assert!(Secret::from_pem(&pem).is_ok());
        }
    }

    #[test]
    fn a_key_that_is_not_in_pkcs8_is_refused_with_the_remedy() {
        for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let error = NodeKey::from_pem(&pem::encode(label, b"anything")).unwrap_err();
            assert!(matches!(error, KeyError::Encoding));
            assert!(error.to_string().contains("encoding: PKCS8"), "{error}");
        }
    }

    #[test]
    fn damage_is_refused() {
        let read = |text: &str| NodeKey::from_pem(text).unwrap_err();
        assert!(matches!(read(""), KeyError::Pem(PemError::Missing(_))));
        assert!(matches!(
            read(&pem::encode(pem::PRIVATE_KEY, b"x")),
            KeyError::Unsupported
        ));
        let one = NodeKey::generate().unwrap().to_pem();
        assert!(matches!(
            read(&one.repeat(2)),
            KeyError::Pem(PemError::Many { .. })
        ));
    }
}
