//! Each offload left off, and all of them.

use crate::traffic;
use crate::tunnel::{HAUBERK, INNER, Outside, Tunnel};

fn check(without: &str) {
    let program = format!("{HAUBERK} {without}");
    let tunnel = Tunnel::new(&program, &program, Outside::V4, None);
    tunnel.assert_pings();
    tunnel.assert_bulk(8);
    for (_, to) in INNER {
        for segmented in [false, true] {
            traffic::udp(&tunnel.a.namespace, &tunnel.b.namespace, to, segmented);
        }
    }
    assert!(tunnel.ping("-c 2 -s 60000 10.9.0.2"));
    tunnel.assert_no_outer_fragment();
}

#[test]
fn it_works_with_all_offloads() {
    check("");
}

#[test]
fn it_works_without_tso() {
    check("--without tso");
}

#[test]
fn it_works_without_uso() {
    check("--without uso");
}

#[test]
fn it_works_without_checksum_offload() {
    check("--without checksum");
}

#[test]
fn it_works_without_udp_segment() {
    check("--without udp-segment");
}

#[test]
fn it_works_without_udp_gro() {
    check("--without udp-gro");
}

#[test]
fn it_works_without_any_offload() {
    check("--without checksum --without tso --without uso --without udp-segment --without udp-gro");
}
