//! The cluster of these tests: nodes a, b and c, each with one pod and two lanes.

use hauberk_api::{
    EncryptionSpec, ExternalPeerSpec, GenerationSpec, Mesh, MeshSpec, NodeTunnelSpec, PolicySpec,
};

use super::super::*;
use crate::snapshot::{Node, ObjectName, Pod};

pub(super) const VIA: u32 = 2;

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn key(text: &str) -> (abi::Addr, u8) {
    lpm_key(net(text))
}

pub(super) fn pod_name(name: &str) -> ObjectName {
    ObjectName {
        namespace: "default".into(),
        name: name.into(),
    }
}

pub(super) fn node(index: u8) -> Node {
    Node {
        addresses: vec![
            format!("192.168.77.{index}").parse().unwrap(),
            format!("fd77::{index}").parse().unwrap(),
        ],
        pod_cidrs: vec![
            net(&format!("10.77.{index}.0/24")),
            net(&format!("fd77:{index}::/64")),
        ],
        ..Default::default()
    }
}

pub(super) fn pod(node: &str, index: u8, host: u8) -> Pod {
    Pod {
        node: Some(node.into()),
        addresses: vec![
            format!("10.77.{index}.{host}").parse().unwrap(),
            format!("fd77:{index}::{host}").parse().unwrap(),
        ],
        labels: BTreeMap::from([("app".to_owned(), node.to_owned())]),
        service_account: "default".into(),
        ..Default::default()
    }
}

pub(super) fn node_tunnel(name: &str, index: u8, lanes: u8) -> NodeTunnel {
    let lane = |lane| LaneSpec {
        public_key: PublicKey::from_bytes([index * 16 + lane; 32]),
        port: 23400 + u16::from(lane),
    };
    let generations = match lanes {
        0 => Vec::new(),
        _ => vec![GenerationSpec {
            id: 1,
            lanes: (0..lanes).map(lane).collect(),
            binding: None,
        }],
    };
    NodeTunnel::new(
        name,
        NodeTunnelSpec {
            generations,
            addresses: node(index).addresses,
        },
    )
}

pub(super) fn mesh(enabled: bool) -> Mesh {
    let encryption = EncryptionSpec {
        enabled,
        ..Default::default()
    };
    let policy = PolicySpec {
        enforcer: Some(Enforcer::Hauberk),
        ..Default::default()
    };
    Mesh::new(
        "default",
        MeshSpec {
            encryption,
            policy,
            ..Default::default()
        },
    )
}

pub(super) fn cluster(enabled: bool) -> Snapshot {
    let mut snapshot = Snapshot {
        mesh: Some(mesh(enabled)),
        ..Default::default()
    };
    for (name, index) in [("a", 1), ("b", 2), ("c", 3)] {
        snapshot.nodes.insert(name.into(), node(index));
        snapshot.tunnels.insert(name.into(), node_tunnel(name, index, 2));
        snapshot
            .pods
            .insert(&pod_name(&format!("{name}1")), &pod(name, index, 2));
    }
    snapshot
}

pub(super) fn local() -> Local {
    let own = node_tunnel("a", 1, 2).newest_generation().unwrap().clone();
    let via = remote_prefixes(&cluster(true), &Memory::default(), "a")
        .into_iter()
        .map(|prefix| (prefix, VIA))
        .collect();
    Local {
        node: "a".into(),
        cores: 2,
        generations: vec![LocalGeneration {
            id: 1,
            slot_base: 4,
            lanes: own.lanes,
            connected: BTreeSet::new(),
        }],
        attached: Vec::new(),
        pod_interfaces: BTreeMap::from([("10.77.1.2".parse().unwrap(), 11)]),
        via,
        addresses: BTreeSet::new(),
        problems: Vec::new(),
        rule: None,
    }
}

pub(super) fn with_phases(phase: Phase) -> Memory {
    let phases = ["b", "c"].map(|name| (name.to_owned(), phase)).into();
    Memory {
        phases,
        ..Default::default()
    }
}

pub(super) fn external(prefix: &str, key: u8) -> ExternalPeerSpec {
    ExternalPeerSpec {
        public_key: PublicKey::from_bytes([key; 32]),
        preshared_key_secret_ref: None,
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        allowed_ips: vec![net(prefix)],
        persistent_keepalive: Some(25),
    }
}
