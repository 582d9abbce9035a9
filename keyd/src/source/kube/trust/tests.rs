//! Which generations are accepted, and for how long.

use std::time::Duration;

use hauberk_api::{LaneSpec, NodeTunnelSpec, PublicKey};
use hauberk_certs::request::{self, Applicant, Expected};
use hauberk_certs::{Credential, MeshCa, NodeKey};

use super::*;
use crate::snapshot::{Node, Origin};

const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));
const CLUSTER_ID: &str = "b5c9";
const UID_OF_B: &str = "6f3a1c52-3c4b-4b0e-9d55-0d1e1a2b3c4d";

fn later(hours: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs() + hours * 3600))
}

/// An authority, and a judge on node a that trusts it.
struct Mesh {
    ca: MeshCa,
    trust: Trust,
}

impl Mesh {
    fn new() -> Self {
        let ca = MeshCa::generate(&"cluster.local".parse().unwrap(), NOW).unwrap();
        let trust = judge_that_trusts(&ca);
        Self { ca, trust }
    }

    /// What the authority gives b.
    fn credential(&self, now: UnixTime) -> Credential {
        let node = NodeIdentity::new(self.ca.trust_domain().clone(), "b", UID_OF_B).unwrap();
        let key = NodeKey::generate().unwrap();
        let extra = [(request::NODE_NAME.to_owned(), vec!["b".to_owned()])].into();
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
            node: &node,
        };
        let approved = request::check(&key.request(&node).unwrap(), &applicant, &expected).unwrap();
        let chain = self.ca.sign(&approved, now).unwrap();
        Credential::new(key, &chain, &node, &TrustBundle::from(&self.ca), now).unwrap()
    }

    /// What is left of b's generations, and what is wrong with the others.
    fn judge(&mut self, generations: &[GenerationSpec], now: UnixTime) -> (Vec<u64>, String) {
        let mut snapshot = Snapshot::default();
        let origin = Origin {
            created: None,
            uid: Some(UID_OF_B.to_owned()),
        };
        let node = Node {
            origin,
            ..Node::default()
        };
        snapshot.nodes.insert("b".to_owned(), node);
        let spec = NodeTunnelSpec {
            generations: generations.to_vec(),
            addresses: addresses(),
        };
        snapshot
            .tunnels
            .insert("b".to_owned(), NodeTunnel::new("b", spec));
        let problems = self.trust.keep_verified(&mut snapshot, now);
        let left = snapshot.tunnels["b"].spec.generations.iter().map(|left| left.id);
        let told = problems.iter().map(|problem| format!("{problem}\n"));
        (left.collect(), told.collect())
    }
}

fn judge_that_trusts(ca: &MeshCa) -> Trust {
    let mut trust = Trust::new("a", watch::Sender::new(None));
    assert!(trust.set_anchors(Some(Anchors {
        bundle: Arc::new(TrustBundle::from(ca)),
        trust_domain: ca.trust_domain().clone(),
        cluster: CLUSTER_ID.to_owned(),
    })));
    trust
}

fn addresses() -> Vec<IpAddr> {
    vec!["192.0.2.2".parse().unwrap()]
}

fn generation(id: u64, credential: &Credential, now: UnixTime) -> GenerationSpec {
    let mut generation = GenerationSpec {
        id,
        lanes: vec![LaneSpec {
            public_key: PublicKey::from_bytes([id as u8; 32]),
            port: 23400,
        }],
        binding: None,
    };
    let statement = statement(CLUSTER_ID, credential.identity(), &addresses(), &generation);
    generation.binding = Some(binding::sign(credential, &statement, now).unwrap());
    generation
}

#[test]
fn what_was_accepted_stays_past_its_expiry_and_what_is_new_does_not_come_in() {
    let mut mesh = Mesh::new();
    let first = generation(1, &mesh.credential(NOW), NOW);
    assert_eq!(mesh.judge(std::slice::from_ref(&first), NOW).0, [1]);
    assert_eq!(mesh.judge(std::slice::from_ref(&first), later(48)).0, [1]);

    // Another node that starts only now.
    mesh.trust = judge_that_trusts(&mesh.ca);
    let (left, told) = mesh.judge(&[first], later(48));
    assert!(left.is_empty() && told.contains("expired"), "{told}");
}

#[test]
fn an_older_generation_is_refused_once_a_newer_one_was_seen_but_may_stand_beside_it() {
    let mut mesh = Mesh::new();
    let credential = mesh.credential(NOW);
    let [first, second] = [1, 2].map(|id| generation(id, &credential, NOW));
    assert_eq!(mesh.judge(&[first.clone(), second.clone()], NOW).0, [1, 2]);
    assert_eq!(mesh.judge(std::slice::from_ref(&second), NOW).0, [2]);
    let (left, told) = mesh.judge(&[first], NOW);
    assert!(
        left.is_empty() && told.contains("NodeTunnel b: generation 1"),
        "{told}"
    );
    // Renewed while both stand: neither is a replay.
    let renewed = mesh.credential(later(16));
    let [first, second] = [1, 2].map(|id| generation(id, &renewed, later(16)));
    assert_eq!(mesh.judge(&[first, second], later(16)).0, [1, 2]);
}

#[test]
fn a_newer_number_that_nothing_vouches_for_brings_no_old_keys_back() {
    let mut mesh = Mesh::new();
    let credential = mesh.credential(NOW);
    let [first, second] = [1, 2].map(|id| generation(id, &credential, NOW));
    assert_eq!(mesh.judge(&[first.clone(), second.clone()], NOW).0, [1, 2]);
    let forged = GenerationSpec { id: 9, ..second };
    let (left, told) = mesh.judge(&[first, forged], NOW);
    assert!(
        left.is_empty() && told.contains("generation 1: binding: older"),
        "{told}"
    );
}

#[test]
fn whoever_copies_a_nodes_keys_takes_nothing_from_it() {
    let mut mesh = Mesh::new();
    let own = generation(1, &mesh.credential(NOW), NOW);
    assert_eq!(mesh.judge(std::slice::from_ref(&own), NOW).0, [1]);
    let held = mesh.trust.held();
    let told = own_keys("thief", &own, &held).unwrap_err();
    assert_eq!(told, "its keys are those of NodeTunnel b");
    assert_eq!(own_keys("b", &own, &held), Ok(()));
}

#[test]
fn a_changed_lane_and_a_missing_binding_are_refused_and_named() {
    let mut mesh = Mesh::new();
    let good = generation(1, &mesh.credential(NOW), NOW);
    let mut changed = good.clone();
    changed.lanes[0].port += 1;
    let (left, told) = mesh.judge(&[changed], NOW);
    assert!(left.is_empty() && !told.is_empty(), "{told}");
    let mut unsigned = good;
    unsigned.binding = None;
    let (left, told) = mesh.judge(&[unsigned], NOW);
    assert!(left.is_empty() && told.contains("no binding"), "{told}");
}

#[test]
fn without_a_trust_bundle_nothing_new_is_accepted_and_what_was_stays() {
    let mut mesh = Mesh::new();
    let credential = mesh.credential(NOW);
    let [first, second] = [1, 2].map(|id| generation(id, &credential, NOW));
    assert_eq!(mesh.judge(std::slice::from_ref(&first), NOW).0, [1]);
    mesh.trust.set_anchors(None);
    let (left, told) = mesh.judge(&[first, second], NOW);
    assert_eq!(left, [1]);
    assert!(told.contains(BUNDLE), "{told}");
}
