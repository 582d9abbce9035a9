//! Maps: brought in step by differences, full, and read back.

use std::collections::{BTreeMap, BTreeSet};

use hauberk_ebpf_redirect::{
    Hook, Redirect, RedirectError, Synced,
    abi::{
        COLUMN_TCP, Counter, DIR_EGRESS, IpcacheEntry, Lane, MAX_SLOTS, PHASE_STRICT, Peer, PodAddress,
        VERDICT_ALLOW, VERDICT_DENY, VerdictKey, port_key,
    },
    address::Prefix,
};

use crate::{
    frames::{ACK, Frame, addr},
    sandbox::{Outcome, Sandbox, options},
    to_network::net,
};

fn synced(added: usize, changed: usize, removed: usize) -> Synced {
    Synced {
        added,
        changed,
        removed,
    }
}

fn entry(peer: u32) -> IpcacheEntry {
    IpcacheEntry {
        peer,
        ..IpcacheEntry::default()
    }
}

#[test]
fn only_differences_are_written() {
    let mut s = Sandbox::new();
    let mut desired: BTreeMap<Prefix, IpcacheEntry> = (0..50)
        .map(|n| (net(&format!("10.77.{n}.0/24")), entry(n + 1)))
        .collect();
    assert_eq!(
        s.redirect.sync_ipcache(&desired).expect("synced"),
        synced(50, 0, 0)
    );
    assert_eq!(
        s.redirect.sync_ipcache(&desired).expect("synced"),
        synced(0, 0, 0)
    );
    desired.remove(&net("10.77.3.0/24"));
    desired.insert(net("10.77.4.0/24"), entry(99));
    desired.insert(net("fd77::/64"), entry(5));
    assert_eq!(
        s.redirect.sync_ipcache(&desired).expect("synced"),
        synced(1, 1, 1)
    );
    // A restarted process finds what is there.
    s.reopen();
    assert_eq!(
        s.redirect.sync_ipcache(&desired).expect("synced"),
        synced(0, 0, 0)
    );
    assert_eq!(
        s.redirect.sync_ipcache(&BTreeMap::new()).expect("synced"),
        synced(0, 0, 50)
    );
}

#[test]
fn every_map_is_kept_in_step() {
    let mut s = Sandbox::new();
    let r = &mut s.redirect;
    let peers = BTreeMap::from([(
        1,
        Peer {
            phase: PHASE_STRICT,
            ..Peer::default()
        },
    )]);
    assert_eq!(r.sync_peers(&peers).expect("synced"), synced(1, 0, 0));
    assert_eq!(r.sync_peers(&BTreeMap::new()).expect("synced"), synced(0, 0, 1));
    let addresses = BTreeSet::from([PodAddress {
        ifindex: 1,
        addr: addr("10.0.0.1"),
    }]);
    assert_eq!(r.sync_pod_addresses(&addresses).expect("synced"), synced(1, 0, 0));
    assert_eq!(
        r.sync_lane_cookies(&BTreeMap::from([(7, 1), (8, 2)]))
            .expect("synced"),
        synced(2, 0, 0)
    );
    assert_eq!(
        r.sync_lane_cookies(&BTreeMap::from([(8, 3)])).expect("synced"),
        synced(0, 1, 1)
    );
    assert_eq!(
        r.sync_devices(&BTreeMap::from([(3, Default::default())]))
            .expect("synced"),
        synced(1, 0, 0)
    );
    assert_eq!(
        r.sync_pods(&BTreeMap::from([(3, Default::default())]))
            .expect("synced"),
        synced(1, 0, 0)
    );
    assert_eq!(
        r.sync_covered(&BTreeSet::from([net("::/0")])).expect("synced"),
        synced(1, 0, 0)
    );
    let mut lanes = [Lane::default(); MAX_SLOTS as usize];
    lanes[31].tun_ifindex = 9;
    assert_eq!(r.sync_lanes(&lanes).expect("synced"), synced(0, 1, 0));
    assert_eq!(r.sync_lanes(&lanes).expect("synced"), synced(0, 0, 0));
}

