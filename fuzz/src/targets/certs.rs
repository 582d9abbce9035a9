//! What nodes and the controller read of each other: names, requests for certificates, trust bundles, bindings.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hauberk_certs::request::{self, Applicant, Expected};
use hauberk_certs::{
    Credential, Csr, Lane, MeshCa, NodeIdentity, NodeKey, Statement, TrustBundle, UnixTime, binding,
};

use super::Target;

pub(crate) const NODE_IDENTITY: Target = Target {
    name: "node-identity",
    about: "the SPIFFE name of a node",
    seeds: || vec![NODE.to_string().into_bytes()],
    words: &["spiffe://", "/node/", "/", ".", "..", "%2e", "cluster.local"],
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let Ok(identity) = text.parse::<NodeIdentity>() else {
            return 0;
        };
        assert_eq!(identity.to_string(), text, "one name has one form");
        identity.name().len() as u64 + 1
    },
};

pub(crate) const CERTIFICATE_REQUEST: Target = Target {
    name: "certificate-request",
    about: "what a node asks the mesh's authority to sign (PKCS#10)",
    seeds: || {
        let key = NodeKey::generate().expect("the system has random numbers");
        vec![der(&key.request(&NODE).expect("a request can be made"))]
    },
    words: &[],
    run: |input| match Csr::from_der(input) {
        Ok(csr) => {
            assert_eq!(*csr.identity(), *NODE, "no changed byte passes its signature");
            1
        }
        Err(error) => error.to_string().len() as u64 + 2,
    },
};

pub(crate) const TRUST_BUNDLE: Target = Target {
    name: "trust-bundle",
    about: "certificates of authorities, in PEM",
    seeds: || vec![MESH.ca.certificate_pem().into_bytes()],
    words: &[
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "\n",
    ],
    run: |input| match TrustBundle::from_pem(&String::from_utf8_lossy(input)) {
        Ok(bundle) => {
            let again = TrustBundle::from_pem(&bundle.to_pem()).expect("what is written can be read");
            assert_eq!(again.to_pem(), bundle.to_pem());
            1
        }
        Err(error) => error.to_string().len() as u64 + 2,
    },
};

pub(crate) const BINDING: Target = Target {
    name: "binding",
    about: "a node's signature under its keys",
    seeds: || vec![STANDARD.decode(&MESH.binding).expect("a binding is base64")],
    words: &[],
    run: |input| {
        let text = STANDARD.encode(input);
        match binding::verify(&text, &MESH.bundle, MESH.statement.clone(), now()) {
            Ok(_) => assert_eq!(text, MESH.binding, "no changed byte passes the signature"),
            Err(error) => return error.to_string().len() as u64 + 2,
        }
        1
    },
};

static NODE: LazyLock<NodeIdentity> = LazyLock::new(|| {
    let domain = "cluster.local".parse().expect("a trust domain");
    NodeIdentity::new(domain, "a", "6f3a1c52-3c4b-4b0e-9d55-0d1e1a2b3c4d").expect("a node's name")
});
static MESH: LazyLock<Mesh> = LazyLock::new(Mesh::new);

/// An authority and a node with one binding.
struct Mesh {
    ca: MeshCa,
    bundle: TrustBundle,
    statement: Statement,
    binding: String,
}

impl Mesh {
    fn new() -> Self {
        let ca = MeshCa::generate(NODE.trust_domain(), now()).expect("an authority");
        let bundle = TrustBundle::from(&ca);
        let key = NodeKey::generate().expect("the system has random numbers");
        let extra = [(request::NODE_NAME.to_owned(), vec![NODE.name().to_owned()])].into();
        let usages = request::USAGES.map(str::to_owned);
        let applicant = Applicant {
            signer: request::SIGNER,
            username: "system:serviceaccount:hauberk-system:hauberk-keyd",
            extra: &extra,
            usages: &usages,
            expiration_seconds: None,
        };
        let expected = Expected {
            namespace: "hauberk-system",
            service_account: "hauberk-keyd",
            node: &NODE,
        };
        let request = key.request(&NODE).expect("a request can be made");
        let approved = request::check(&request, &applicant, &expected).expect("it is as it has to be");
        let chain = ca.sign(&approved, now()).expect("a certificate");
        let credential = Credential::new(key, &chain, &NODE, &bundle, now()).expect("a credential");
        let statement = Statement {
            cluster: "cluster".to_owned(),
            node: NODE.clone(),
            generation: 1,
            lanes: vec![Lane {
                public_key: [7; 32],
                port: 23400,
            }],
            addresses: vec![IpAddr::from(Ipv4Addr::new(192, 168, 77, 1))],
        };
        let binding = binding::sign(&credential, &statement, now()).expect("a binding");
        Self {
            ca,
            bundle,
            statement,
            binding,
        }
    }
}

/// The same in every run: 2026-01-01.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600))
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("PEM is base64")
}
