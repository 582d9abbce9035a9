//! What fits and what does not. The TUN's MTU is 1,500 here, as it is for pods that keep theirs.

use std::thread;
use std::time::Duration;

use crate::namespace::eventually;
use crate::traffic;
use crate::tunnel::{HAUBERK, INNER, Outside, Tunnel};

fn tunnel(outside: Outside, path: u16, tun: u16) -> Tunnel {
    let tunnel = Tunnel::new(HAUBERK, HAUBERK, outside, None);
    tunnel.set_path_mtu(path);
    tunnel.set_tun_mtu(tun);
    tunnel.assert_pings();
    // The lane asks for its paths' MTU once a second.
    thread::sleep(Duration::from_millis(1_500));
    tunnel.assert_pings();
    tunnel
}

/// What `ping` says about one packet of `size` payload bytes that may not be fragmented.
fn ping_whole(tunnel: &Tunnel, to: &str, size: u16) -> String {
    let output = tunnel
        .a
        .namespace
        .try_run(&format!("ping -c 1 -W 2 -M do -s {size} {to}"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn full_size_datagrams_that_may_not_be_cut_are_too_big_at_1500() {
    for (outside, inner) in [(Outside::V4, 1_440), (Outside::V6, 1_420)] {
        let tunnel = tunnel(outside, 1_500, 1_500);
        let said = ping_whole(&tunnel, "10.9.0.2", 1_472);
        assert!(said.contains(&format!("mtu = {inner}")), "{said}");
        let said = ping_whole(&tunnel, "fd09::2", 1_452);
        assert!(said.contains(&format!("mtu={inner}")), "{said}");
        assert!(ping_whole(&tunnel, "10.9.0.2", inner - 28).contains("1 received"));
        assert!(ping_whole(&tunnel, "fd09::2", inner - 48).contains("1 received"));
        tunnel.assert_no_outer_fragment();
    }
}

#[test]
fn large_pings_and_bulk_pass_at_1500() {
    for outside in [Outside::V4, Outside::V6] {
        let tunnel = tunnel(outside, 1_500, 1_500);
        for to in ["10.9.0.2", "fd09::2"] {
            // IPv6 senders fragment to fit only after they were told.
            eventually("a ping of 60,000 bytes", || {
                tunnel.ping(&format!("-c 3 -s 60000 {to}"))
            });
        }
        tunnel.assert_bulk(16);
        tunnel.assert_no_outer_fragment();
    }
}

#[test]
fn a_path_lowered_under_way_stops_nothing() {
    for outside in [Outside::V4, Outside::V6] {
        let tunnel = tunnel(outside, 1_500, 1_500);
        let (a, b) = (&tunnel.a.namespace, &tunnel.b.namespace);
        traffic::tcp_across(a, b, INNER[0].1, || {
            // Only the far side of the router: A learns it from the router's ICMP.
            tunnel.router.run("ip link set to-b mtu 1400");
            tunnel.b.namespace.run("ip link set up0 mtu 1400");
        });
        tunnel.assert_bulk(16);
        assert!(tunnel.ping("-c 1 -s 60000 10.9.0.2"));
        let inner = if outside == Outside::V4 { 1_340 } else { 1_320 };
        let said = ping_whole(&tunnel, "10.9.0.2", 1_472);
        assert!(said.contains(&format!("mtu = {inner}")), "{said}");
        tunnel.assert_no_outer_fragment();
    }
}

#[test]
fn jumbo_frames_are_used_at_9000() {
    let tunnel = tunnel(Outside::V4, 9_000, 9_000);
    assert!(ping_whole(&tunnel, "10.9.0.2", 8_940 - 28).contains("1 received"));
    let said = ping_whole(&tunnel, "10.9.0.2", 8_940 - 27);
    assert!(said.contains("mtu = 8940"), "{said}");
    tunnel.assert_bulk(16);
    assert!(tunnel.ping("-c 1 -s 60000 10.9.0.2"));
    tunnel.assert_no_outer_fragment();
}

#[test]
fn at_1280_tcp_passes_and_larger_ipv6_datagrams_do_not() {
    for outside in [Outside::V4, Outside::V6] {
        let tunnel = tunnel(outside, 1_280, 1_500);
        tunnel.assert_bulk(16);
        assert!(
            tunnel.ping("-c 1 -s 1472 -M dont 10.9.0.2"),
            "IPv4 is fragmented inside the tunnel"
        );
        assert!(!tunnel.ping("-c 2 -s 1300 fd09::2"));
        tunnel.assert_no_outer_fragment();
    }
}
