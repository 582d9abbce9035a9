//! Pods keep MTU 1500 whatever the path carries, and nothing is ever fragmented outside.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};
use nix::libc;

use crate::stage::{Stage, iperf, iperf_server, received_bits_per_second};

/// Inner MTU on a path of 1500 over IPv4: minus IPv4 (20), UDP (8) and WireGuard's data message (32).
const TUNNEL_MTU: i32 = 1440;

fn two(wiring: Wiring) -> Stage {
    Stage::encrypted(LabSpec::two_nodes("mtu", wiring), ManifestSpec::default())
}

fn both_families(stage: &Stage, pod: &str) -> [IpAddr; 2] {
    let pod = stage.lab.pod(pod);
    [pod.v4().into(), pod.v6().into()]
}

/// A UDP socket in a pod, connected, that may not be fragmented.
fn df_socket(stage: &Stage, pod: &str, to: IpAddr) -> UdpSocket {
    let from = stage.lab.pod(pod);
    let from: IpAddr = if to.is_ipv4() {
        from.v4().into()
    } else {
        from.v6().into()
    };
    let socket = stage
        .lab
        .pod(pod)
        .netns()
        .run(|| UdpSocket::bind(SocketAddr::new(from, 0)));
    let socket = socket.expect("inside the pod").expect("a UDP socket");
    socket.connect(SocketAddr::new(to, 4242)).expect("connected");
    match to {
        IpAddr::V4(_) => set_option(
            &socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DO,
        ),
        IpAddr::V6(_) => set_option(
            &socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        ),
    }
    socket
}

#[allow(unsafe_code)]
fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    // SAFETY: the descriptor is open for the call, and the pointer and length are those of a live i32.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    assert_eq!(result, 0, "setsockopt: {}", io::Error::last_os_error());
}

/// The path MTU as the kernel in the pod knows it for this socket, in bytes.
#[allow(unsafe_code)]
fn path_mtu(socket: &UdpSocket, to: IpAddr) -> i32 {
    let (level, name) = match to {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let (mut value, mut length) = (0_i32, size_of::<i32>() as u32);
    // SAFETY: the descriptor is open for the call; the pointers are to live values of the stated length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "getsockopt: {}", io::Error::last_os_error());
    value
}

/// Sends datagrams with DF, at first a whole packet of `size` bytes, then what the pod's kernel has been told,
/// until nothing more is refused; the path MTU that the kernel knows then. The host's stack may speak first, for
/// its uplink, and the lane then for the tunnel.
fn told_too_big(stage: &Stage, to: IpAddr, size: i32) -> i32 {
    let socket = df_socket(stage, "a1", to);
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let (mut known, mut settled) = (size, Instant::now());
    let begin = Instant::now();
    while known == size || settled.elapsed() < Duration::from_millis(500) {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{size} bytes: never refused; {:?}",
            stage.dropped("a")
        );
        let payload = vec![7; (known - headers) as usize];
        // A closed port answers; that is no matter here.
        if socket
            .send(&payload)
            .is_err_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE))
        {
            (known, settled) = (path_mtu(&socket, to), Instant::now());
        }
        thread::sleep(Duration::from_millis(20));
    }
    known
}

#[test]
fn full_size_udp_with_df_is_told_too_big_and_what_fits_passes() {
    for wiring in [Wiring::Routed, Wiring::Bridged] {
        let stage = two(wiring);
        for to in both_families(&stage, "b1") {
            let headers = if to.is_ipv4() { 28 } else { 48 };
            assert_eq!(told_too_big(&stage, to, 1500), TUNNEL_MTU, "{wiring:?} to {to}");

            let to_pod = stage
                .lab
                .pod("b1")
                .netns()
                .run(|| UdpSocket::bind(SocketAddr::new(to, 4243)));
            let to_pod = to_pod.expect("inside the pod").expect("a UDP socket");
            to_pod
                .set_read_timeout(Some(Duration::from_secs(2)))
                .expect("a timeout");
            let sender = df_socket(&stage, "a1", to);
            sender.connect(SocketAddr::new(to, 4243)).expect("connected");
            let fits = TUNNEL_MTU as usize - headers;
            sender.send(&vec![9; fits]).expect("what fits is sent");
            let mut buffer = [0; 2000];
            assert_eq!(
                to_pod.recv(&mut buffer).expect("and arrives"),
                fits,
                "{wiring:?} to {to}"
            );
        }
        stage.assert_no_clear();
    }
}

#[test]
fn a_ping_of_60000_bytes_and_bulk_tcp_pass() {
    let stage = two(Wiring::Routed);
    let _server = iperf_server(&stage.lab, "b1");
    for to in both_families(&stage, "b1") {
        // Nobody on the way may cut IPv6's fragments: each side learns by "too big" from its first one (RFC 8201).
        let learning = stage.ping("a1", to, &["-c", "5", "-i", "0.2", "-W", "2", "-s", "60000"]);
        assert!(
            to.is_ipv6() || learning.received() == 5,
            "to {to}: {}",
            learning.text
        );
        let pings = stage.ping("a1", to, &["-c", "5", "-i", "0.2", "-W", "2", "-s", "60000"]);
        assert_eq!(pings.received(), 5, "to {to}: {}", pings.text);
        iperf(&stage.lab, "a1", to, &["-n", "200M"]);
    }
    stage.assert_no_clear();
}

