//! One long-lived TCP connection between two pods: numbered messages, each echoed, each checked.
//!
//! It is never opened again: whether it was reset, lost a byte or stood still is the question.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hauberk_netlab::Netns;

use super::{error::DemoError, marker, pulse::Pulse};

/// Bytes of one message: markers, of which the last eight bytes are overwritten by its number.
const MESSAGE: usize = 128;
/// Pause between an echo and the next message.
const PACE: Duration = Duration::from_millis(5);
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection that stands still for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running connection; ends when dropped.
#[derive(Debug)]
pub struct TcpFlow {
    pulse: Arc<Pulse>,
    stop: Arc<AtomicBool>,
    streams: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
}

impl TcpFlow {
    /// Connects from the namespace `client` to `address` in the namespace `server`.
    pub fn start(client: &Netns, server: &Netns, address: IpAddr) -> Result<Self, DemoError> {
        let (near, far) = connect(client, server, address)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let stop = Arc::new(AtomicBool::new(false));
        let streams = [near.try_clone()?, far.try_clone()?];
        let talk = {
            let (pulse, stop) = (pulse.clone(), stop.clone());
            std::thread::spawn(move || {
                if let Err(error) = talk(near, &pulse, &stop) {
                    pulse.break_off(error.to_string());
                }
            })
        };
        let echo = {
            let (pulse, stop) = (pulse.clone(), stop.clone());
            std::thread::spawn(move || match echo(far) {
                Err(error) if !stop.load(Ordering::Relaxed) => pulse.break_off(error.to_string()),
                _ => {}
            })
        };
        Ok(Self {
            pulse,
            stop,
            streams,
            threads: vec![talk, echo],
        })
    }

    /// When it moved.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}

/// A connection from the namespace `client` to `address` in the namespace `server`: both its ends.
pub fn connect(client: &Netns, server: &Netns, address: IpAddr) -> Result<(TcpStream, TcpStream), DemoError> {
    let listener = server.run(|| TcpListener::bind((address, 0)))??;
    let address = listener.local_addr()?;
    let near = client.run(|| TcpStream::connect_timeout(&address, CONNECT))??;
    // The connection is in the listener's queue: this does not wait.
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

impl Drop for TcpFlow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            // A connection that is broken already needs no shutting down.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            // Their errors are in the pulse; a panic has been printed.
            let _ = thread.join();
        }
    }
}

fn talk(mut stream: TcpStream, pulse: &Pulse, stop: &AtomicBool) -> io::Result<()> {
    let mut message = marker::payload::<MESSAGE>();
    let mut echoed = [0; MESSAGE];
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        message[MESSAGE - 8..].copy_from_slice(&number.to_be_bytes());
        let turn = stream
            .write_all(&message)
            .and_then(|()| stream.read_exact(&mut echoed));
        match turn {
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(()),
            Err(error) => return Err(error),
            Ok(()) if echoed != message => {
                return Err(io::Error::other(format!("message {number} came back changed")));
            }
            Ok(()) => pulse.beat(Instant::now()),
        }
        number += 1;
        std::thread::sleep(PACE);
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut message = [0; MESSAGE];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
