//! Round trips over the path that is measured: 64 bytes of TCP there and back, one at a time, on an otherwise
//! idle path. TCP rather than ICMP, because every system carries it the same way as the load.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use hauberk_netlab::{LabError, Netns};
use thiserror::Error;

use crate::{cpu, report::percentile};

/// Bytes of one message.
const MESSAGE: usize = 64;
/// Round trips that are timed, enough for a 99th percentile.
const SAMPLES: usize = 500;
/// Round trips before those, so that caches, neighbours and sessions are warm.
const WARM_UP: usize = 50;
/// No single round trip may take longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Percentiles of the round trip, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rtt {
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Why there is no round trip.
#[derive(Debug, Error)]
pub enum RttError {
    /// No thread could run in a namespace.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The path does not carry TCP.
    #[error("no TCP round trip")]
    Io(#[from] io::Error),
}

/// One end of the path: a namespace, and the core on which its process runs.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub netns: &'a Netns,
    pub core: Option<usize>,
}

impl End<'_> {
    fn run<T: Send>(&self, f: impl FnOnce() -> io::Result<T> + Send) -> Result<T, RttError> {
        let core = self.core;
        let pinned = move || {
            core.map_or(Ok(()), cpu::pin_this_thread)?;
            f()
        };
        Ok(self.netns.run(pinned)??)
    }
}

/// Times round trips from `client` to `address`, where `server` echoes.
pub fn measure(client: End<'_>, server: End<'_>, address: IpAddr) -> Result<Rtt, RttError> {
    let listener = server.run(|| TcpListener::bind((address, 0)))?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| server.run(|| echo(&listener)));
        let times = client.run(|| ping_pong(address));
        if times.is_err() {
            // The echo may still wait for its client: come and go.
            let _ = server.run(|| TcpStream::connect(address));
        }
        let echoed = echo.join().expect("the echo thread does not panic");
        let times = times?;
        echoed?;
        let percent = |p| percentile(times.clone(), p).expect("SAMPLES is not zero");
        Ok(Rtt {
            p50_us: percent(50),
            p99_us: percent(99),
        })
    })
}

fn echo(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn ping_pong(server: SocketAddr) -> io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut message = [0x5a; MESSAGE];
    let mut times = Vec::with_capacity(SAMPLES);
    for turn in 0..WARM_UP + SAMPLES {
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        if turn >= WARM_UP {
            times.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}