#[test]
fn the_path_may_become_smaller_under_way() {
    let stage = two(Wiring::Routed);
    let _server = iperf_server(&stage.lab, "b1");
    for to in both_families(&stage, "b1") {
        thread::scope(|scope| {
            let bulk = scope.spawn(|| iperf(&stage.lab, "a1", to, &["-t", "4", "-i", "0.5"]));
            thread::sleep(Duration::from_millis(1500));
            stage.lab.set_fabric_mtu(1400).expect("the fabric shrinks");
            let report = bulk.join().expect("iperf3 ran");
            let intervals = report["intervals"].as_array().expect("intervals");
            let last = &intervals[intervals.len() - 2]["sum"]["bytes"];
            assert!(
                last.as_u64() > Some(0),
                "to {to}: nothing passed after the path shrank: {intervals:?}"
            );
        });
        assert_eq!(told_too_big(&stage, to, 1500), 1340, "to {to}");
        stage.assert_no_clear();
        stage.lab.set_fabric_mtu(1500).expect("the fabric grows");
        // What the pods' kernels have learnt about the smaller path stays for minutes; forget it.
        for pod in ["a1", "b1"] {
            for family in ["-4", "-6"] {
                let flush = stage
                    .lab
                    .pod(pod)
                    .command("ip")
                    .args([family, "route", "flush", "cache"])
                    .status();
                assert!(flush.expect("ip runs").success());
            }
        }
    }
}

#[test]
fn a_jumbo_fabric_carries_full_size_packets_uncut() {
    let mut spec = LabSpec::two_nodes("jumbo", Wiring::Routed);
    spec.fabric_mtu = 9000;
    let stage = Stage::encrypted(spec, ManifestSpec::default());
    let _server = iperf_server(&stage.lab, "b1");
    for to in both_families(&stage, "b1") {
        let size = if to.is_ipv4() { "1472" } else { "1452" };
        let pings = stage.ping(
            "a1",
            to,
            &["-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", size],
        );
        assert_eq!(pings.received(), 3, "to {to}: {}", pings.text);
        iperf(&stage.lab, "a1", to, &["-n", "100M"]);
    }
    stage.assert_no_clear();
}

#[test]
fn at_1280_tcp_passes_and_larger_ipv6_datagrams_are_dropped_and_counted() {
    let mut spec = LabSpec::two_nodes("least", Wiring::Routed);
    spec.fabric_mtu = 1280;
    let stage = Stage::encrypted(spec, ManifestSpec::default());
    let _server = iperf_server(&stage.lab, "b1");
    for to in both_families(&stage, "b1") {
        iperf(&stage.lab, "a1", to, &["-n", "50M"]);
    }
    let before = stage.dropped("a").get("LaneTooBig").copied().unwrap_or(0);
    // 1,268 bytes with its headers: a size that IPv6 guarantees, and that no tunnel over 1280 can carry whole.
    let pings = stage.ping(
        "a1",
        stage.lab.pod("b1").v6(),
        &["-c", "5", "-i", "0.2", "-W", "1", "-s", "1220"],
    );
    assert_eq!(pings.received(), 0, "{}", pings.text);
    let counted = || stage.dropped("a").get("LaneTooBig").copied().unwrap_or(0) >= before + 5;
    let begin = Instant::now();
    while !counted() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "not counted: {:?}",
            stage.dropped("a")
        );
        thread::sleep(Duration::from_millis(50));
    }
    stage.assert_no_clear();
}

#[test]
fn bulk_under_loss_is_hardly_slower_for_being_cut_again() {
    // Pods of MTU 1420 send segments that fit the tunnel; pods of 1500 need each cut again.
    let stages = [("cut", 1500), ("whole", 1420)].map(|(name, pod_mtu)| {
        let mut spec = LabSpec::two_nodes(name, Wiring::Routed);
        spec.pod_mtu = pod_mtu;
        let stage = Stage::encrypted(spec, ManifestSpec::default());
        let loss = hauberk_netlab::Impairment {
            loss_ppm: 10_000,
            ..Default::default()
        };
        stage
            .lab
            .fabric()
            .set_impairment(loss)
            .expect("the fabric loses packets");
        let server = iperf_server(&stage.lab, "b1");
        (stage, server)
    });
    // In turn, so that a slow moment of the machine hits both.
    let mut ratios = [(); 7].map(|()| {
        let [cut, whole] = stages.each_ref().map(|(stage, _)| {
            let to = stage.lab.pod("b1").v4();
            received_bits_per_second(&iperf(&stage.lab, "a1", to, &["-t", "3"]))
        });
        println!(
            "1 % loss: {:.0} Mb/s cut again, {:.0} Mb/s not",
            cut / 1e6,
            whole / 1e6
        );
        cut / whole
    });
    ratios.sort_by(f64::total_cmp);
    for (stage, _) in &stages {
        stage.assert_no_clear();
    }
    assert!(ratios[3] >= 0.8, "{ratios:.2?}");
}
