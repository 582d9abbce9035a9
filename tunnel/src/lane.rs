//! A lane: one thread, one TUN device, one UDP socket, one WireGuard key pair, its own sessions.
//!
//! [`Lane`] is the owner's handle. Everything else lives on the lane's thread; the handle sends it
//! commands and wakes it. Nothing here is on a packet's way.

mod command;
mod config;
mod edges;
mod error;
mod event;
mod pace;
mod run;
mod stats;
mod wait;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use x25519_dalek::PublicKey;

use crate::core::Core;
use crate::packet::coalesce::Merge;
use crate::socket::{PathProbe, Socket};
use crate::tun::{Tun, TunOptions};
use crate::uapi::Server;
use command::{Command, Reply};
pub use config::{LaneConfig, Offloads, PeerConfig, QueueGauge};
use edges::KernelEdges;
pub use error::LaneError;
pub use event::{LaneEvent, LaneEventKind};
use pace::Pace;
use run::Runner;
pub use stats::{LaneStats, PeerStats};
use wait::Waker;

/// A running lane. Dropping it stops it.
#[derive(Debug)]
pub struct Lane {
    name: Arc<str>,
    public_key: PublicKey,
    port: u16,
    cookie: u64,
    ifindex: u32,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts a lane. `events` is called on the lane's thread and must not block.
    ///
    /// Device and socket belong to the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LaneError`] when the device, the socket, the userspace API's socket or the thread cannot be had.
    pub fn start(
        config: LaneConfig,
        events: impl FnMut(LaneEvent) + Send + 'static,
    ) -> Result<Self, LaneError> {
        // The port first: a device would have to be taken away again.
        let socket = Socket::bind(config.listen_port, config.offloads)?;
        let cookie = socket.cookie().map_err(|source| LaneError::Socket {
            what: "SO_COOKIE",
            source,
        })?;
        let tun = Tun::open(&TunOptions {
            name: &config.tun_name,
            mtu: config.tun_mtu,
            up: config.tun_up,
            persist: config.persist_tun,
            offloads: config.offloads,
        })?;
        let uapi = config
            .uapi_dir
            .as_deref()
            .map(|dir| Server::listen(dir, &config.tun_name))
            .transpose()?;
        let Offloads { tso, uso, .. } = tun.offloads();
        let merge = Merge {
            tcp4: tso,
            tcp6: tso,
            udp: uso,
        };

        let step = |what| move |source| LaneError::Thread { what, source };
        let waker = Arc::new(Waker::new().map_err(step("eventfd"))?);
        let (commands, orders) = mpsc::channel();
        let name: Arc<str> = config.tun_name.into();
        let core = Core::new(config.private_key, config.control, merge);
        let (public_key, port, ifindex) = (core.public_key(), socket.port(), tun.ifindex());
        let runner = Runner {
            core,
            edges: KernelEdges {
                tun,
                socket,
                probe: PathProbe::default(),
                name: Arc::clone(&name),
                events: Box::new(events),
            },
            gauge: config.gauge,
            commands: orders,
            waker: Arc::clone(&waker),
            uapi,
            uapi_writable: config.uapi_writable,
            want: config.offloads,
            fwmark: 0,
            started: Instant::now(),
            idle: Duration::ZERO,
            pace: Pace::default(),
        };
        let (bound, is_bound) = mpsc::sync_channel(1);
        let cpu = config.cpu;
        let thread = std::thread::Builder::new()
            // The kernel shows 15 bytes of a thread's name.
            .name(name.to_string())
            .spawn(move || {
                let result = cpu.map_or(Ok(()), wait::bind_to_cpu);
                let failed = result.is_err();
                // The starter waits for exactly this.
                let _ = bound.send(result);
                if !failed {
                    runner.run();
                }
            })
            .map_err(step("spawn"))?;
        let lane = Self {
            name,
            public_key,
            port,
            cookie,
            ifindex,
            commands,
            waker,
            thread: Some(thread),
        };
        is_bound
            .recv()
            .map_err(|_| LaneError::Stopped)?
            .map_err(step("binding it to its CPU"))?;
        Ok(lane)
    }

