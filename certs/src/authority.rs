//! A CA's certificate, as far as trusting it and signing with it need to know it.

use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::extensions::GeneralName;

use crate::{certificate::parse_v3, validity::Validity};

/// Why a certificate can't be a mesh CA's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Not X.509 v3 in DER.
    #[error("CA certificate: damaged, or not X.509 v3")]
    Malformed,
    /// Not a CA.
    #[error("CA certificate: not a CA's: set `isCA: true` on cert-manager's Certificate")]
    NotCa,
    /// It may not sign certificates.
    #[error("CA certificate: its key usage doesn't allow it to sign certificates: add `cert sign`")]
    KeyUsage,
}

/// A CA's certificate.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) validity: Validity,
    /// The SPIFFE IDs among its names.
    pub(crate) spiffe_ids: Vec<String>,
    /// Its public key's bits.
    pub(crate) public_key: Vec<u8>,
}

impl Authority {
    /// Checks that it is a CA's and may sign certificates. Whether it is self-signed makes no difference:
    /// what is trusted is the CA that signs, and nothing above it.
    pub(crate) fn parse(der: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        let certificate = parse_v3(&der).ok_or(AuthorityError::Malformed)?;
        if !certificate.is_ca() {
            return Err(AuthorityError::NotCa);
        }
        let usage = certificate.key_usage().map_err(|_| AuthorityError::Malformed)?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(AuthorityError::KeyUsage);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| AuthorityError::Malformed)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let spiffe_ids = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("spiffe:") => Some((*uri).to_owned()),
            _ => None,
        });
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| AuthorityError::Malformed)?;
        Ok(Self {
            anchor: anchor.to_owned(),
            validity: Validity::of_certificate(certificate.validity()).ok_or(AuthorityError::Malformed)?,
            spiffe_ids: spiffe_ids.collect(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            der,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};

    use super::*;
    use crate::fixture;

    fn authority(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Result<Authority, AuthorityError> {
        let der = fixture::self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            change(params);
        });
        Authority::parse(der.into())
    }

    #[test]
    fn a_ca_that_may_sign_is_read() {
        assert!(authority(|_| ()).is_ok());
        assert!(authority(|params| params.key_usages.clear()).is_ok());
    }

    #[test]
    fn what_is_no_ca_or_may_not_sign_is_refused() {
        let found = authority(|params| params.is_ca = IsCa::ExplicitNoCa);
        assert_eq!(found.unwrap_err(), AuthorityError::NotCa);
        let found = authority(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
        assert_eq!(found.unwrap_err(), AuthorityError::KeyUsage);
        let found = Authority::parse(b"x".to_vec().into());
        assert_eq!(found.unwrap_err(), AuthorityError::Malformed);
    }
}
