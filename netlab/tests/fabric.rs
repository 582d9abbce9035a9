//! The fabric counts, captures and impairs. As root.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use hauberk_netlab::{CaptureSpec, Family, Impairment, Lab, LabSpec, Protocol, Wiring};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    unistd::Pid,
};

const MARKER: &[u8; 16] = b"in-clear-for-all";

fn lab(wiring: Wiring) -> Lab {
    Lab::new(LabSpec::two_nodes("f", wiring)).unwrap()
}

fn udp(lab: &Lab, pod: &str, address: IpAddr) -> UdpSocket {
    let socket = lab
        .pod(pod)
        .netns()
        .run(|| UdpSocket::bind((address, 0)))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket
}

/// Sends `payload` over one TCP connection from a1 to b1.
fn tcp(lab: &Lab, to: IpAddr, payload: &[u8]) {
    let listener = lab
        .pod("b1")
        .netns()
        .run(|| TcpListener::bind((to, 0)))
        .unwrap()
        .unwrap();
    let at = listener.local_addr().unwrap();
    let mut client = lab
        .pod("a1")
        .netns()
        .run(|| TcpStream::connect(at))
        .unwrap()
        .unwrap();
    let (mut server, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || client.write_all(payload).unwrap());
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        assert!(received == payload, "TCP delivered something else");
    });
}

fn ping(lab: &Lab, to: IpAddr) {
    let pattern: String = MARKER.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut ping = lab.pod("a1").command("ping");
    let output = ping
        .args(["-c", "1", "-W", "2", "-p", &pattern, &to.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success());
}

#[test]
fn a_marker_is_counted_in_tcp_udp_and_icmp_over_both_families() {
    let lab = lab(Wiring::Routed);
    let fabric = lab.fabric();
    fabric.set_marker(MARKER).unwrap();
    for (family, from, to) in [
        (
            Family::V4,
            lab.pod("a1").v4().into(),
            IpAddr::from(lab.pod("b1").v4()),
        ),
        (
            Family::V6,
            lab.pod("a1").v6().into(),
            IpAddr::from(lab.pod("b1").v6()),
        ),
    ] {
        fabric.reset().unwrap();
        // Super-packets, and the marker in the head of the first only.
        let mut bulk = MARKER.to_vec();
        bulk.resize(100_000, b'.');
        tcp(&lab, to, &bulk);
        let socket = udp(&lab, "a1", from);
        socket.send_to(MARKER, SocketAddr::new(to, 9)).unwrap();
        socket.send_to(b"nothing to see", SocketAddr::new(to, 9)).unwrap();
        ping(&lab, to);
        thread::sleep(Duration::from_millis(50));
        let counts = fabric.counts().unwrap();
        assert!(counts.marker.of(family, Protocol::Tcp).packets > 0, "{counts:?}");
        // The errors that come back quote what they are about.
        assert_eq!(counts.marker.of(family, Protocol::Udp).packets, 1, "{counts:?}");
        assert!(
            counts.marker.of(family, Protocol::Icmp).packets >= 3,
            "{counts:?}"
        );
        assert_eq!(counts.all.of(family, Protocol::Udp).packets, 2, "{counts:?}");
        let there = fabric.counts_from("a").unwrap();
        assert_eq!(there.marker.of(family, Protocol::Udp).packets, 1);
        assert_eq!(
            fabric
                .counts_from("b")
                .unwrap()
                .marker
                .of(family, Protocol::Udp)
                .packets,
            0
        );
        assert_eq!(counts.covered.packets(), 0);
    }
}

#[test]
fn a_marker_is_found_at_any_offset_in_the_first_three_hundred_bytes() {
    let lab = lab(Wiring::Bridged);
    let fabric = lab.fabric();
    let to = SocketAddr::new(lab.pod("b1").v4().into(), 9);
    let socket = udp(&lab, "a1", lab.pod("a1").v4().into());
    let marker = &MARKER[..11];
    fabric.set_marker(marker).unwrap();
    for before in 0..260 {
        for after in [0, 7, 40] {
            let mut payload = vec![b'.'; before];
            payload.extend(marker);
            payload.resize(payload.len() + after, b'.');
            socket.send_to(&payload, to).unwrap();
        }
    }
    thread::sleep(Duration::from_millis(50));
    let counts = fabric.counts().unwrap();
    assert_eq!(
        counts.marker.of(Family::V4, Protocol::Udp).packets,
        780,
        "{counts:?}"
    );
    assert!(fabric.set_marker(b"short").is_err());
    fabric.set_marker(&[]).unwrap();
    fabric.reset().unwrap();
    socket.send_to(marker, to).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(fabric.counts().unwrap().marker.packets(), 0);
}

#[test]
fn covered_addresses_are_counted_and_those_of_nodes_are_not() {
    let lab = lab(Wiring::Routed);
    let fabric = lab.fabric();
    fabric.set_covered(&lab.pod_cidrs()).unwrap();
    let nodes = udp_from_node(&lab, lab.node("b").v6().into());
    nodes.send(b"node to node").unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(fabric.counts().unwrap().covered.packets(), 0);
    let to_pod = udp_from_node(&lab, lab.pod("b1").v6().into());
    to_pod.send(b"node to pod").unwrap();
    thread::sleep(Duration::from_millis(50));
    let covered = fabric.counts().unwrap().covered;
    assert_eq!(covered.of(Family::V6, Protocol::Udp).packets, 1);
    fabric.set_covered(&["10.99.0.0/16".parse().unwrap()]).unwrap();
    fabric.reset().unwrap();
    udp_from_node(&lab, lab.pod("b1").v4().into())
        .send(b"node to pod")
        .unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(fabric.counts().unwrap().covered.packets(), 0);
}

fn udp_from_node(lab: &Lab, to: IpAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let connect = || UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((to, 9)).map(|()| socket));
    lab.node("a").netns().run(connect).unwrap().unwrap()
}