    /// The public half of the lane's key at its start.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The UDP port in use at its start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The kernel's cookie of the UDP socket (`SO_COOKIE`): how an eBPF program knows the lane's datagrams.
    pub fn socket_cookie(&self) -> u64 {
        self.cookie
    }

    /// The TUN's name.
    pub fn tun_name(&self) -> &str {
        &self.name
    }

    /// The TUN's interface index.
    pub fn tun_ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Adds a peer, or changes it to this. Sessions survive unless the pre-shared key changes.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`], or [`LaneError::Stopped`].
    pub fn set_peer(&self, peer: PeerConfig) -> Result<(), LaneError> {
        self.ask(|reply| Command::ChangePeer(Box::new(peer.into()), reply))?
    }

    /// Removes a peer with its sessions; returns whether it was there.
    ///
    /// # Errors
    /// [`LaneError::Stopped`].
    pub fn remove_peer(&self, peer: &PublicKey) -> Result<bool, LaneError> {
        self.ask(|reply| Command::RemovePeer(*peer, reply))
    }

    /// Starts a handshake with the peer now; [`LaneEventKind::HandshakeDone`] follows. An unanswered one is
    /// repeated every 5 s and given up after 90 s; calling this again repeats it at once, but at most once a
    /// second.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`] when it is not known or has no endpoint, or [`LaneError::Stopped`].
    pub fn connect(&self, peer: &PublicKey) -> Result<(), LaneError> {
        self.ask(|reply| Command::Connect(*peer, reply))?
    }

    /// As [`Lane::connect`], but only where packets wait for the handshake: for an owner that has learnt from
    /// another lane that the peer answers, and what was lost before need not wait for its 5 s.
    ///
    /// # Errors
    /// As [`Lane::connect`].
    pub fn connect_waiting(&self, peer: &PublicKey) -> Result<(), LaneError> {
        self.ask(|reply| Command::ConnectWaiting(*peer, reply))?
    }

    /// Changes the own addresses of control messages, [`LaneConfig::control`].
    ///
    /// # Errors
    /// [`LaneError::Stopped`].
    pub fn set_control(&self, control: Vec<SocketAddr>) -> Result<(), LaneError> {
        self.ask(|reply| Command::SetControl(control, reply))
    }

    /// Sends a control message to the peer through the tunnel; it may be lost. At most 1,024 bytes.
    ///
    /// # Errors
    /// [`LaneError::BadPeer`] when the peer or a control address is not known, or the message is too long;
    /// [`LaneError::Stopped`].
    pub fn send_control(&self, peer: &PublicKey, payload: Vec<u8>) -> Result<(), LaneError> {
        self.ask(|reply| Command::SendControl(*peer, payload, reply))?
    }

    /// The lane's numbers now.
    ///
    /// # Errors
    /// [`LaneError::Stopped`].
    pub fn stats(&self) -> Result<LaneStats, LaneError> {
        self.ask(Command::Stats)
    }

    /// Stops the lane and waits for its thread. A persistent TUN stays.
    pub fn stop(mut self) {
        self.end(false);
    }

    /// Stops the lane and removes its TUN, persistent or not.
    pub fn destroy(mut self) {
        self.end(true);
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LaneError> {
        let (reply, answer): (SyncSender<T>, _) = mpsc::sync_channel(1);
        self.commands
            .send(command(reply))
            .map_err(|_| LaneError::Stopped)?;
        self.waker.wake();
        answer.recv().map_err(|_| LaneError::Stopped)
    }

    fn end(&mut self, destroy: bool) {
        let Some(thread) = self.thread.take() else { return };
        // A thread that has ended takes no commands; a panic in it was reported when it happened.
        let _ = self.commands.send(Command::Stop { destroy });
        self.waker.wake();
        let _ = thread.join();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.end(false);
    }
}
