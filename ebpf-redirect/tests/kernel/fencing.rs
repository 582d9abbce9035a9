//! The nftables table that closes devices which nobody guards.

use std::net::UdpSocket;

use hauberk_ebpf_redirect::fence::{self, Fence};

use crate::sandbox::{Sandbox, ifindex, run};

/// Makes a device by which 10.N.0.9 and fd0N::9 are reached; answers its index.
fn device(name: &str, n: u8) -> u32 {
    run(&format!("ip link add {name} type veth peer name {name}p"));
    run(&format!("ip link set {name}p up"));
    // Without ARP it sends nothing of its own that would be counted, and needs no neighbours.
    run(&format!("ip link set {name} arp off addrgenmode none up"));
    run(&format!("ip addr add 10.{n}.0.1/24 dev {name}"));
    run(&format!("ip addr add fd0{n}::1/64 dev {name} nodad"));
    ifindex(name)
}

/// Sends one datagram and says whether the device sent it.
fn leaves(device: &str, to: &str) -> bool {
    let sent = || {
        let text = run(&format!("ip -s -j link show dev {device}"));
        let listing: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        listing[0]["stats64"]["tx"]["packets"].as_u64().expect("a number")
    };
    let before = sent();
    let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    // A dropped datagram is an error here (EPERM), or none.
    let _ = UdpSocket::bind(any).expect("a socket").send_to(b"x", (to, 9));
    before != sent()
}

fn fence(known_devices: &[u32]) -> Fence {
    Fence {
        covered: ["10.0.0.0/8", "10.2.0.0/16", "fd00::/8"]
            .iter()
            .map(|p| p.parse().expect("a prefix"))
            .collect(),
        nodes: ["10.2.0.9".parse().expect("an address")].into(),
        known_devices: known_devices.iter().copied().collect(),
    }
}

#[test]
fn covered_traffic_leaves_by_known_devices_only() {
    let _sandbox = Sandbox::new();
    let (known, fresh) = (device("known", 1), device("fresh", 2));
    assert_eq!(fence::dropped_packets().expect("nft answers"), None);
    assert!(leaves("fresh", "10.2.0.9") && leaves("fresh", "fd02::9"));
    fence::apply(&fence(&[known])).expect("the table");
    assert!(leaves("known", "10.1.0.9") && leaves("known", "fd01::9"));
    assert!(!leaves("fresh", "10.2.0.9") && !leaves("fresh", "fd02::9"));
    assert_eq!(fence::dropped_packets().expect("nft answers"), Some(2));

    // The next version keeps the count.
    fence::apply(&fence(&[known, fresh])).expect("the table");
    assert!(leaves("fresh", "10.2.0.9"));
    assert_eq!(fence::dropped_packets().expect("nft answers"), Some(2));

    fence::remove().expect("removed");
    fence::remove().expect("nothing to remove is no error");
    assert_eq!(fence::dropped_packets().expect("nft answers"), None);
    assert_eq!(run("nft list ruleset").trim(), "");
}

#[test]
fn a_device_made_anew_under_its_name_is_closed_until_its_index_is_known() {
    let _sandbox = Sandbox::new();
    let old = device("known", 1);
    fence::apply(&fence(&[old])).expect("the table");
    assert!(leaves("known", "10.1.0.9") && leaves("known", "fd01::9"));
    run("ip link del known");
    let new = device("known", 1);
    assert!(!leaves("known", "10.1.0.9") && !leaves("known", "fd01::9"));
    assert_eq!(fence::dropped_packets().expect("nft answers"), Some(2));
    // The old index, which no device has any more, is nothing that nft refuses.
    fence::apply(&fence(&[old, new])).expect("the table");
    assert!(leaves("known", "10.1.0.9") && leaves("known", "fd01::9"));
}

#[test]
fn loopback_is_never_closed_and_a_name_of_digits_is_no_index() {
    let _sandbox = Sandbox::new();
    let known = device("known", 1);
    let name = known.to_string();
    device(&name, 2);
    device("1", 3);
    run("ip addr add 10.4.0.1/32 dev lo");
    fence::apply(&fence(&[known])).expect("the table");
    assert!(leaves("known", "10.1.0.9"));
    assert!(!leaves(&name, "10.2.0.9") && !leaves("1", "10.3.0.9"));
    assert!(leaves("lo", "10.4.0.1"));
}
