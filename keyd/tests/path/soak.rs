//! A million packets over a fabric that loses, duplicates and reorders them.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{Impairment, LabSpec, ManifestSpec, Wiring};

use crate::stage::{Stage, resident_mib};

const PACKETS: u64 = 1_000_000;
const SIZE: usize = 900;
/// Packets that may be under way, so that what is lost is lost by the fabric and not by a full socket.
const WINDOW: u64 = 64;

/// The payload of packet `number`: every byte follows from it.
fn fill(number: u64, buffer: &mut [u8]) {
    buffer[..8].copy_from_slice(&number.to_be_bytes());
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in buffer[8..].chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

#[test]
fn a_million_packets_over_a_bad_fabric_arrive_uncorrupted_and_leak_nothing() {
    let mut stage = Stage::encrypted(
        LabSpec::two_nodes("soak", Wiring::Routed),
        ManifestSpec::default(),
    );
    let bad = Impairment {
        loss_ppm: 10_000,
        duplicate_ppm: 10_000,
        reorder_ppm: 10_000,
        ..Impairment::default()
    };
    stage
        .lab
        .fabric()
        .set_impairment(bad)
        .expect("the fabric becomes bad");

    let bind = |pod: &str| {
        let pod = stage.lab.pod(pod);
        let socket = pod
            .netns()
            .run(|| UdpSocket::bind(SocketAddr::new(pod.v6().into(), 4300)));
        socket.expect("inside the pod").expect("a UDP socket")
    };
    let (sender, receiver) = (bind("a1"), bind("b1"));
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout");
    sender
        .connect(SocketAddr::new(stage.lab.pod("b1").v6().into(), 4300))
        .expect("connected");

    let newest = AtomicU64::new(0);
    let received = AtomicU64::new(0);
    let mut resident = Vec::new();
    thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut expected = [0; SIZE];
            let mut buffer = [0; 2048];
            let mut twice = 0_u64;
            let mut seen = vec![false; PACKETS as usize];
            while let Ok(length) = receiver.recv(&mut buffer) {
                let number = u64::from_be_bytes(buffer[..8].try_into().expect("8 bytes"));
                assert!(
                    number < PACKETS && length == SIZE,
                    "packet {number} of {length} bytes"
                );
                fill(number, &mut expected);
                assert!(buffer[..length] == expected, "packet {number} is corrupt");
                twice += u64::from(std::mem::replace(&mut seen[number as usize], true));
                newest.fetch_max(number, Ordering::Relaxed);
                received.fetch_add(1, Ordering::Relaxed);
            }
            // The replay window lets no datagram through twice.
            assert_eq!(twice, 0, "packets that arrived twice");
            seen.iter().filter(|&&seen| seen).count() as u64
        });
        let mut payload = [0; SIZE];
        for number in 0..PACKETS {
            let waiting = Instant::now();
            while number > newest.load(Ordering::Relaxed) + WINDOW
                && waiting.elapsed() < Duration::from_secs(1)
            {
                thread::yield_now();
            }
            fill(number, &mut payload);
            sender.send(&payload).expect("sent");
            if number % (PACKETS / 10) == PACKETS / 20 {
                resident.push(["a", "b"].map(|node| resident_mib(stage.mesh.process(node).id())));
            }
        }
        let arrived = counting.join().expect("nothing is corrupt");
        println!("{arrived} of {PACKETS} arrived; resident MiB of both daemons on the way: {resident:?}");
        assert!(arrived as f64 >= 0.97 * PACKETS as f64, "{arrived} arrived");
    });
    // After the first tenth everything that is going to be allocated has been.
    let [first, last] = [resident[1], resident[resident.len() - 1]];
    for (before, after) in first.into_iter().zip(last) {
        assert!(
            after <= before + 2.0,
            "memory grew from {before} to {after} MiB: {resident:?}"
        );
    }
    let counts = stage.lab.fabric().counts().expect("the fabric counts");
    assert!(counts.lost.packets() > 0 && counts.duplicated.packets() > 0 && counts.reordered.packets() > 0);
    stage.assert_no_clear();
}
