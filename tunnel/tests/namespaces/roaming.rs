//! A node that changes its address.

use crate::namespace::eventually;
use crate::tunnel::Tunnel;

#[test]
fn a_peer_that_moves_is_followed() {
    let tunnel = Tunnel::hauberk();
    tunnel.assert_pings();
    assert!(tunnel.b.show("endpoints").contains("192.0.2.1:5000"));
    tunnel.a.namespace.run("ip addr del 192.0.2.1/24 dev up0");
    tunnel.a.namespace.run("ip addr add 192.0.2.77/24 dev up0");
    tunnel.a.namespace.run("ip route add default via 192.0.2.254");
    eventually("a ping from the new address", || tunnel.ping("-c 1 10.9.0.2"));
    assert!(tunnel.b.show("endpoints").contains("192.0.2.77:5000"));

    // The other family is a move as well.
    let (wg, key) = (&tunnel.a.interface, &tunnel.b.public_key);
    tunnel
        .a
        .namespace
        .run(&format!("wg set {wg} peer {key} endpoint [fd02::1]:5000"));
    eventually("a ping over IPv6", || tunnel.ping("-c 1 10.9.0.2"));
    assert!(tunnel.b.show("endpoints").contains("[fd01::1]:5000"));
}

#[test]
fn a_program_started_anew_is_back_at_once() {
    let mut tunnel = Tunnel::hauberk();
    tunnel.assert_pings();
    let peer = tunnel.b.show("peers").trim().to_owned();
    // With its configuration put back, B hears a datagram of no session and shakes hands itself.
    let configuration = tunnel
        .b
        .namespace
        .run(&format!("wg showconf {}", tunnel.b.interface));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), configuration).expect("is written");
    tunnel.b.program = None;
    tunnel.b.start(crate::tunnel::HAUBERK);
    let wg = tunnel.b.interface.clone();
    tunnel
        .b
        .namespace
        .run(&format!("wg setconf {wg} {}", file.path().display()));
    tunnel
        .b
        .namespace
        .run(&format!("ip addr add 10.9.0.2/24 dev {wg}"));
    tunnel.b.namespace.run(&format!("ip link set {wg} up"));
    assert_eq!(tunnel.b.show("peers").trim(), peer);
    assert!(
        tunnel.ping("-c 6 -w 4 10.9.0.2") || tunnel.ping("-c 1 10.9.0.2"),
        "WireGuard's own timers take 15 s"
    );
}
