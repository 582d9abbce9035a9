//! Lanes within this process: two in one namespace, which speak over its loopback.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use hauberk_tunnel::x25519::StaticSecret;
use hauberk_tunnel::{
    DropReason, Lane, LaneConfig, LaneError, LaneEvent, LaneEventKind, Offloads, PeerConfig, QueueGauge,
};

use crate::namespace::unique;
use crate::own::in_own_namespace;

fn config(name: &str, n: u8) -> LaneConfig {
    LaneConfig {
        tun_name: name.to_owned(),
        tun_up: true,
        private_key: Some(StaticSecret::from([n; 32])),
        control: vec![format!("10.9.{n}.1:23399").parse().expect("an address")],
        ..LaneConfig::default()
    }
}

fn start(name: &str, n: u8) -> (Lane, Receiver<LaneEvent>) {
    let (events, received) = mpsc::channel();
    let lane = Lane::start(config(name, n), move |event| {
        events.send(event).expect("the test listens")
    });
    (lane.expect("a lane starts"), received)
}

/// `lane`, number `n`, as its peer sees it.
fn as_peer(lane: &Lane, n: u8) -> PeerConfig {
    PeerConfig {
        public_key: lane.public_key(),
        preshared_key: None,
        endpoint: Some(format!("127.0.0.1:{}", lane.port()).parse().expect("an address")),
        allowed_ips: vec![format!("10.9.{n}.0/24").parse().expect("a prefix")],
        persistent_keepalive: None,
        control: Some(format!("10.9.{n}.1:23399").parse().expect("an address")),
    }
}

fn next(events: &Receiver<LaneEvent>) -> LaneEventKind {
    events
        .recv_timeout(Duration::from_secs(10))
        .expect("an event in time")
        .kind
}

fn has_device(name: &str) -> bool {
    Command::new("ip")
        .args(["link", "show", name])
        .output()
        .expect("ip is installed")
        .status
        .success()
}

#[test]
fn two_lanes_shake_hands_and_exchange_control_messages() {
    in_own_namespace(|| {
        let ((a, events_a), (b, events_b)) = (start("hb-a", 1), start("hb-b", 2));
        a.set_peer(as_peer(&b, 2)).expect("is set");
        b.set_peer(as_peer(&a, 1)).expect("is set");
        a.connect(&b.public_key()).expect("the peer is known");
        for (events, peer) in [(&events_a, b.public_key()), (&events_b, a.public_key())] {
            assert!(matches!(next(events), LaneEventKind::HandshakeDone { peer: p } if p == peer));
        }
        a.send_control(&b.public_key(), b"hello".to_vec())
            .expect("can be sent");
        match next(&events_b) {
            LaneEventKind::Control { peer, payload } => {
                assert_eq!((peer, &*payload), (a.public_key(), &b"hello"[..]));
            }
            other => panic!("{other:?}"),
        }
        let stats = b.stats().expect("runs");
        assert!(
            stats.peers[0]
                .last_handshake
                .is_some_and(|age| age < Duration::from_secs(10))
        );
        assert!(stats.peers[0].rx_bytes > 148);
        // Kernels before 6.2 have no USO.
        let uso = stats.offloads.uso;
        assert_eq!(
            stats.offloads,
            Offloads {
                uso,
                ..Offloads::default()
            }
        );
        assert!(a.socket_cookie() != b.socket_cookie() && a.tun_ifindex() != b.tun_ifindex());
        assert!(b.remove_peer(&a.public_key()).expect("runs"));
        assert!(matches!(b.connect(&a.public_key()), Err(LaneError::BadPeer(_))));
    });
}

#[test]
fn a_persistent_device_stays_is_attached_to_again_and_is_destroyed() {
    in_own_namespace(|| {
        let persistent = || LaneConfig {
            persist_tun: true,
            ..config("hb-stay", 1)
        };
        let first = Lane::start(persistent(), drop).expect("a lane starts");
        let ifindex = first.tun_ifindex();
        assert!(
            matches!(Lane::start(persistent(), drop), Err(LaneError::Tun { .. })),
            "it is in use"
        );
        first.stop();
        assert!(has_device("hb-stay"));
        let second = Lane::start(persistent(), drop).expect("a lane starts again");
        assert_eq!(second.tun_ifindex(), ifindex);
        second.destroy();
        assert!(!has_device("hb-stay"));
        drop(Lane::start(config("hb-go", 1), drop).expect("a lane starts"));
        assert!(!has_device("hb-go"));
    });
}

