//! The nftables table that closes devices which nobody guards.

use std::{net::UdpSocket, process::Command};

use hauberk_ebpf_redirect::fence::{self, Fence};

use crate::sandbox::{Sandbox, run};

/// Sends one datagram and says whether the device sent it.
fn leaves(device: &str, to: &str) -> bool {
    let sent = || {
        let path = format!("link show dev {device}");
        let line = Command::new("ip")
            .args(["-s", "-j"])
            .args(path.split(' '))
            .output()
            .expect("ip");
        let text = String::from_utf8_lossy(&line.stdout).into_owned();
        let tx = text.split("\"tx\":").nth(1).expect("statistics").to_owned();
        tx.split("\"packets\":")
            .nth(1)
            .expect("packets")
            .split(',')
            .next()
            .expect("a number")
            .to_owned()
    };
    let before = sent();
    let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    // A dropped datagram is an error here (EPERM), or none.
    let _ = UdpSocket::bind(any).expect("a socket").send_to(b"x", (to, 9));
    before != sent()
}

#[test]
fn covered_traffic_leaves_by_known_devices_only() {
    let _sandbox = Sandbox::new();
    for (device, n) in [("known", 1), ("fresh", 2)] {
        run(&format!("ip link add {device} type veth peer name {device}p"));
        run(&format!("ip link set {device}p up"));
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}p/disable_ipv6"), "1").expect("a setting");
        // No discovery of its own shall be counted.
        std::fs::write(
            format!("/proc/sys/net/ipv6/conf/{device}/router_solicitations"),
            "0",
        )
        .expect("a setting");
        run(&format!("ip link set {device} addrgenmode none"));
        run(&format!("ip link set {device} up"));
        run(&format!("ip addr add 10.{n}.0.1/24 dev {device}"));
        run(&format!("ip addr add fd0{n}::1/64 dev {device} nodad"));
        run(&format!(
            "ip neigh add 10.{n}.0.9 lladdr 02:00:00:00:00:09 dev {device}"
        ));
        run(&format!(
            "ip neigh add fd0{n}::9 lladdr 02:00:00:00:00:09 dev {device}"
        ));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let fence = Fence {
        covered: ["10.0.0.0/8", "10.2.0.0/16", "fd00::/8"]
            .iter()
            .map(|p| p.parse().expect("a prefix"))
            .collect(),
        nodes: ["10.2.0.9".parse().expect("an address")].into(),
        known_devices: ["known".to_owned()].into(),
    };
    assert_eq!(fence::dropped_packets().expect("nft answers"), None);
    assert!(leaves("fresh", "10.2.0.9") && leaves("fresh", "fd02::9"));
    fence::apply(&fence).expect("the table");
    assert!(leaves("known", "10.1.0.9") && leaves("known", "fd01::9"));
    assert!(!leaves("fresh", "10.2.0.9") && !leaves("fresh", "fd02::9"));
    assert_eq!(fence::dropped_packets().expect("nft answers"), Some(2));

    // The next version keeps the count.
    let both = Fence {
        known_devices: ["known".to_owned(), "fresh".to_owned()].into(),
        ..fence
    };
    fence::apply(&both).expect("the table");
    assert!(leaves("fresh", "10.2.0.9"));
    assert_eq!(fence::dropped_packets().expect("nft answers"), Some(2));

    fence::remove().expect("removed");
    fence::remove().expect("nothing to remove is no error");
    assert_eq!(fence::dropped_packets().expect("nft answers"), None);
    assert_eq!(run("nft list ruleset").trim(), "");
}
