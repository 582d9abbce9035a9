//! Verdicts on what a lane decrypted.

use hauberk_ebpf_redirect::{
    Hook,
    abi::{CONFIG_ENFORCE, Counter, Device, DropReason, IpcacheEntry, PHASE_STRICT},
};

use crate::{
    frames::{ACK, FIN, Frame, TCP, UDP, flow},
    from_pod::{PodSandbox, pod},
    sandbox::Outcome,
    to_network::{ipcache, net},
};

const UPLINK_MAC: [u8; 6] = [6, 6, 6, 6, 6, 6];

/// With an uplink by which the peer's addresses are reached.
fn tunnel(flags: u32) -> PodSandbox {
    let mut p = pod(PHASE_STRICT, flags);
    let uplink = p.second;
    let mut entries = ipcache();
    for prefix in ["10.77.2.0/24", "fd77:2::/64"] {
        entries.insert(
            net(prefix),
            IpcacheEntry {
                peer: 7,
                ifindex: uplink,
                ..IpcacheEntry::default()
            },
        );
    }
    p.s.redirect.sync_ipcache(&entries).expect("IPCACHE");
    let device = Device {
        mac: UPLINK_MAC,
        kind: 1,
    };
    p.s.redirect
        .sync_devices(&[(uplink, device)].into())
        .expect("DEVICES");
    p
}

fn receive(p: &PodSandbox, frame: &Frame) -> Outcome {
    p.s.run(Hook::FromTunnel, &frame.ip(), p.pod)
}

#[test]
fn a_packet_enters_the_stack_as_if_received_on_the_uplink() {
    for flags in [0, CONFIG_ENFORCE] {
        let p = tunnel(flags);
        for (src, dst, ethertype) in [
            ("10.77.2.2", "10.77.1.2", [0x08, 0x00]),
            ("fd77:2::2", "fd77:1::2", [0x86, 0xdd]),
        ] {
            let frame = Frame::tcp(src, dst, 80, 4000, ACK);
            let Outcome::Redirected(bytes) = receive(&p, &frame) else {
                panic!("not redirected")
            };
            assert_eq!(bytes[..6], UPLINK_MAC);
            assert_eq!(bytes[12..14], ethertype);
            assert_eq!(bytes[14..], frame.ip());
        }
        assert_eq!(p.s.counted(Counter::TunnelToStack).packets, 2);
    }
}

#[test]
fn a_proven_flow_goes_straight_to_the_pod_only_when_hauberk_enforces() {
    let keys = [
        flow("10.77.2.2", "10.77.1.2", 80, 4000, TCP),
        flow("fd77:2::2", "fd77:1::2", 53, 4000, UDP),
    ];
    let mut p = tunnel(CONFIG_ENFORCE);
    let target = p.pod;
    p.prove(&keys, target);
    for frame in [
        Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, ACK),
        Frame::udp("fd77:2::2", "fd77:1::2", 53, 4000),
    ] {
        let Outcome::Redirected(bytes) = receive(&p, &frame) else {
            panic!("not redirected")
        };
        assert_eq!(bytes[..12], [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4]);
        assert_eq!(bytes[14..], frame.ip());
    }
    assert_eq!(p.s.counted(Counter::TunnelShortcut).packets, 2);
    receive(&p, &Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, FIN));
    receive(&p, &Frame::tcp("10.77.2.2", "10.77.1.2", 81, 4000, ACK));
    receive(
        &p,
        &Frame::udp("fd77:2::2", "fd77:1::2", 53, 4000).extension(44, &[0, 0, 0, 1, 0, 0, 0, 9]),
    );
    assert_eq!(p.s.counted(Counter::TunnelShortcut).packets, 2);
    assert_eq!(p.s.counted(Counter::TunnelToStack).packets, 3);

    p.s.flags(0);
    receive(&p, &Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, ACK));
    assert_eq!(p.s.counted(Counter::TunnelToStack).packets, 4);
}

#[test]
fn a_source_without_device_or_of_this_node_is_dropped() {
    let mut p = tunnel(CONFIG_ENFORCE);
    let drop = |reason| Outcome::Dropped(reason);
    let unknown = Frame::tcp("10.77.9.9", "10.77.1.2", 80, 4000, ACK);
    assert_eq!(receive(&p, &unknown), drop(DropReason::NoDevice));
    for own in ["10.77.1.2", "192.168.77.1"] {
        let frame = Frame::tcp(own, "10.77.1.2", 80, 4000, ACK);
        assert_eq!(receive(&p, &frame), drop(DropReason::SpoofedSource));
    }
    p.s.redirect.sync_devices(&[].into()).expect("DEVICES");
    let known = Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, ACK);
    assert_eq!(receive(&p, &known), drop(DropReason::NoDevice));
}

#[test]
fn an_uplink_without_link_header_gets_none() {
    let mut p = tunnel(0);
    let uplink = p.second;
    p.s.redirect
        .sync_devices(&[(uplink, Device { mac: [0; 6], kind: 1 })].into())
        .expect("DEVICES");
    let frame = Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, ACK);
    assert_eq!(receive(&p, &frame), Outcome::Redirected(frame.ip()));
}

#[test]
fn what_is_no_ip_packet_is_dropped() {
    let p = tunnel(0);
    assert_eq!(
        p.s.run(Hook::FromTunnel, &[0; 40], p.pod),
        Outcome::Dropped(DropReason::Malformed)
    );
    let cut = &Frame::tcp("10.77.2.2", "10.77.1.2", 80, 4000, ACK).ip()[..22];
    assert_eq!(
        p.s.run(Hook::FromTunnel, cut, p.pod),
        Outcome::Dropped(DropReason::Malformed)
    );
}