#[test]
fn fragments_are_counted() {
    let lab = lab(Wiring::Routed);
    for to in [IpAddr::from(lab.pod("b1").v4()), lab.pod("b1").v6().into()] {
        let mut ping = lab.pod("a1").command("ping");
        let output = ping
            .args(["-c", "1", "-s", "4000", &to.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success());
    }
    let fragments = lab.fabric().counts().unwrap().fragments;
    // Each way three; all but the first are of no known protocol.
    for family in [Family::V4, Family::V6] {
        assert_eq!(fragments.of(family, Protocol::Icmp).packets, 2, "{fragments:?}");
        assert_eq!(fragments.of(family, Protocol::Other).packets, 4, "{fragments:?}");
    }
}

#[test]
fn a_capture_has_each_packet_once() {
    let lab = lab(Wiring::Routed);
    let capture = lab.fabric().capture(CaptureSpec::filter("udp port 9")).unwrap();
    let from = udp(&lab, "a1", lab.pod("a1").v4().into());
    for i in 0..500u32 {
        from.send_to(&i.to_be_bytes(), (lab.pod("b1").v4(), 9)).unwrap();
    }
    let packets = capture.stop().unwrap().complete().unwrap();
    let numbers: Vec<_> = packets
        .iter()
        .map(|p| u32::from_be_bytes(p.data[42..46].try_into().unwrap()))
        .collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    assert!(
        lab.fabric()
            .capture(CaptureSpec::filter("this is no filter"))
            .is_err()
    );
}

/// What of `sent` numbered datagrams arrived through the impairment, in order of arrival.
fn arrived(lab: &Lab, impairment: Impairment, sent: u32) -> Vec<u32> {
    let to = udp(lab, "b1", lab.pod("b1").v4().into());
    // All of them may wait for a receiver that gets no time to run.
    setsockopt(&to, RcvBufForce, &(64 << 20)).unwrap();
    let at = to.local_addr().unwrap();
    let from = udp(lab, "a1", lab.pod("a1").v4().into());
    // Neighbours are resolved first, and not with packets that count.
    from.send_to(b"hello", at).unwrap();
    to.recv(&mut [0; 5]).unwrap();
    lab.fabric().set_impairment(impairment).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Another CPU's queue may be shorter, and what is sent there overtakes.
            let mut one = CpuSet::new();
            one.set(0).unwrap();
            sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            for i in 0..sent {
                from.send_to(&i.to_be_bytes(), at).unwrap();
                if i % 64 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut arrived = Vec::new();
        let mut number = [0; 4];
        while to.recv(&mut number).is_ok() {
            arrived.push(u32::from_be_bytes(number));
        }
        arrived
    })
}

