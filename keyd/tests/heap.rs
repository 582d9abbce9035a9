//! What the cluster's pods cost a node: live heap, as the program asked for it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicIsize, Ordering};

use k8s_openapi::jiff::Timestamp;
use keyd::snapshot::{ObjectName, Origin, Pod, Pods};

const PODS: u32 = 10_000;
/// Bytes of live heap that a pod may cost.
const MOST: isize = 300;

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, counted.
struct Counted;

// SAFETY: every call goes to `System` as it came, and what `System` answers goes back as it is, so what it promises
// holds. Counting touches nothing but an atomic number, allocates nothing and cannot panic.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps what `GlobalAlloc::alloc` asks for, which is all that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller says that `place` came from this allocator with this layout, so it came from `System`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// Five labels with keys and values of 20 bytes; the last value is the pod's own.
fn pod(number: u32) -> (ObjectName, Pod) {
    let label = |place: u32| {
        let value = if place == 4 { number } else { number % 7 };
        (
            format!("example.test/key-{place:03}"),
            format!("value-{place}-{value:012}"),
        )
    };
    let name = ObjectName {
        namespace: format!("team-{}", number % 50),
        name: format!("shop-7d4b9c6f5d-{number:05}"),
    };
    let pod = Pod {
        origin: Origin {
            created: Timestamp::from_second(1_800_000_000 + i64::from(number)).ok(),
            uid: Some(format!("0b8a2f6e-53f1-4a67-9c5e-{number:012x}")),
        },
        node: Some(format!("node-{}.example.test", number % 500)),
        addresses: vec![Ipv4Addr::from_bits(0x0a4d_0000 + number).into()],
        labels: (0..5).map(label).collect::<BTreeMap<_, _>>(),
        service_account: "default".to_owned(),
        ..Pod::default()
    };
    (name, pod)
}

fn add(pods: &mut Pods, numbers: Range<u32>) {
    for number in numbers {
        let (name, pod) = pod(number);
        pods.insert(&name, &pod);
    }
}

/// One test, since all that runs in this process is counted.
#[test]
fn a_pod_costs_at_most_300_bytes_a_second_snapshot_next_to_nothing_and_churn_leaves_nothing() {
    assert!(
        pod(0)
            .1
            .labels
            .iter()
            .all(|(key, value)| (key.len(), value.len()) == (20, 20))
    );
    let before = live();
    let mut pods = Pods::default();
    add(&mut pods, 0..PODS);
    let all = live() - before;
    let each = all / PODS as isize;
    println!("{each} bytes a pod");
    assert!(each <= MOST, "{each} bytes a pod");

    let snapshot = pods.clone();
    let (name, mut other) = pod(77);
    other.labels.clear();
    pods.insert(&name, &other);
    let more = live() - before - all;
    assert!(
        more < 32 * 1024,
        "{more} bytes for a snapshot that differs in one pod"
    );
    drop(snapshot);

    for round in 1..=5 {
        let (old, new) = ((round - 1) * PODS..round * PODS, round * PODS..(round + 1) * PODS);
        for number in old {
            assert!(pods.remove(&pod(number).0));
        }
        add(&mut pods, new);
    }
    let after = live() - before;
    assert!(after <= all + all / 20, "{all} bytes before churn, {after} after");
    drop(pods);
    let left = live() - before;
    println!("{left} bytes left");
    assert!(
        left < all / 5,
        "{left} bytes left of {all} when all pods are gone"
    );
}