#[test]
fn policy_that_finds_no_room_is_named_by_its_sets_and_keeps_nothing_else_out() {
    let mut s = Sandbox::with(|options| {
        options.capacities.insert("VERDICTS".into(), 3);
        options.capacities.insert("PORTS".into(), 3);
    });
    let r = &mut s.redirect;
    let verdicts = |sets: std::ops::Range<u32>, verdict| {
        let key = |set| VerdictKey {
            set,
            remote: 2,
            direction: DIR_EGRESS,
        };
        sets.map(|set| (key(set), verdict)).collect::<BTreeMap<_, _>>()
    };
    let ports = |programs: std::ops::Range<u32>| {
        let key = |program| (port_key(program, COLUMN_TCP, 80), 56);
        programs
            .map(|program| (key(program), VERDICT_ALLOW))
            .collect::<BTreeMap<_, _>>()
    };
    let none = BTreeSet::new();
    let old = verdicts(1..3, VERDICT_DENY);
    assert_eq!(r.add_policy(&old, &ports(7..9)).expect("added"), none);
    // What is not wanted any more stays until it is told to go, or until its room is needed.
    assert_eq!(
        r.add_policy(&verdicts(3..4, VERDICT_DENY), &ports(7..9))
            .expect("added"),
        none
    );
    assert_eq!(r.add_policy(&old, &ports(7..9)).expect("added"), none);
    assert_eq!(
        r.add_policy(&verdicts(5..8, VERDICT_DENY), &ports(7..9))
            .expect("added"),
        none
    );
    let incomplete = r.add_policy(&verdicts(5..9, VERDICT_DENY), &ports(7..9));
    assert_eq!(incomplete.expect("added"), BTreeSet::from([8]));
    // A program that is not there breaks the sets that have it.
    let of_program = verdicts(5..6, 9);
    let incomplete = r.add_policy(&of_program, &ports(7..10));
    assert_eq!(incomplete.expect("added"), BTreeSet::from([5]));
    r.prune_policy(&BTreeMap::new(), &BTreeMap::new())
        .expect("pruned");
    assert_eq!(
        r.add_policy(&verdicts(20..23, 9), &ports(9..10)).expect("added"),
        none
    );
}

