//! The mesh CA: made here or read from a Secret, it turns approvals into node certificates.
//!
//! The Secret is as cert-manager writes it: `tls.crt` and `tls.key`, in PKCS#8. `ca.crt` is not read: nodes
//! trust the CA that signs them and nothing above it, because a root that others use too could otherwise
//! make nodes.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

use crate::{
    CertificateError, KeyError, NodeIdentity, TrustBundle, TrustDomain,
    authority::{Authority, AuthorityError},
    certificate::Point,
    key::{Secret, uri},
    pem::{self, PemError},
    request::Approved,
    validity::{TimeError, Validity},
};

/// How long a CA that is made here lives: 10 years. When it ends without another in its place, no node can
/// join any more, and a shorter life would bring that on before anybody thinks of it.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Most certificates in `tls.crt`: the CA's own, which is the first, and some above it.
const MAX_CERTIFICATES: usize = 8;
/// Bytes of a serial number, of which 126 bits are random; RFC 5280 §4.1.2.2 allows 20.
const SERIAL: usize = 16;

/// A CA with its key. Only the controller holds one.
pub struct MeshCa {
    authority: Authority,
    issuer: Issuer<'static, Secret>,
    trust_domain: TrustDomain,
}

/// Why there is no CA, or it doesn't sign.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// `tls.crt` is not PEM.
    #[error("mesh CA: its certificate cannot be read")]
    Pem(#[from] PemError),
    /// `tls.crt` is not a CA's.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// `tls.key` can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// `tls.key` doesn't belong to `tls.crt`.
    #[error("mesh CA: the private key is not the certificate's: tls.crt and tls.key come from two Secrets")]
    OtherKey,
    /// The CA is another trust domain's.
    #[error("mesh CA: it is for `{found}`, but the mesh's trust domain is `{expected}`")]
    TrustDomain {
        /// The SPIFFE ID in the CA's certificate or in the approval.
        found: String,
        /// The mesh's trust domain.
        expected: TrustDomain,
    },
    /// Nodes would not believe what it signs.
    #[error(
        "mesh CA: nodes would refuse what it signs: has its subject an attribute twice, or does it \
         constrain names?"
    )]
    Unusable(#[source] CertificateError),
    /// The CA has expired, or isn't valid yet.
    #[error(
        "mesh CA: outside its validity, so that it signs nothing: replace it, or set this machine's clock"
    )]
    Time(#[from] TimeError),
    /// Signing failed.
    #[error("mesh CA: signing failed")]
    Signing(#[source] rcgen::Error),
    /// The system gives no random numbers.
    #[error("mesh CA: the system gives no random numbers")]
    Random,
}

impl MeshCa {
    /// A new, self-signed CA for this trust domain: ECDSA P-256, backdated 2 h, valid for [`CA_LIFETIME`].
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(trust_domain: &TrustDomain, now: UnixTime) -> Result<Self, CaError> {
        let secret = Secret::generate()?;
        let (serial, serial_text) = serial()?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial);
        params.distinguished_name = DistinguishedName::new();
        // Two CAs of one mesh differ in name, so that operators can tell them apart.
        let name = format!("Hauberk mesh CA {}", &serial_text[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(&trust_domain.uri())];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Validity::starting(now, CA_LIFETIME).apply(&mut params);
        let certificate = params.self_signed(&secret).map_err(CaError::Signing)?;
        Self::new(certificate.into(), secret, trust_domain)
    }

    /// The CA in a Secret: `tls.crt`, whose first certificate is the CA's, and `tls.key`, in PKCS#8: ECDSA
    /// P-256 or P-384, Ed25519, or RSA of 2048 bits or more. An expired CA loads but doesn't sign.
    ///
    /// # Errors
    /// They are damaged, don't belong together, belong to another trust domain, or nodes would refuse what
    /// this CA signs.
    pub fn load(certificate_pem: &str, key_pem: &str, trust_domain: &TrustDomain) -> Result<Self, CaError> {
        let mut certificates = pem::decode(certificate_pem, pem::CERTIFICATE, MAX_CERTIFICATES)?;
        Self::new(
            certificates.swap_remove(0),
            Secret::from_pem(key_pem)?,
            trust_domain,
        )
    }

    /// `tls.crt`.
    pub fn certificate_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.authority.der).to_string()
    }

    /// `tls.key`, in PKCS#8, wiped when dropped.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.issuer.key().to_pem()
    }

    /// When the CA's certificate holds.
    pub fn validity(&self) -> Validity {
        self.authority.validity
    }

    /// The trust domain whose nodes it signs.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The certificate that was approved, in PEM: with the approved identity, key and lifetime, a random
    /// serial number, backdated 2 h, and never beyond the CA's own end.
    ///
    /// # Errors
    /// The CA isn't valid now, or the approval is for another trust domain.
    pub fn sign(&self, approved: &Approved, now: UnixTime) -> Result<String, CaError> {
        self.authority.validity.check(now)?;
        let found = approved.identity().trust_domain();
        if found != &self.trust_domain {
            return Err(CaError::TrustDomain {
                found: found.uri(),
                expected: self.trust_domain.clone(),
            });
        }
        let validity = Validity::starting(now, approved.lifetime())
            .and(&self.authority.validity)
            .expect("both hold `now`");
        let key = NodePublicKey(*approved.public_key());
        let certificate = issue(&self.issuer, approved.identity(), &key, validity)?;
        Ok(pem::encode(pem::CERTIFICATE, &certificate).to_string())
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    #[cfg(test)]
    pub(crate) fn issuer(&self) -> &Issuer<'static, Secret> {
        &self.issuer
    }

    fn new(
        certificate: CertificateDer<'static>,
        secret: Secret,
        domain: &TrustDomain,
    ) -> Result<Self, CaError> {
        let authority = Authority::parse(certificate)?;
        if authority.public_key != secret.der_bytes() {
            return Err(CaError::OtherKey);
        }
        // A CA may go without a SPIFFE ID (SPIFFE X509-SVID §3.2).
        if let Some(found) = authority.spiffe_ids.iter().find(|id| **id != domain.uri()) {
            return Err(CaError::TrustDomain {
                found: found.clone(),
                expected: domain.clone(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&authority.der, secret).map_err(CaError::Signing)?;
        let ca = Self {
            authority,
            issuer,
            trust_domain: domain.clone(),
        };
        ca.prove()?;
        Ok(ca)
    }

    /// Signs a certificate that nobody gets and checks it as nodes will: a name that rcgen can't write the
    /// way it was, a path length or a name constraint that forbids nodes show here, not on every node.
    fn prove(&self) -> Result<(), CaError> {
        let probe =
            NodeIdentity::new(self.trust_domain.clone(), "probe", "probe").expect("both are well-formed");
        let validity = self.authority.validity;
        let certificate = issue(&self.issuer, &probe, &Secret::generate()?, validity)?;
        TrustBundle::from(self)
            .verify(&[certificate], validity.not_before())
            .map_err(CaError::Unusable)?;
        Ok(())
    }
}

impl fmt::Debug for MeshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshCa")
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.authority.validity)
            .finish_non_exhaustive()
    }
}