#[test]
fn a_port_in_use_is_named_and_no_device_is_left() {
    in_own_namespace(|| {
        let (a, _events) = start("hb-a", 1);
        let taken = LaneConfig {
            listen_port: a.port(),
            ..config("hb-b", 2)
        };
        match Lane::start(taken, drop) {
            Err(LaneError::PortInUse { port }) => assert_eq!(port, a.port()),
            other => panic!("{other:?}"),
        }
        assert!(!has_device("hb-b"));
    });
}

#[test]
fn a_deleted_device_ends_the_lane_and_its_owner_is_told() {
    in_own_namespace(|| {
        let (a, events) = start("hb-a", 1);
        assert!(
            Command::new("ip")
                .args(["link", "del", "hb-a"])
                .status()
                .expect("is installed")
                .success()
        );
        assert!(matches!(
            next(&events),
            LaneEventKind::Failed(LaneError::InterfaceGone)
        ));
        let until = Instant::now() + Duration::from_secs(5);
        while a.stats().is_ok() {
            assert!(Instant::now() < until, "the lane still answers");
        }
        assert!(matches!(a.stats(), Err(LaneError::Stopped)));
    });
}

#[test]
fn a_lane_that_may_not_be_changed_can_be_read_and_tells_no_key() {
    in_own_namespace(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let uapi_dir = Some(directory.path().to_owned());
        let lane = Lane::start(
            LaneConfig {
                uapi_dir,
                ..config("hb-a", 1)
            },
            drop,
        )
        .expect("a lane starts");
        let ask = |text: &str| {
            use std::io::{Read, Write};
            let path = directory.path().join("hb-a.sock");
            let mut stream = std::os::unix::net::UnixStream::connect(path).expect("listens");
            stream.write_all(text.as_bytes()).expect("is read");
            let mut answer = [0; 4096];
            let length = stream.read(&mut answer).expect("answers");
            String::from_utf8_lossy(&answer[..length]).into_owned()
        };
        assert_eq!(
            ask("get=1\n\n"),
            format!("listen_port={}\nerrno=0\n\n", lane.port())
        );
        assert_eq!(ask("set=1\nlisten_port=1\n\n"), "errno=1\n\n");
        assert_eq!(ask("nonsense\n\n"), "errno=22\n\n");
    });
}

#[derive(Default)]
struct Gauge {
    bytes: AtomicU64,
    empty: AtomicBool,
}

struct Shared(Arc<Gauge>);

impl QueueGauge for Shared {
    fn consumed(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn empty(&self) {
        self.0.empty.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_gauge_counts_what_leaves_the_device_and_drops_are_counted() {
    in_own_namespace(|| {
        let gauge = Arc::new(Gauge::default());
        let told: Option<Box<dyn QueueGauge>> = Some(Box::new(Shared(Arc::clone(&gauge))));
        let name = format!("hb{}", unique());
        let lane = Lane::start(
            LaneConfig {
                gauge: told,
                ..config(&name, 1)
            },
            drop,
        )
        .expect("a lane starts");
        let before = gauge.bytes.load(Ordering::Relaxed);
        for words in [format!("addr add 10.9.1.1/16 dev {name}"), "route".to_owned()] {
            assert!(
                Command::new("ip")
                    .args(words.split(' '))
                    .output()
                    .expect("is installed")
                    .status
                    .success()
            );
        }
        let socket = std::net::UdpSocket::bind("10.9.1.1:0").expect("binds");
        for _ in 0..10 {
            socket.send_to(&[0; 72], "10.9.2.1:9").expect("the TUN takes it");
        }
        let until = Instant::now() + Duration::from_secs(5);
        while gauge.bytes.load(Ordering::Relaxed) - before < 1_000 {
            assert!(Instant::now() < until, "not all was counted");
        }
        let stats = lane.stats().expect("runs");
        assert!(gauge.empty.load(Ordering::Relaxed));
        assert!(stats.drops.count(DropReason::NoPeer) >= 10);
        assert_eq!(stats.tun_tx_dropped, 0);
    });
}

#[test]
fn a_lane_waits_without_work_and_can_be_bound_to_a_cpu() {
    in_own_namespace(|| {
        let lane = Lane::start(
            LaneConfig {
                cpu: Some(0),
                ..config("hb-a", 1)
            },
            drop,
        )
        .expect("a lane starts");
        std::thread::sleep(Duration::from_secs(1));
        assert!(lane.stats().expect("runs").busy_seconds < 0.1);
        let nowhere = LaneConfig {
            cpu: Some(1_000_000),
            ..config("hb-b", 2)
        };
        assert!(matches!(
            Lane::start(nowhere, drop),
            Err(LaneError::Thread { .. })
        ));
    });
}
