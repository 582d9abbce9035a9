//! Clients that watch what a keyd watches, and throw it away: they stand for the other nodes' load on the API
//! server, and count what a node is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::AsyncReadExt;
use kube::{Client, api::WatchParams, core::Request};
use tokio::{task::JoinSet, time::sleep};

use super::requests::{ALL_PODS, EXTERNAL_PEERS, MESHES, NODES, Requests, SYSTEM_CONFIG_MAPS, TUNNELS};

/// What keyd watches; of the ConfigMaps it asks for one only.
const WATCHED: [&str; 6] = [
    ALL_PODS,
    NODES,
    TUNNELS,
    MESHES,
    EXTERNAL_PEERS,
    SYSTEM_CONFIG_MAPS,
];
/// Until a watch that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Running watchers; they end when this is dropped.
#[derive(Default)]
pub struct Watchers {
    count: usize,
    received: Arc<Received>,
    _tasks: JoinSet<()>,
}

/// What all have received so far.
#[derive(Debug, Default)]
struct Received {
    bytes: AtomicU64,
    events: AtomicU64,
}

impl Watchers {
    /// Starts so many. They see what comes from now on.
    pub fn start(client: &Client, count: usize) -> Self {
        let received = Arc::new(Received::default());
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            for path in WATCHED {
                tasks.spawn(follow(client.clone(), path, Arc::clone(&received)));
            }
        }
        Self {
            count,
            received,
            _tasks: tasks,
        }
    }

    /// Bytes of JSON, and events, that one has received on average.
    pub fn received(&self) -> (f64, f64) {
        let average = |counter: &AtomicU64| counter.load(Relaxed) as f64 / self.count.max(1) as f64;
        (average(&self.received.bytes), average(&self.received.events))
    }
}

async fn follow(client: Client, path: &'static str, received: Arc<Received>) {
    let mut buffer = vec![0; 16 << 10];
    let requests = Requests(client);
    loop {
        let Ok(version) = requests.version(path).await else {
            sleep(AGAIN).await;
            continue;
        };
        let request = Request::new(path)
            // A bookmark is no news: without them what is counted is what changed.
            .watch(&WatchParams::default().disable_bookmarks(), &version)
            .expect("the parameters are valid");
        let Ok(stream) = requests.0.request_stream(request).await else {
            sleep(AGAIN).await;
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let events = buffer[..length].iter().filter(|byte| **byte == b'\n').count();
            received.bytes.fetch_add(length as u64, Relaxed);
            received.events.fetch_add(events as u64, Relaxed);
        }
    }
}
