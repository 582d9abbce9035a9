//! Three nodes with pods, seen from node a.

mod cluster;
mod follow;
mod policy;

use hauberk_api::{ExternalPeer, MeshStatus};

use super::*;
use crate::snapshot::Pod;
use cluster::*;

fn encrypted(desired: &DesiredState) -> (String, String, String) {
    let found = desired.publish.condition("Encrypted").unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn every_address_is_known_by_its_longest_prefix_in_both_families() {
    let mut memory = with_phases(Phase::Strict);
    let desired = compute(&cluster(true), &local(), &mut memory).unwrap();
    let number = |node: &str| desired.pairs[node].number;
    let entry = |text: &str| desired.ipcache[&key(text)];
    for (prefix, pod, host) in [
        ("10.77.2.0/24", "10.77.2.2/32", "192.168.77.2/32"),
        ("fd77:2::/64", "fd77:2::2/128", "fd77::2/128"),
    ] {
        assert_eq!(
            (entry(prefix).peer, entry(prefix).ifindex, entry(prefix).flags),
            (number("b"), VIA, 0)
        );
        assert_eq!((entry(pod).peer, entry(pod).ifindex), (number("b"), VIA));
        assert_ne!(entry(pod).identity, 0);
        assert_eq!((entry(host).peer, entry(host).flags), (number("b"), abi::IP_NODE));
    }
    assert_eq!(entry("192.168.77.1/32").flags, abi::IP_NODE | abi::IP_SELF);
    assert_eq!(
        (entry("10.77.1.2/32").flags, entry("10.77.1.2/32").ifindex),
        (abi::IP_LOCAL_POD, 11)
    );
    assert_eq!(
        (entry("fd77:1::2/128").peer, entry("fd77:1::2/128").ifindex),
        (abi::NO_PEER, 11)
    );
    assert_eq!(desired.pods.keys().copied().collect::<Vec<_>>(), [11]);
    assert_eq!(desired.pod_addresses.len(), 2);
}

#[test]
fn a_bridges_address_among_the_pods_is_the_nodes_and_another_device_does_not_matter() {
    let local = Local {
        addresses: [
            "10.77.1.1",
            "fd77:1::1",
            "172.17.0.1",
            "192.168.77.1",
            "10.77.2.1",
        ]
        .map(|text| text.parse().unwrap())
        .into(),
        ..local()
    };
    let desired = compute(&cluster(true), &local, &mut with_phases(Phase::Strict)).unwrap();
    let found = |text: &str| {
        desired
            .ipcache
            .get(&key(text))
            .map(|entry| (entry.peer, entry.flags))
    };
    let own = Some((abi::NO_PEER, abi::IP_NODE | abi::IP_SELF));
    for address in ["10.77.1.1/32", "fd77:1::1/128", "192.168.77.1/32"] {
        assert_eq!(found(address), own, "{address}");
    }
    assert_eq!((found("172.17.0.1/32"), found("10.77.2.1/32")), (None, None));
}

#[test]
fn a_pod_that_only_cni_told_of_has_interface_addresses_and_identity_and_takes_what_an_ended_one_claims() {
    let attached = |name: &str, addresses: [&str; 2], interface| Attached {
        pod: Some(pod_name(name)),
        addresses: addresses.map(|text| text.parse().unwrap()).into(),
        interface,
        ..Attached::default()
    };
    let local = Local {
        attached: vec![
            attached("new", ["10.77.1.9", "fd77:1::9"], 12),
            // On the interface, and with one of the addresses, of the API's pod a1.
            attached("next", ["10.77.1.2", "fd77:2::9"], 11),
        ],
        ..local()
    };
    let desired = compute(&cluster(true), &local, &mut with_phases(Phase::Strict)).unwrap();
    let at = |text: &str| {
        (
            desired.ipcache[&key(text)].flags,
            desired.ipcache[&key(text)].ifindex,
        )
    };
    for (address, interface) in [("10.77.1.9/32", 12), ("fd77:1::9/128", 12), ("10.77.1.2/32", 11)] {
        assert_eq!(at(address), (abi::IP_LOCAL_POD, interface), "{address}");
    }
    assert_eq!(
        at("fd77:1::2/128"),
        (0, 0),
        "the ended pod has no interface any more"
    );
    assert!(
        !desired.ipcache.contains_key(&key("fd77:2::9/128")),
        "another node's to give"
    );
    let identity = |address| desired.ipcache[&key(address)].identity;
    assert_eq!(
        identity("10.77.1.9/32"),
        identity("10.77.1.2/32"),
        "both are of their namespace, without labels"
    );
    assert_eq!(desired.pod_addresses.len(), 3);
    let degraded = desired.publish.condition("Degraded").unwrap();
    assert!(
        degraded.message.contains("address fd77:2::9 that CNI gave"),
        "{}",
        degraded.message
    );
}

#[test]
fn covered_are_all_podcidrs_unless_the_mesh_names_prefixes() {
    let mut snapshot = cluster(true);
    let covered = |snapshot: &Snapshot| {
        compute(snapshot, &local(), &mut Memory::default())
            .unwrap()
            .covered
    };
    assert_eq!(covered(&snapshot).len(), 5, "two of IPv4 are one");
    snapshot.mesh.as_mut().unwrap().spec.encryption.pod_cidrs = vec![net("10.77.9.9/16")];
    assert_eq!(covered(&snapshot), BTreeSet::from([net("10.77.0.0/16")]));
}

#[test]
fn what_was_encrypted_for_a_node_that_is_gone_is_dropped_until_the_flag_is_off() {
    let mut memory = with_phases(Phase::Ready);
    memory.phases.insert("b".into(), Phase::Sending);
    let before = compute(&cluster(true), &local(), &mut memory).unwrap();
    let number = before.pairs["b"].number;
    let gone = |enabled| {
        let mut snapshot = cluster(enabled);
        snapshot.nodes.remove("b");
        snapshot
    };
    // The second is a process that has never seen the Node.
    let again = serde_json::from_slice(&serde_json::to_vec(&memory).unwrap());
    for memory in [&mut memory, &mut again.unwrap()] {
        let after = compute(&gone(true), &local(), memory).unwrap();
        assert_eq!(after.covered, before.covered);
        for (prefix, flags) in [("fd77:2::/64", 0), ("192.168.77.2/32", abi::IP_NODE)] {
            let entry = after.ipcache[&key(prefix)];
            assert_eq!((entry.peer, entry.flags), (number, flags));
        }
        let peer = after.peers[&number];
        assert_eq!((peer.phase, peer.sessions), (Phase::Sending.number(), 0));
        assert!(!after.pairs.contains_key("b"));
    }
    let off = compute(&gone(false), &local(), &mut memory).unwrap();
    assert!(!off.peers.contains_key(&number));
    assert!(
        !off.covered
            .iter()
            .any(|prefix| prefix.contains(&net("10.77.2.0/24")))
    );
}

#[test]
fn a_mistaken_prefix_can_be_taken_back_and_a_node_without_prefixes_keeps_those_it_had() {
    let mut memory = with_phases(Phase::Sending);
    let mut with = |prefixes: Vec<IpNet>| {
        let mut snapshot = cluster(true);
        snapshot.nodes.get_mut("b").unwrap().pod_cidrs = prefixes;
        compute(&snapshot, &local(), &mut memory).unwrap().covered
    };
    let mistaken = net("172.16.0.0/12");
    assert!(with(vec![mistaken]).contains(&mistaken));
    assert!(with(Vec::new()).contains(&mistaken));
    assert!(!with(vec![net("10.77.2.0/24")]).contains(&mistaken));
}

#[test]
fn what_cannot_be_computed_says_why_and_gives_nothing() {
    let fails = |snapshot: &Snapshot| compute(snapshot, &local(), &mut Memory::default()).unwrap_err();
    let mut snapshot = cluster(true);
    for node in snapshot.nodes.values_mut() {
        node.pod_cidrs.clear();
    }
    assert_eq!(fails(&snapshot), NotReady::NothingCovered);
    snapshot.nodes.get_mut("a").unwrap().addresses.clear();
    assert_eq!(fails(&snapshot), NotReady::NoNodeAddress("a".into()));
    snapshot.nodes.remove("a");
    assert_eq!(fails(&snapshot), NotReady::NoNode("a".into()));
    snapshot.mesh = None;
    assert_eq!(fails(&snapshot), NotReady::NoMesh);
}

#[test]
fn a_deleted_mesh_switches_nothing_off() {
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    let before = compute(&snapshot, &local(), &mut memory).unwrap();
    snapshot.mesh = None;
    assert_eq!(compute(&snapshot, &local(), &mut memory).unwrap(), before);
}

#[test]
fn each_lane_holds_one_session_a_peer_and_both_sides_pair_the_same_lanes() {
    let snapshot = cluster(true);
    let from_a = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    let own = node_tunnel("b", 2, 2).newest_generation().unwrap().clone();
    let generations = vec![LocalGeneration {
        id: 1,
        lanes: own.lanes.clone(),
        ..Default::default()
    }];
    let local_b = Local {
        node: "b".into(),
        generations,
        ..local()
    };
    let from_b = compute(&snapshot, &local_b, &mut Memory::default()).unwrap();
    let of = |desired: &DesiredState, peer: &str| {
        let owner = PeerOwner::Node(peer.to_owned());
        let mut sessions = BTreeMap::new();
        for (lane, peers) in &desired.lane_peers {
            let mut found = peers.iter().filter(|(_, peer)| peer.owner == owner);
            let (key, peer) = found.next().unwrap();
            assert!(found.next().is_none());
            sessions.insert(peer.session, (lane.lane, *key));
        }
        sessions
    };
    let (a, b) = (of(&from_a, "b"), of(&from_b, "a"));
    let lanes_a = node_tunnel("a", 1, 2).newest_generation().unwrap().lanes.clone();
    for session in 0..2 {
        assert_eq!(lanes_a[a[&session].0].public_key, b[&session].1);
        assert_eq!(own.lanes[b[&session].0].public_key, a[&session].1);
    }
    let peer = from_a.peers[&from_a.pairs["b"].number];
    assert_eq!((peer.sessions, peer.lanes, peer.slot_base), (2, 2, 4));
    assert_eq!(
        from_a.pairs["b"].session,
        Some((
            LaneId {
                generation: 1,
                lane: a[&0].0
            },
            a[&0].1
        ))
    );
    assert_eq!(peer.shift as usize, a[&0].0);
}

#[test]
fn a_peer_gets_its_prefixes_and_node_addresses_and_one_reachable_endpoint() {
    let desired = compute(&cluster(true), &local(), &mut Memory::default()).unwrap();
    let peers = desired.lane_peers.values().flat_map(BTreeMap::values);
    let peer = peers
        .into_iter()
        .find(|peer| peer.owner == PeerOwner::Node("b".into()))
        .unwrap();
    let allowed: BTreeSet<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(
        allowed,
        BTreeSet::from(["10.77.2.0/24", "fd77:2::/64", "192.168.77.2/32", "fd77::2/128"].map(String::from))
    );
    assert!(
        peer.endpoint
            .unwrap()
            .to_string()
            .starts_with("192.168.77.2:2340")
    );
    assert_eq!(peer.control, Some("192.168.77.2:23399".parse().unwrap()));
}

#[test]
fn a_removed_tunnel_of_a_pair_that_encrypts_keeps_the_phase_and_drops() {
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    snapshot.tunnels.remove("b");
    let desired = compute(&snapshot, &local(), &mut memory).unwrap();
    let facts = &desired.pairs["b"];
    assert_eq!((facts.keys, facts.session), (PeerKeys::NoTunnel, None));
    let peer = desired.peers[&facts.number];
    assert_eq!((peer.phase, peer.sessions), (abi::PHASE_STRICT, 0));
    assert_eq!(
        desired.publish.condition("Degraded").unwrap().reason,
        "PeerKeyMissing"
    );
    assert_eq!(encrypted(&desired).0, "True");
}

#[test]
fn a_node_that_cannot_take_part_is_cut_off_from_the_start_or_exempt() {
    let mut snapshot = cluster(true);
    snapshot.tunnels.remove("b");
    let desired = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    assert_eq!(desired.pairs["b"].initial, Phase::Strict);
    assert_eq!(desired.pairs["c"].initial, Phase::Off);
    snapshot.mesh.as_mut().unwrap().spec.encryption.unreachable_nodes = Some(UnreachableNodes::Exempt);
    let mut memory = with_phases(Phase::Strict);
    memory.phases.insert("b".into(), Phase::Off);
    let desired = compute(&snapshot, &local(), &mut memory).unwrap();
    assert_eq!(desired.peers[&desired.pairs["b"].number].phase, abi::PHASE_OFF);
    assert_eq!(encrypted(&desired).1, "UnreachableNodesExempt");
    assert!(memory.drop_unknown);
}

#[test]
fn a_node_new_to_an_encrypted_mesh_starts_strict() {
    let mut snapshot = cluster(true);
    // Also while some node lags again.
    snapshot.mesh_status = Some(MeshStatus {
        phase: hauberk_api::MeshPhase::Enabling,
        sealed: true,
        ..Default::default()
    });
    let desired = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    assert!(desired.pairs.values().all(|facts| facts.initial == Phase::Strict));
    assert_eq!(
        desired.config.flags,
        abi::CONFIG_ENFORCE | abi::CONFIG_DROP_UNKNOWN
    );
    snapshot.mesh = Some(mesh(false));
    let desired = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    assert!(desired.pairs.values().all(|facts| facts.initial == Phase::Off));
}

#[test]
fn unknown_addresses_are_dropped_once_all_pairs_send_and_until_the_flag_is_off() {
    let mut snapshot = cluster(true);
    let mut memory = with_phases(Phase::Ready);
    let drops = |snapshot: &Snapshot, memory: &mut Memory| {
        compute(snapshot, &local(), memory).unwrap().config.flags & abi::CONFIG_DROP_UNKNOWN != 0
    };
    assert!(!drops(&snapshot, &mut memory));
    memory.phases = with_phases(Phase::Sending).phases;
    assert!(drops(&snapshot, &mut memory));
    snapshot.nodes.insert("d".into(), node(4));
    snapshot.tunnels.insert("d".into(), node_tunnel("d", 4, 0));
    assert!(drops(&snapshot, &mut memory));
    snapshot.mesh = Some(mesh(false));
    assert!(!drops(&snapshot, &mut memory));
}

#[test]
fn lanes_are_up_while_the_flag_is_on_or_a_pair_is_not_off_yet() {
    let tunnel = |enabled, phase| {
        compute(&cluster(enabled), &local(), &mut with_phases(phase))
            .unwrap()
            .tunnel
    };
    let up = Tunnel::Up {
        lanes: 2,
        listen_port: 23400,
    };
    assert_eq!(tunnel(true, Phase::Off), up);
    assert_eq!(tunnel(false, Phase::Ready), up);
    assert_eq!(tunnel(false, Phase::Off), Tunnel::Down);
}

#[test]
fn the_condition_names_the_pairs_that_lag() {
    let mut memory = with_phases(Phase::Strict);
    memory.phases.insert("c".into(), Phase::Sending);
    let on = compute(&cluster(true), &local(), &mut memory).unwrap();
    assert_eq!(
        encrypted(&on),
        ("False".into(), "PairsLag".into(), "waiting for c".into())
    );
    let off = compute(&cluster(false), &local(), &mut memory).unwrap();
    assert_eq!(encrypted(&off).2, "waiting for b, c");
    let off = compute(&cluster(false), &local(), &mut with_phases(Phase::Off)).unwrap();
    assert_eq!(
        (encrypted(&off).0, encrypted(&off).1),
        ("False".into(), "Off".into())
    );
}

#[test]
fn numbers_stay_when_pods_and_nodes_come_and_go() {
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    let before = compute(&snapshot, &local(), &mut memory).unwrap();
    snapshot.nodes.insert("aa".into(), node(4));
    snapshot.pods.insert(&pod_name("0"), &pod("aa", 4, 2));
    let after = compute(&snapshot, &local(), &mut memory).unwrap();
    for (key, entry) in &before.ipcache {
        assert_eq!(after.ipcache[key], *entry);
    }
    assert_eq!(compute(&snapshot, &local(), &mut memory).unwrap(), after);
}

#[test]
fn a_node_that_registers_anew_keeps_its_addresses_until_it_has_others() {
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    let before = compute(&snapshot, &local(), &mut memory).unwrap();
    snapshot.nodes.get_mut("b").unwrap().addresses.clear();
    let after = compute(&snapshot, &local(), &mut memory).unwrap();
    assert_eq!(after.ipcache, before.ipcache);
}

#[test]
fn the_way_to_an_address_that_a_node_keeps_is_looked_for_too() {
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    compute(&snapshot, &local(), &mut memory).unwrap();
    let before = remote_prefixes(&snapshot, &memory, "a");
    snapshot.nodes.get_mut("b").unwrap().addresses.clear();
    assert_eq!(remote_prefixes(&snapshot, &memory, "a"), before);
}

#[test]
fn an_address_that_was_refused_is_not_kept_from_before() {
    // Nobody's pods had it when b said that it was its own.
    let stolen: IpAddr = "10.77.9.9".parse().unwrap();
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    snapshot.nodes.get_mut("b").unwrap().addresses = vec![stolen];
    let key = lpm_key(stolen.into());
    let before = compute(&snapshot, &local(), &mut memory).unwrap();
    assert_ne!(before.ipcache[&key].flags & abi::IP_NODE, 0);
    snapshot.nodes.insert("i".into(), node(9));
    for addresses in [vec![stolen], vec![]] {
        snapshot.nodes.get_mut("b").unwrap().addresses = addresses;
        let after = compute(&snapshot, &local(), &mut memory).unwrap();
        assert!(!after.ipcache.contains_key(&key));
        let peers = after.lane_peers.values().flat_map(|peers| peers.values());
        let mut allowed = peers.flat_map(|peer| &peer.allowed_ips);
        assert!(!allowed.any(|net| *net == IpNet::from(stolen)));
    }
}

#[test]
fn a_lost_node_is_forgotten_once_others_have_all_that_it_had() {
    let (mut snapshot, mut memory) = (cluster(true), with_phases(Phase::Strict));
    compute(&snapshot, &local(), &mut memory).unwrap();
    let lost = snapshot.nodes.remove("b").unwrap();
    compute(&snapshot, &local(), &mut memory).unwrap();
    let knows = |memory: &Memory| (memory.nodes.contains_key("b"), memory.phases.contains_key("b"));
    assert_eq!(knows(&memory), (true, true), "nobody has it");
    let mut other = lost.clone();
    other.addresses.clear();
    snapshot.nodes.insert("other".into(), other.clone());
    compute(&snapshot, &local(), &mut memory).unwrap();
    assert_eq!(knows(&memory), (true, true), "its own address is still nobody's");
    other.addresses.clone_from(&lost.addresses);
    snapshot.nodes.insert("other".into(), other);
    compute(&snapshot, &local(), &mut memory).unwrap();
    assert_eq!(knows(&memory), (false, false));
}

#[test]
fn two_pods_with_one_address_are_a_condition_and_a_conflict() {
    let mut snapshot = cluster(true);
    snapshot.pods.insert(&pod_name("a2"), &pod("a", 1, 2));
    let desired = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    assert_eq!(desired.conflicts.len(), 2);
    let degraded = desired.publish.condition("Degraded").unwrap();
    assert_eq!(
        (degraded.status.as_str(), degraded.reason.as_str()),
        ("True", "AddressConflict")
    );
    assert!(
        degraded.message.contains("10.77.1.2") && degraded.message.contains("default/a2"),
        "{}",
        degraded.message
    );
}

#[test]
fn an_extra_address_may_be_a_source_and_a_nodes_or_another_pods_may_not() {
    let mut snapshot = cluster(true);
    let extra = ["10.99.0.1", "192.168.77.2", "10.77.2.2"].map(|text| text.parse().unwrap());
    let with_extra = Pod {
        extra_addresses: extra.to_vec(),
        ..pod("a", 1, 2)
    };
    snapshot.pods.insert(&pod_name("a1"), &with_extra);
    let desired = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    let (addr, _) = key("10.99.0.1/32");
    assert!(
        desired
            .pod_addresses
            .contains(&abi::PodAddress { ifindex: 11, addr })
    );
    assert_eq!(desired.pod_addresses.len(), 3);
}

#[test]
fn an_external_peer_is_covered_served_by_one_lane_and_refused_inside_the_mesh() {
    let mut snapshot = cluster(true);
    snapshot.external_peers.insert(
        "office".into(),
        ExternalPeer::new("office", external("10.50.0.0/16", 200)),
    );
    snapshot.external_peers.insert(
        "thief".into(),
        ExternalPeer::new("thief", external("10.77.2.0/25", 201)),
    );
    snapshot.external_peers.insert(
        "twin".into(),
        ExternalPeer::new("twin", external("10.60.0.0/16", 200)),
    );
    let desired = compute(&snapshot, &local(), &mut Memory::default()).unwrap();
    assert!(desired.covered.contains(&net("10.50.0.0/16")));
    let number = desired.ipcache[&key("10.50.0.0/16")].peer;
    assert_eq!(
        (desired.peers[&number].phase, desired.peers[&number].sessions),
        (abi::PHASE_STRICT, 1)
    );
    let peers = &desired.lane_peers[&LaneId {
        generation: 1,
        lane: 0,
    }];
    assert_eq!(
        peers[&PublicKey::from_bytes([200; 32])].persistent_keepalive,
        Some(25)
    );
    assert_eq!(
        desired.refused_external_peers.keys().collect::<Vec<_>>(),
        ["thief", "twin"]
    );
    assert!(desired.refused_external_peers["thief"].contains("overlaps the covered"));
}

#[test]
fn to_an_external_peer_that_is_refused_or_cannot_be_read_nothing_is_sent() {
    let (mut snapshot, mut memory) = (cluster(true), Memory::default());
    let office = ExternalPeer::new("office", external("10.50.0.0/16", 200));
    let twin = ExternalPeer::new("twin", external("10.60.0.0/16", 200));
    snapshot.external_peers = BTreeMap::from([("office".into(), office), ("twin".into(), twin)]).into();
    let sessions = |desired: &DesiredState, prefix: &str| {
        let peer = desired.peers[&desired.ipcache[&key(prefix)].peer];
        assert!(desired.covered.contains(&net(prefix)));
        (peer.phase, peer.sessions)
    };
    let desired = compute(&snapshot, &local(), &mut memory).unwrap();
    assert_eq!(sessions(&desired, "10.50.0.0/16"), (abi::PHASE_STRICT, 1));
    assert_eq!(sessions(&desired, "10.60.0.0/16"), (abi::PHASE_STRICT, 0));
    snapshot.external_peers.clear();
    let unread = Local {
        problems: vec![Reason::new(BAD_MANIFEST, "office.yaml")],
        ..local()
    };
    let desired = compute(&snapshot, &unread, &mut memory).unwrap();
    assert_eq!(sessions(&desired, "10.50.0.0/16"), (abi::PHASE_STRICT, 0));
    let desired = compute(&snapshot, &local(), &mut memory).unwrap();
    assert!(!desired.covered.contains(&net("10.50.0.0/16")), "deleted");
}

#[test]
fn the_published_tunnel_is_owned_by_its_node_and_has_no_generation_while_down() {
    let mut snapshot = cluster(false);
    snapshot.nodes.get_mut("a").unwrap().origin.uid = Some("u-1".into());
    let down = Local {
        generations: Vec::new(),
        ..local()
    };
    let desired = compute(&snapshot, &down, &mut Memory::default()).unwrap();
    assert!(desired.publish.spec.generations.is_empty());
    assert_eq!(desired.publish.spec.addresses.len(), 2);
    assert_eq!(
        desired.publish.metadata.owner_references.as_ref().unwrap()[0].uid,
        "u-1"
    );
}

#[test]
fn lanes_on_their_way_out_are_neither_published_nor_given_peers() {
    let desired = compute(&cluster(false), &local(), &mut with_phases(Phase::Off)).unwrap();
    assert!(desired.publish.spec.generations.is_empty() && desired.lane_peers.is_empty());
    assert!(desired.pairs.values().all(|facts| facts.session.is_none()));
}

#[test]
fn a_setting_that_this_version_does_not_act_on_is_not_taken_silently() {
    let mut snapshot = cluster(true);
    snapshot.mesh.as_mut().unwrap().spec.encryption.post_quantum = Some(true);
    let desired = compute(&snapshot, &local(), &mut with_phases(Phase::Strict)).unwrap();
    let degraded = desired.publish.condition("Degraded").unwrap();
    assert_eq!(degraded.reason, "UnsupportedSetting");
    assert!(degraded.message.ends_with("spec.encryption.postQuantum"));
}

#[test]
fn a_node_that_can_compute_nothing_any_more_says_so_and_stays_as_it_was() {
    let mut published = compute(&cluster(true), &local(), &mut with_phases(Phase::Strict))
        .unwrap()
        .publish;
    conditions::set_not_ready(&mut published, &NotReady::NothingCovered);
    let ready = published.condition("Ready").unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "NothingCovered")
    );
    assert_eq!(published.condition("Encrypted").unwrap().status, "True");
}
