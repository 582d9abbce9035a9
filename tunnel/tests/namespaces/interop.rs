//! With Debian's wireguard-go, both ways round.

use crate::tunnel::{HAUBERK, Outside, Tunnel, WIREGUARD_GO};

const PRESHARED_KEY: &str = "0P7WVlFCjtUJbKOZ7Y1bmr8PFCp5Pr9YsUW8ye63C1s=";

/// Pings, moves a few megabytes each way, and looks at `wg show`.
fn check(program_a: &str, program_b: &str, outside: Outside, preshared_key: Option<&str>) {
    let tunnel = Tunnel::new(program_a, program_b, outside, preshared_key);
    tunnel.assert_pings();
    assert!(tunnel.ping("-c 1 -s 60000 10.9.0.2"));
    tunnel.assert_bulk(8);
    tunnel.assert_no_outer_fragment();
    for (node, peer) in [(&tunnel.a, &tunnel.b), (&tunnel.b, &tunnel.a)] {
        let shown = node.show("");
        assert!(
            shown.contains(&format!("public key: {}", node.public_key)),
            "{shown}"
        );
        assert!(shown.contains(&format!("peer: {}", peer.public_key)), "{shown}");
        assert!(
            shown.contains("latest handshake: ") && shown.contains("listening port: 5000"),
            "{shown}"
        );
        assert_eq!(
            shown.contains("preshared key: (hidden)"),
            preshared_key.is_some(),
            "{shown}"
        );
        let transfer = node.show("transfer");
        let bytes: Vec<u64> = transfer
            .split_whitespace()
            .skip(1)
            .filter_map(|n| n.parse().ok())
            .collect();
        assert!(
            bytes.len() == 2 && bytes.iter().all(|n| *n > 16 << 20),
            "{transfer}"
        );
    }
}

#[test]
fn hauberk_starts_and_wireguard_go_answers() {
    check(HAUBERK, WIREGUARD_GO, Outside::V4, None);
}

#[test]
fn wireguard_go_starts_and_hauberk_answers() {
    check(WIREGUARD_GO, HAUBERK, Outside::V6, None);
}

#[test]
fn hauberk_starts_and_wireguard_go_answers_with_a_preshared_key() {
    check(HAUBERK, WIREGUARD_GO, Outside::V6, Some(PRESHARED_KEY));
}

#[test]
fn wireguard_go_starts_and_hauberk_answers_with_a_preshared_key() {
    check(WIREGUARD_GO, HAUBERK, Outside::V4, Some(PRESHARED_KEY));
}