#[test]
fn loss_loses_what_was_asked_for_and_says_how_many() {
    let lab = lab(Wiring::Routed);
    let impairment = Impairment {
        loss_ppm: 100_000,
        ..Impairment::default()
    };
    let arrived = arrived(&lab, impairment, 10_000);
    assert!((8_800..9_200).contains(&arrived.len()), "{}", arrived.len());
    assert!(arrived.is_sorted());
    let lost = lab
        .fabric()
        .counts_from("a")
        .unwrap()
        .lost
        .of(Family::V4, Protocol::Udp)
        .packets;
    assert_eq!(lost as usize, 10_000 - arrived.len());
}

#[test]
fn duplication_duplicates_what_was_asked_for() {
    let lab = lab(Wiring::Routed);
    let impairment = Impairment {
        duplicate_ppm: 200_000,
        ..Impairment::default()
    };
    let mut arrived = arrived(&lab, impairment, 5_000);
    assert!((5_850..6_150).contains(&arrived.len()), "{}", arrived.len());
    let counts = lab.fabric().counts_from("a").unwrap();
    assert_eq!(
        counts.duplicated.of(Family::V4, Protocol::Udp).packets as usize,
        arrived.len() - 5_000
    );
    arrived.dedup();
    assert_eq!(arrived, (0..5_000).collect::<Vec<_>>());
}

#[test]
fn reordering_reorders_and_loses_nothing() {
    let lab = lab(Wiring::Routed);
    let impairment = Impairment {
        reorder_ppm: 50_000,
        ..Impairment::default()
    };
    let mut arrived = arrived(&lab, impairment, 10_000);
    let overtaken = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(overtaken > 100, "{overtaken}");
    let reordered = lab
        .fabric()
        .counts_from("a")
        .unwrap()
        .reordered
        .of(Family::V4, Protocol::Udp)
        .packets;
    assert!((400..600).contains(&reordered), "{reordered}");
    arrived.sort_unstable();
    assert_eq!(arrived, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn tcp_delivers_every_byte_through_all_impairments_over_both_families() {
    let lab = lab(Wiring::Bridged);
    let impairment = Impairment {
        loss_ppm: 5_000,
        duplicate_ppm: 5_000,
        reorder_ppm: 5_000,
        ..Impairment::default()
    };
    lab.fabric().set_impairment(impairment).unwrap();
    let payload: Vec<u8> = (0..4_000_000u32).map(|i| (i / 5) as u8).collect();
    tcp(&lab, lab.pod("b1").v4().into(), &payload);
    tcp(&lab, lab.pod("b1").v6().into(), &payload);
    let counts = lab.fabric().counts().unwrap();
    // More than ten packets of a thousand bytes each would be one super-packet.
    let tcp = counts.all.of(Family::V4, Protocol::Tcp);
    assert!(tcp.bytes / tcp.packets < 1_500);
    assert!(counts.lost.packets() > 0 && counts.duplicated.packets() > 0 && counts.reordered.packets() > 0);
    lab.fabric().set_impairment(Impairment::default()).unwrap();
    lab.fabric().reset().unwrap();
    tcp_again(&lab, &payload);
}

fn tcp_again(lab: &Lab, payload: &[u8]) {
    tcp(lab, lab.pod("b1").v4().into(), payload);
    assert_eq!(lab.fabric().counts().unwrap().lost.packets(), 0);
}

#[test]
fn the_fabric_carries_what_its_mtu_allows_and_no_more() {
    let lab = lab(Wiring::Routed);
    let ping = |size: &str| {
        let mut ping = lab.node("a").command("ping");
        ping.args([
            "-M",
            "do",
            "-c",
            "1",
            "-W",
            "1",
            "-s",
            size,
            &lab.node("b").v4().to_string(),
        ]);
        ping.output().unwrap().status.success()
    };
    assert!(ping("1472") && !ping("1473"));
    lab.set_fabric_mtu(1400).unwrap();
    assert!(ping("1372") && !ping("1373"));
    lab.set_fabric_mtu(9000).unwrap();
    assert!(ping("8972") && !ping("8973"));
}
