//! How the program ends, and what it leaves.

use std::path::Path;
use std::process::Command;

use crate::namespace::{eventually, unique};
use crate::tunnel::{HAUBERK, PATIENCE, Tunnel};

#[test]
fn sigterm_ends_it_cleanly() {
    let mut tunnel = Tunnel::hauberk();
    let program = tunnel.a.program.take().expect("runs");
    let killed = Command::new("kill")
        .args(["-TERM", &program.id().to_string()])
        .status();
    assert!(killed.expect("kill is installed").success());
    assert!(program.wait(PATIENCE).0);
    let interface = &tunnel.a.interface;
    assert!(!Path::new(&format!("/var/run/wireguard/{interface}.sock")).exists());
    assert!(
        !tunnel
            .a
            .namespace
            .try_run(&format!("ip link show {interface}"))
            .status
            .success()
    );
}

#[test]
fn it_ends_with_its_interface() {
    let mut tunnel = Tunnel::hauberk();
    let program = tunnel.a.program.take().expect("runs");
    tunnel
        .a
        .namespace
        .run(&format!("ip link del {}", tunnel.a.interface));
    assert!(program.wait(PATIENCE).0);
}

#[test]
fn an_interface_in_use_is_refused_in_one_line() {
    let tunnel = Tunnel::hauberk();
    let again = tunnel
        .a
        .namespace
        .start(&format!("{HAUBERK} -f {}", tunnel.a.interface));
    let (good, said) = again.wait(PATIENCE);
    assert!(!good);
    assert!(said.contains(&tunnel.a.interface), "{said}");
    tunnel.assert_pings();
}

#[test]
fn a_port_in_use_is_refused_and_nothing_changes() {
    let tunnel = Tunnel::hauberk();
    let other = format!("wgo{}", unique());
    let _other = tunnel.a.namespace.start(&format!("{HAUBERK} -f {other}"));
    eventually("another lane takes the port", || {
        tunnel
            .a
            .namespace
            .try_run(&format!("wg set {other} listen-port 6000"))
            .status
            .success()
    });
    let set = tunnel
        .a
        .namespace
        .try_run(&format!("wg set {} listen-port 6000", tunnel.a.interface));
    assert!(!set.status.success());
    assert!(tunnel.a.show("listen-port").contains("5000"));
    tunnel.assert_pings();
    // It ends by itself and takes its control socket with it.
    tunnel.a.namespace.run(&format!("ip link del {other}"));
    let socket = format!("/var/run/wireguard/{other}.sock");
    eventually("its socket is gone", || !Path::new(&socket).exists());
}
