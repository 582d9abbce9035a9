//! The API server's port on the machine's loopback, for the tests' own process and for kubectl: those are
//! in the machine's network namespace, the API server is not.
//!
//! Bytes are passed on as they are, TLS included. While the API server is down a connection is accepted
//! and closed at once.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::{LabError, Netns};

/// Listens until dropped. Connections live on until one of their ends is closed.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Passes connections on to `target` as it is seen inside `netns`.
    pub(super) fn start(netns: Netns, target: SocketAddr) -> Result<Self, LabError> {
        let system = |source| LabError::System {
            what: "cannot relay the API server's port to the machine's loopback".into(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(system)?;
        let address = listener.local_addr().map_err(system)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let accept = move || {
            for client in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), netns) = (client, netns.clone()) else {
                    continue;
                };
                // Without a thread the client is dropped, and sees its connection closed.
                let _ = spawn(move || {
                    if let Ok(Ok(server)) = netns.run(|| TcpStream::connect(target)) {
                        pass_on(&client, &server);
                    }
                });
            }
        };
        let thread = Some(spawn(accept).map_err(system)?);
        Ok(Self {
            address,
            stop,
            thread,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread; where that fails it is not waited for.
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("relay".into()).spawn(work)
}

/// Until either side ends: TLS has no use for a connection that is open in one direction only.
fn pass_on(client: &TcpStream, server: &TcpStream) {
    let one_way = |mut from: &TcpStream, mut to: &TcpStream| {
        // An error is an end as well.
        let _ = io::copy(&mut from, &mut to);
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| one_way(client, server));
        one_way(server, client);
    });
}
