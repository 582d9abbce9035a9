//! NodeTunnels of the synthetic nodes, with bindings that verify: made with the mesh authority's own key, which an
//! administrator can read, by the same steps as a node and the controller go through.

use std::collections::BTreeMap;

use hauberk_api::PublicKey;
use hauberk_certs::{
    Credential, Lane, MeshCa, NodeIdentity, NodeKey, Statement, TrustBundle, TrustDomain, UnixTime, binding,
    request::{self, Applicant, Expected},
};
use serde_json::{Value, json};

use super::{error::ScaleError, objects::Host};

/// First port of the lanes, as by default.
const LISTEN_PORT: u16 = 23400;

/// What the controller has published, and what it keeps to itself.
pub struct Signing {
    ca: MeshCa,
    bundle: TrustBundle,
    trust_domain: TrustDomain,
    cluster: String,
}

impl Signing {
    /// From the Secret with the authority (its entries are base64) and the ConfigMap with the trust bundle.
    pub fn new(secret: &Value, bundle: &Value) -> Result<Self, ScaleError> {
        let text = |name: &str| bundle["data"][name].as_str().unwrap_or_default();
        let entry = |name: &str| decoded(&secret["data"][name]).ok_or_else(|| failed(format!("no {name}")));
        let trust_domain: TrustDomain = text("trust-domain").parse().map_err(failed)?;
        Ok(Self {
            ca: MeshCa::load(&entry("tls.crt")?, &entry("tls.key")?, &trust_domain).map_err(failed)?,
            bundle: TrustBundle::from_pem(text("trust-bundle.pem")).map_err(failed)?,
            trust_domain,
            cluster: text("cluster").to_owned(),
        })
    }

    /// The NodeTunnel of a synthetic node with this UID: one generation for each id, of so many lanes.
    pub fn tunnel(&self, host: Host, uid: &str, ids: &[u64], lanes: u16) -> Result<Value, ScaleError> {
        let name = host.name();
        let credential = self.credential(&name, uid)?;
        let addresses = host.addresses();
        let generations = ids.iter().map(|id| {
            let first = LISTEN_PORT + lanes * (id % 2) as u16;
            let lanes: Vec<_> = (first..first + lanes)
                .map(|port| Lane {
                    public_key: public_key(host.number, *id, port),
                    port,
                })
                .collect();
            let told: Vec<_> = lanes
                .iter()
                .map(|lane| json!({"publicKey": PublicKey::from_bytes(lane.public_key), "port": lane.port}))
                .collect();
            let statement = Statement {
                cluster: self.cluster.clone(),
                node: credential.identity().clone(),
                generation: *id,
                lanes,
                addresses: addresses.to_vec(),
            };
            let binding = binding::sign(&credential, &statement, UnixTime::now()).map_err(failed)?;
            Ok(json!({"id": id, "lanes": told, "binding": binding}))
        });
        let generations = generations.collect::<Result<Vec<_>, ScaleError>>()?;
        Ok(json!({
            "apiVersion": "hauberk.dev/v1alpha1",
            "kind": "NodeTunnel",
            "metadata": {
                "name": name,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
            },
            "spec": {"generations": generations, "addresses": addresses},
        }))
    }

    fn credential(&self, name: &str, uid: &str) -> Result<Credential, ScaleError> {
        let identity = NodeIdentity::new(self.trust_domain.clone(), name, uid).map_err(failed)?;
        let key = NodeKey::generate().map_err(failed)?;
        let csr = key.request(&identity).map_err(failed)?;
        let extra = BTreeMap::from([
            (request::NODE_NAME.to_owned(), vec![name.to_owned()]),
            (request::NODE_UID.to_owned(), vec![uid.to_owned()]),
        ]);
        let applicant = Applicant {
            signer: request::SIGNER,
            username: "system:serviceaccount:hauberk-system:hauberk-keyd",
            extra: &extra,
            usages: &request::USAGES.map(str::to_owned),
            expiration_seconds: None,
        };
        let expected = Expected {
            namespace: "hauberk-system",
            service_account: "hauberk-keyd",
            node: &identity,
        };
        let approved = request::check(&csr, &applicant, &expected).map_err(failed)?;
        let chain = self.ca.sign(&approved, UnixTime::now()).map_err(failed)?;
        Credential::new(key, &chain, &identity, &self.bundle, UnixTime::now()).map_err(failed)
    }
}

/// The status that a node in a quiet mesh has.
pub fn tunnel_status(host: Host) -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    };
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "NodeTunnel",
        "metadata": {"name": host.name()},
        "status": {"conditions": [
            condition("Ready", "True", "InForce", "kernel and tunnel are as the cluster's objects say"),
            condition("Encrypted", "True", "AllPairsStrict", ""),
            condition("Degraded", "False", "AsExpected", ""),
        ]},
    })
}

/// A key that nobody has the private part of; another one for each lane of each generation.
fn public_key(node: usize, id: u64, port: u16) -> [u8; 32] {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&(node as u64).to_be_bytes());
    key[8..16].copy_from_slice(&id.to_be_bytes());
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key
}

fn decoded(entry: &Value) -> Option<String> {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(entry.clone()).ok()?;
    String::from_utf8(bytes.0).ok()
}

fn failed(error: impl std::fmt::Display) -> ScaleError {
    ScaleError::Sign(error.to_string())
}