#[test]
fn a_full_map_is_named_and_what_was_covered_stays_covered() {
    let mut s = Sandbox::with(|options| {
        // One more for the tries, of which one entry stays free.
        options.capacities.insert("COVERED".into(), 4);
        options.capacities.insert("PEERS".into(), 2);
        options.capacities.insert("IPCACHE".into(), 3);
    });
    let uplink = s.uplink();
    let covered = |range: std::ops::Range<u8>| -> BTreeSet<Prefix> {
        range.map(|n| net(&format!("10.{n}.0.0/16"))).collect()
    };
    s.redirect.sync_covered(&covered(0..3)).expect("room for three");
    let refused = s.redirect.sync_covered(&covered(0..5));
    assert!(
        matches!(
            refused,
            Err(RedirectError::MapFull {
                map: "COVERED",
                capacity: 3
            })
        ),
        "{refused:?}"
    );
    let frame = Frame::tcp("10.9.0.1", "10.2.0.1", 1, 2, ACK).ethernet();
    assert_eq!(s.run(Hook::ToNetwork, &frame, uplink), Outcome::Next);
    assert_eq!(s.counted(Counter::Clear).packets, 1, "still covered");
    // Where removals make room, a full map takes what is new.
    assert_eq!(
        s.redirect.sync_covered(&covered(2..5)).expect("room again"),
        synced(2, 0, 2)
    );

    let peers: BTreeMap<u32, Peer> = (1..4).map(|n| (n, Peer::default())).collect();
    let refused = s.redirect.sync_peers(&peers);
    assert!(
        matches!(
            refused,
            Err(RedirectError::MapFull {
                map: "PEERS",
                capacity: 2
            })
        ),
        "{refused:?}"
    );
    let ipcache: BTreeMap<Prefix, IpcacheEntry> = (0..3)
        .map(|n| (net(&format!("10.{n}.0.0/16")), entry(1)))
        .collect();
    let refused = s.redirect.sync_ipcache(&ipcache);
    assert!(
        matches!(
            refused,
            Err(RedirectError::MapFull {
                map: "IPCACHE",
                capacity: 2
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn what_changed_is_written_though_others_find_no_room() {
    let mut s = Sandbox::with(|options| {
        options.capacities.insert("IPCACHE".into(), 4);
        options.capacities.insert("PEERS".into(), 3);
    });
    let r = &mut s.redirect;
    let is_full = |result| matches!(result, Err(RedirectError::MapFull { capacity: 3, .. }));
    let ipcache = |peers: &[(u8, u32)]| -> BTreeMap<Prefix, IpcacheEntry> {
        peers
            .iter()
            .map(|&(n, peer)| (net(&format!("10.{n}.0.0/16")), entry(peer)))
            .collect()
    };
    let start = [(2, 1), (3, 1), (4, 1)];
    r.sync_ipcache(&ipcache(&start)).expect("room for three");
    // What finds no room comes before and behind what changes.
    assert!(is_full(r.sync_ipcache(&ipcache(&[
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 1)
    ]))));
    let held = ipcache(&[(2, 1), (3, 2), (4, 2)]);
    assert_eq!(r.sync_ipcache(&held).expect("synced"), synced(0, 0, 0));
    // What is stale goes, and makes room for one of two.
    assert!(is_full(r.sync_ipcache(&ipcache(&[
        (1, 1),
        (3, 2),
        (4, 3),
        (5, 1)
    ]))));
    let held = ipcache(&[(1, 1), (3, 2), (4, 3)]);
    assert_eq!(r.sync_ipcache(&held).expect("synced"), synced(0, 0, 0));

    let peers = |phases: &[(u32, u32)]| -> BTreeMap<u32, Peer> {
        phases
            .iter()
            .map(|&(n, phase)| {
                (
                    n,
                    Peer {
                        phase,
                        ..Peer::default()
                    },
                )
            })
            .collect()
    };
    r.sync_peers(&peers(&[(2, 1), (3, 1), (4, 1)]))
        .expect("room for three");
    assert!(is_full(r.sync_peers(&peers(&[(1, 1), (2, 2), (3, 1), (4, 2)]))));
    let held = peers(&[(2, 2), (3, 1), (4, 2)]);
    assert_eq!(r.sync_peers(&held).expect("synced"), synced(0, 0, 0));
}

#[test]
fn the_longest_prefix_decides_against_a_naive_search() {
    let mut s = Sandbox::new();
    let uplink = s.uplink();
    // Each prefix is a peer of its own; the one that is asked says PeerKeyMissing, all others let pass.
    let prefixes: Vec<(Prefix, u8)> = [
        "10.0.0.0/8",
        "10.77.0.0/16",
        "10.77.1.0/24",
        "10.77.1.128/25",
        "10.77.1.9/32",
        "fd77::/16",
        "fd77:1::/32",
        "fd77:1::/64",
        "fd77:1::9/128",
    ]
    .iter()
    .map(|text| (net(text), net(text).1))
    .collect();
    let ipcache = prefixes
        .iter()
        .zip(1..)
        .map(|((p, _), n)| (*p, entry(n)))
        .collect();
    s.redirect.sync_ipcache(&ipcache).expect("IPCACHE");
    s.redirect
        .sync_covered(&[net("10.0.0.0/8"), net("fd77::/16")].into())
        .expect("COVERED");
    for dst in [
        "10.1.1.1",
        "10.77.9.1",
        "10.77.1.5",
        "10.77.1.200",
        "10.77.1.9",
        "fd77:2::1",
        "fd77:1:1::1",
        "fd77:1::5",
        "fd77:1::9",
    ] {
        let src = if dst.contains(':') {
            "2001:db8::1"
        } else {
            "192.0.2.1"
        };
        let naive = (1..)
            .zip(&prefixes)
            .filter(|(_, ((p, length), _))| starts_with(&addr(dst), p, *length))
            .max_by_key(|(_, (_, length))| *length)
            .expect("the shortest matches")
            .0;
        for n in 1..=prefixes.len() as u32 {
            let asked = Peer {
                phase: PHASE_STRICT,
                ..Peer::default()
            };
            let peers = (1..=prefixes.len() as u32)
                .map(|m| (m, if m == n { asked } else { Peer::default() }))
                .collect();
            s.redirect.sync_peers(&peers).expect("PEERS");
            let outcome = s.run(
                Hook::ToNetwork,
                &Frame::tcp(src, dst, 1, 2, ACK).ethernet(),
                uplink,
            );
            assert_eq!(
                outcome != Outcome::Next,
                n == naive,
                "{dst} and prefix {n}: {outcome:?}"
            );
        }
    }
}

fn starts_with(addr: &[u8; 16], prefix: &[u8; 16], length: u8) -> bool {
    let (a, p) = (u128::from_be_bytes(*addr), u128::from_be_bytes(*prefix));
    length == 0 || (a ^ p) >> (128 - u32::from(length)) == 0
}

#[test]
fn a_capacity_applies_when_the_maps_are_made() {
    let s = Sandbox::new();
    let mut changed = options(&s.pin_dir);
    changed.capacities.insert("PEERS".into(), 1);
    let mut second = Redirect::open(changed).expect("the pins are re-used");
    let two = (1..3).map(|n| (n, Peer::default())).collect();
    second.sync_peers(&two).expect("the map is as it was made");
}
