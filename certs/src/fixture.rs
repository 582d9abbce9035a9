//! What the tests stand on: a mesh with its CA, two nodes, and certificates as nobody here would sign them.

use std::{collections::BTreeMap, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, UnixTime};

pub(crate) use crate::validity::seconds;
use crate::{
    Credential, Lane, MeshCa, NodeIdentity, NodeKey, Statement, TrustBundle, TrustDomain,
    certificate::chain_from_pem,
    pem,
    request::{self, Applicant, Approved, Expected, NODE_NAME, NODE_UID, Refusal, SIGNER, USAGES},
    validity::Validity,
};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: UnixTime = seconds(1_767_225_600);
/// In seconds.
pub(crate) const DAY: u64 = 86400;

pub(crate) fn days(days: u64) -> Duration {
    Duration::from_secs(days * DAY)
}

pub(crate) fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn node_a() -> NodeIdentity {
    NodeIdentity::new(domain(), "worker-a", "0f0cdd2f-8c8f-4d4e-9f5c-2a1f9d3f7b11").unwrap()
}

pub(crate) fn node_b() -> NodeIdentity {
    NodeIdentity::new(domain(), "worker-b", "77b1f6a0-3f0e-4b3c-8f5a-6d1f0e6f2c22").unwrap()
}

pub(crate) fn uri(node: &NodeIdentity) -> SanType {
    SanType::URI(node.to_string().try_into().unwrap())
}

/// A node's generation 3, with two lanes and two addresses.
pub(crate) fn statement(node: &NodeIdentity) -> Statement {
    Statement {
        cluster: "5f6a2f0c-1a54-4d7c-b4b9-0d5a0f1c9e33".into(),
        node: node.clone(),
        generation: 3,
        lanes: vec![
            Lane {
                public_key: [1; 32],
                port: 23400,
            },
            Lane {
                public_key: [2; 32],
                port: 23401,
            },
        ],
        addresses: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()],
    }
}

/// A mesh with one CA.
pub(crate) struct Mesh {
    pub(crate) ca: MeshCa,
    pub(crate) bundle: TrustBundle,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self::of(MeshCa::generate(&domain(), NOW).unwrap())
    }

    pub(crate) fn of(ca: MeshCa) -> Self {
        Self {
            bundle: (&ca).into(),
            ca,
        }
    }

    /// A certificate for this node and a key that is thrown away.
    pub(crate) fn chain(&self, node: &NodeIdentity) -> Vec<CertificateDer<'static>> {
        chain_from_pem(&self.ca.sign(&approved(node), NOW).unwrap()).unwrap()
    }

    /// A key and a certificate, by the way that nodes go.
    pub(crate) fn credential(&self, node: &NodeIdentity) -> Credential {
        let key = NodeKey::generate().unwrap();
        let approved = Spec::with(&key, node).check(node).unwrap();
        let pem = self.ca.sign(&approved, NOW).unwrap();
        Credential::new(key, &pem, node, &self.bundle, NOW).unwrap()
    }
}

/// A CertificateSigningRequest's spec.
pub(crate) struct Spec {
    pub(crate) request: String,
    pub(crate) signer: String,
    pub(crate) username: String,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
    pub(crate) usages: Vec<String>,
    pub(crate) expiration_seconds: Option<i32>,
}

impl Spec {
    /// As this node asks for itself.
    pub(crate) fn of(node: &NodeIdentity) -> Self {
        Self::with(&NodeKey::generate().unwrap(), node)
    }

    /// As this node asks for itself with this key.
    pub(crate) fn with(key: &NodeKey, node: &NodeIdentity) -> Self {
        let claim = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        Self {
            request: key.request(node).unwrap(),
            signer: SIGNER.into(),
            username: "system:serviceaccount:hauberk-system:keyd-node".into(),
            extra: [claim(NODE_NAME, node.name()), claim(NODE_UID, node.uid())].into(),
            usages: USAGES.map(Into::into).into(),
            expiration_seconds: None,
        }
    }

    /// What the signer says, to whom this node is live.
    pub(crate) fn check(&self, node: &NodeIdentity) -> Result<Approved, Refusal> {
        let applicant = Applicant {
            signer: &self.signer,
            username: &self.username,
            extra: &self.extra,
            usages: &self.usages,
            expiration_seconds: self.expiration_seconds,
        };
        let expected = Expected {
            namespace: "hauberk-system",
            service_account: "keyd-node",
            node,
        };
        request::check(&self.request, &applicant, &expected)
    }
}

pub(crate) fn approved(node: &NodeIdentity) -> Approved {
    Spec::of(node).check(node).unwrap()
}

/// What a request for this node is made from.
pub(crate) fn params(node: &NodeIdentity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(node)];
    params
}

/// Node A's request, after `change`.
pub(crate) fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = params(&node_a());
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

/// What a certificate for node A is made from, valid for a day around `now`.
fn node_params(now: UnixTime) -> CertificateParams {
    let mut params = params(&node_a());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    Validity::starting(now, days(1)).apply(&mut params);
    params
}

/// Node A's certificate, after `change`, signed by itself.
pub(crate) fn self_signed(
    algorithm: &'static SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    self_signed_by(&KeyPair::generate_for(algorithm).unwrap(), change)
}

/// The same, by this key.
pub(crate) fn self_signed_by(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = node_params(NOW);
    change(&mut params);
    params.self_signed(key).unwrap().der().to_vec()
}

/// Node A's certificate, after `change`, signed by this CA without asking it.
pub(crate) fn signed_by(
    ca: &MeshCa,
    now: UnixTime,
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateDer<'static> {
    let mut params = node_params(now);
    change(&mut params);
    params
        .signed_by(&KeyPair::generate().unwrap(), ca.issuer())
        .unwrap()
        .into()
}

/// Node A's certificate under an intermediate under a CA, and what trusts that CA. The intermediate may be
/// none, but a node.
pub(crate) fn chain_with_intermediate(is_ca: bool) -> (TrustBundle, Vec<CertificateDer<'static>>) {
    let (bundle, chain, _) = under_intermediate(is_ca);
    (bundle, chain)
}

/// Node A's credential under an intermediate.
pub(crate) fn credential_with_intermediate() -> (TrustBundle, Credential) {
    let (bundle, chain, key) = under_intermediate(true);
    let pem: String = chain
        .iter()
        .map(|der| pem::encode(pem::CERTIFICATE, der).to_string())
        .collect();
    let key = NodeKey::from_pem(&key.serialize_pem()).unwrap();
    let credential = Credential::new(key, &pem, &node_a(), &bundle, NOW).unwrap();
    (bundle, credential)
}

fn under_intermediate(is_ca: bool) -> (TrustBundle, Vec<CertificateDer<'static>>, KeyPair) {
    let [root, middle, node] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let mut params = node_params(NOW);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let certificate = params.self_signed(&root).unwrap();
    let bundle = TrustBundle::from_pem(&certificate.pem()).unwrap();
    let root = Issuer::new(params.clone(), root);

    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "middle");
    if !is_ca {
        params.is_ca = IsCa::ExplicitNoCa;
    }
    let between = params.signed_by(&middle, &root).unwrap();
    let middle = Issuer::new(params, middle);
    let leaf = node_params(NOW).signed_by(&node, &middle).unwrap();
    (bundle, vec![leaf.into(), between.into()], node)
}