/// A node's public key, as the certificate holds it.
struct NodePublicKey(Point);

impl PublicKeyData for NodePublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate with a node's profile; nothing in it comes from the request but the key.
fn issue(
    issuer: &Issuer<'_, Secret>,
    identity: &NodeIdentity,
    key: &impl PublicKeyData,
    validity: Validity,
) -> Result<CertificateDer<'static>, CaError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial()?.0);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(&identity.to_string())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    validity.apply(&mut params);
    let certificate = params.signed_by(key, issuer).map_err(CaError::Signing)?;
    Ok(certificate.into())
}

/// A random serial number, and its hexadecimal digits.
fn serial() -> Result<(SerialNumber, String), CaError> {
    let mut bytes = [0; SERIAL];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CaError::Random)?;
    // Positive, never zero and always of one length.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    let text = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((SerialNumber::from_slice(&bytes), text))
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;
    use crate::{
        certificate::{chain_from_pem, parse_v3},
        fixture::{self, DAY, NOW, domain, node_a, seconds},
    };

    /// A CA as others make it: any key, any change.
    fn foreign(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Result<MeshCa, CaError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Validity::starting(NOW, CA_LIFETIME).apply(&mut params);
        change(&mut params);
        let certificate = params.self_signed(key).unwrap().pem();
        MeshCa::load(&certificate, &key.serialize_pem(), &domain())
    }

    #[test]
    fn a_ca_reads_back_from_its_secret_and_signs_as_before() {
        let mesh = fixture::Mesh::new();
        let again = MeshCa::load(&mesh.ca.certificate_pem(), &mesh.ca.key_pem(), &domain()).unwrap();
        let pem = again.sign(&fixture::approved(&node_a()), NOW).unwrap();
        assert!(mesh.bundle.verify(&chain_from_pem(&pem).unwrap(), NOW).is_ok());
    }

    #[test]
    fn a_generated_ca_can_sign_nodes_and_no_further_ca() {
        let ca = MeshCa::generate(&domain(), NOW).unwrap();
        let certificate = parse_v3(&ca.authority.der).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.flags.count_ones() == 1);
        assert_eq!(ca.authority.spiffe_ids, ["spiffe://cluster.local"]);
        assert_eq!(ca.validity().not_before(), seconds(NOW.as_secs() - 2 * 3600));
        assert_eq!(
            ca.validity().not_after(),
            seconds(NOW.as_secs() + CA_LIFETIME.as_secs())
        );
    }

    #[test]
    fn a_certificate_has_what_was_approved_and_nothing_else() {
        let mesh = fixture::Mesh::new();
        let der = mesh.chain(&node_a()).remove(0);
        let certificate = parse_v3(&der).unwrap();
        assert_eq!(certificate.subject().iter().count(), 0);
        assert_eq!(certificate.raw_serial().len(), SERIAL);
        assert!(!certificate.is_ca());
        assert!(certificate.key_usage().unwrap().unwrap().critical);
        // Authority and subject key identifiers, names, two usages, basic constraints.
        assert_eq!(certificate.extensions().len(), 6);
        let leaf = mesh.bundle.vouch(std::slice::from_ref(&der), NOW).unwrap();
        assert_eq!(leaf.validity.not_before(), seconds(NOW.as_secs() - 2 * 3600));
        assert_eq!(leaf.validity.not_after(), seconds(NOW.as_secs() + DAY));
        let second = mesh.chain(&node_a()).remove(0);
        assert_ne!(certificate.raw_serial(), parse_v3(&second).unwrap().raw_serial());
    }

    #[test]
    fn a_certificate_never_outlives_its_ca_and_an_expired_ca_does_not_sign() {
        let mesh = fixture::Mesh::new();
        let end = mesh.ca.validity().not_after();
        let now = seconds(end.as_secs() - 60);
        let pem = mesh.ca.sign(&fixture::approved(&node_a()), now).unwrap();
        let verified = mesh.bundle.verify(&chain_from_pem(&pem).unwrap(), now).unwrap();
        assert_eq!(verified.validity().not_after(), end);
        for time in [seconds(end.as_secs() + 1), seconds(0)] {
            let found = mesh.ca.sign(&fixture::approved(&node_a()), time);
            assert!(matches!(found, Err(CaError::Time(_))));
        }
    }

    #[test]
    fn cas_with_other_keys_and_names_work() {
        // ring makes no RSA keys. This one is for this test only.
        let rsa = KeyPair::from_pem(include_str!("../testdata/rsa2048.pem")).unwrap();
        let made = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ]
        .map(|algorithm| KeyPair::generate_for(algorithm).unwrap());
        for key in made.into_iter().chain([rsa]) {
            let ca = foreign(&key, |params| {
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, "Example");
            });
            let ca = ca.unwrap();
            let pem = ca.sign(&fixture::approved(&node_a()), NOW).unwrap();
            let chain = chain_from_pem(&pem).unwrap();
            assert!(TrustBundle::from(&ca).verify(&chain, NOW).is_ok());
        }
    }

    #[test]
    fn a_ca_whose_nodes_would_be_refused_does_not_load() {
        let key = KeyPair::generate().unwrap();
        // A subject that is both permitted and excluded: no certificate conforms.
        let found = foreign(&key, |params| {
            params.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: vec![rcgen::GeneralSubtree::DirectoryName(DistinguishedName::new())],
                excluded_subtrees: vec![rcgen::GeneralSubtree::DirectoryName(DistinguishedName::new())],
            });
        });
        assert!(matches!(found, Err(CaError::Unusable(_))), "{found:?}");
    }

    #[test]
    fn a_secret_that_does_not_fit_is_refused_with_the_reason() {
        let key = KeyPair::generate().unwrap();
        let [mesh, other] = [fixture::Mesh::new(), fixture::Mesh::new()];
        let found = MeshCa::load(&mesh.ca.certificate_pem(), &other.ca.key_pem(), &domain());
        assert!(matches!(found, Err(CaError::OtherKey)));

        let found = MeshCa::load("", &mesh.ca.key_pem(), &domain());
        assert!(matches!(found, Err(CaError::Pem(_))));

        let sec1 = mesh.ca.key_pem().replace("PRIVATE KEY", "EC PRIVATE KEY");
        let found = MeshCa::load(&mesh.ca.certificate_pem(), &sec1, &domain());
        assert!(matches!(found, Err(CaError::Key(KeyError::Encoding))));

        let found = foreign(&key, |params| params.is_ca = IsCa::ExplicitNoCa);
        assert!(matches!(found, Err(CaError::Authority(AuthorityError::NotCa))));

        let elsewhere: TrustDomain = "elsewhere".parse().unwrap();
        let found = MeshCa::load(&mesh.ca.certificate_pem(), &mesh.ca.key_pem(), &elsewhere);
        assert!(matches!(found, Err(CaError::TrustDomain { .. })));
        assert!(foreign(&key, |_| ()).is_ok());
    }

    #[test]
    fn an_approval_for_another_trust_domain_is_not_signed() {
        let ca = MeshCa::generate(&"elsewhere".parse().unwrap(), NOW).unwrap();
        let found = ca.sign(&fixture::approved(&node_a()), NOW);
        assert!(matches!(found, Err(CaError::TrustDomain { .. })));
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        let mesh = fixture::Mesh::new();
        let shown = format!("{:?}", mesh.ca);
        let key = mesh.ca.key_pem();
        assert!(!shown.contains("PRIVATE") && !shown.contains(key.lines().nth(1).unwrap()));
        assert!(shown.contains("cluster.local"));
    }
}
