//! The lane's thread: drains socket and TUN in turns, sleeps when both are empty.
//!
//! A round: some receives → some reads → what was held back is sent and written → timers → once in a while,
//! or when there was nothing to do, commands and `wg`. It never waits but in [`Waiter::wait`], in the pauses
//! of [`Pace`], and in sending, when the socket's buffer is full.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::command::Command;
use super::edges::KernelEdges;
use super::pace::{PAUSE, Pace};
use super::wait::{Waiter, Waker};
use super::{LaneError, LaneEventKind, LaneStats, Offloads, QueueGauge};
use crate::core::{Core, Edges, MAX_CONTROL, TICK};
use crate::drop_reason::DropReason;
use crate::socket::{RECEIVE_BUFFER, Socket};
use crate::tun;
use crate::uapi::{Asked, Device, Request, Server, SetRequest, errno};

/// Receives, and reads, of one round, and bytes after which it ends as well: enough to spread a round's costs
/// over small packets, few enough that with super-packets neither side waits long for the other (512 KiB are
/// sealed in less than a millisecond).
const CALLS: usize = 64;
const BYTES: usize = 512 << 10;
/// How long commands wait under full load.
const LOOK: Duration = Duration::from_millis(2);

/// Everything the thread owns.
pub(super) struct Runner {
    pub(super) core: Core,
    pub(super) edges: KernelEdges,
    pub(super) gauge: Option<Box<dyn QueueGauge>>,
    pub(super) commands: Receiver<Command>,
    pub(super) waker: Arc<Waker>,
    pub(super) uapi: Option<Server>,
    pub(super) uapi_writable: bool,
    /// What the owner lets the lane use.
    pub(super) want: Offloads,
    pub(super) fwmark: u32,
    pub(super) started: Instant,
    pub(super) idle: Duration,
    pub(super) pace: Pace,
}

/// Why the loop ends.
enum End {
    Stopped { destroy: bool },
    Gone,
}

impl Runner {
    /// Runs until told to stop, or until the device is gone.
    pub(super) fn run(mut self) {
        match self.rounds() {
            End::Stopped { destroy: false } => {}
            End::Stopped { destroy: true } => {
                // It fails only for a device that is gone already.
                let _ = self.edges.tun.set_persist(false);
            }
            End::Gone => self.edges.event(LaneEventKind::Failed(LaneError::InterfaceGone)),
        }
    }

    fn rounds(&mut self) -> End {
        let mut received = vec![0; RECEIVE_BUFFER];
        let mut frame = vec![0; tun::READ_BUFFER];
        let mut waiter = Waiter::default();
        let mut next_tick = Instant::now();
        let mut next_look = next_tick;
        loop {
            let mut worked = self.drain_socket(&mut received);
            match self.drain_tun(&mut frame) {
                Ok(read) => worked |= read,
                Err(Gone) => return End::Gone,
            }
            self.core.finish(&mut self.edges);

            let now = Instant::now();
            if now >= next_tick {
                self.core.tick(now, &mut self.edges);
                next_tick = now + TICK;
            }
            if worked {
                self.pace.worked();
                if now < next_look {
                    continue;
                }
            }
            if !worked && self.pace.rests() {
                std::thread::sleep(PAUSE);
                self.idle += now.elapsed();
                continue;
            }
            next_look = now + LOOK;
            self.wait(&mut waiter, if worked { Duration::ZERO } else { next_tick - now });
            self.pace.woken(Instant::now());
            if waiter.is_ready(WAKER)
                && let Some(end) = self.obey()
            {
                return end;
            }
            if waiter.is_any_ready_from(UAPI) {
                self.serve();
            }
        }
    }

    /// Takes what the socket holds; returns whether there was anything.
    fn drain_socket(&mut self, buffer: &mut [u8]) -> bool {
        let mut worked = false;
        let mut taken = 0;
        for _ in 0..CALLS {
            if taken >= BYTES {
                break;
            }
            let Ok(Some(received)) = self.edges.socket.receive(buffer) else {
                break;
            };
            worked = true;
            taken += received.length;
            let bytes = &buffer[..received.length.min(buffer.len())];
            self.core
                .datagrams_from_socket(&received, bytes, Instant::now(), &mut self.edges);
        }
        worked
    }

    /// Takes what the TUN holds; returns whether there was anything.
    fn drain_tun(&mut self, frame: &mut [u8]) -> Result<bool, Gone> {
        let mut worked = false;
        let mut taken = 0;
        for _ in 0..CALLS {
            if taken >= BYTES {
                break;
            }
            match self.edges.tun.read(frame) {
                Ok(Some(length)) => {
                    worked = true;
                    taken += length;
                    if let Some(gauge) = &self.gauge {
                        gauge.consumed(length.saturating_sub(tun::VNET_HEADER) as u64);
                    }
                    self.core.packet_from_tun(&frame[..length], &mut self.edges);
                }
                Ok(None) => {
                    if let Some(gauge) = &self.gauge {
                        gauge.empty();
                    }
                    break;
                }
                Err(error) if tun::is_gone(&error) => return Err(Gone),
                Err(_) => {
                    self.core.drops_mut().add(DropReason::Malformed, 1);
                    break;
                }
            }
        }
        Ok(worked)
    }

    fn wait(&mut self, waiter: &mut Waiter, timeout: Duration) {
        waiter.clear();
        waiter.add(self.waker.fd(), false);
        waiter.add(self.edges.tun.as_fd().as_raw_fd(), false);
        waiter.add(self.edges.socket.as_fd().as_raw_fd(), false);
        for (fd, write) in self.uapi.iter().flat_map(Server::interests) {
            waiter.add(fd, write);
        }
        let before = Instant::now();
        waiter.wait(timeout);
        self.idle += before.elapsed();
    }

    /// Carries out the handle's commands.
    fn obey(&mut self) -> Option<End> {
        self.waker.rest();
        while let Ok(command) = self.commands.try_recv() {
            // Whoever asked may have given up; then the answer has nowhere to go.
            match command {
                Command::Stop { destroy } => return Some(End::Stopped { destroy }),
                Command::ChangePeer(change, reply) => {
                    let _ = reply.send(self.core.change_peer(*change, &mut self.edges));
                }
                Command::RemovePeer(key, reply) => {
                    // What the batch holds is for a peer that must still be there.
                    self.core.finish(&mut self.edges);
                    let _ = reply.send(self.core.remove_peer(&key));
                }
                Command::Connect(key, reply) => {
                    let _ = reply.send(self.core.connect(&key, Instant::now(), &mut self.edges));
                }
                Command::ConnectWaiting(key, reply) => {
                    let result = self.core.connect_waiting(&key, Instant::now(), &mut self.edges);
                    let _ = reply.send(result);
                }
                Command::SetControl(control, reply) => {
                    self.core.set_control(control);
                    let _ = reply.send(());
                }
                Command::SendControl(key, payload, reply) => {
                    let _ = reply.send(self.send_control(&key, &payload));
                }
                Command::Stats(reply) => {
                    let _ = reply.send(self.stats());
                }
            }
        }
        None
    }

    fn send_control(&mut self, key: &crate::x25519::PublicKey, payload: &[u8]) -> Result<(), LaneError> {
        let id = self
            .core
            .peers()
            .id(key)
            .ok_or(LaneError::BadPeer("no such peer"))?;
        if payload.len() > MAX_CONTROL {
            return Err(LaneError::BadPeer("a control message has at most 1,024 bytes"));
        }
        if self.core.control_way(id).is_none() {
            return Err(LaneError::BadPeer(
                "no pair of control addresses of one family is known",
            ));
        }
        self.core.send_control(id, payload, &mut self.edges);
        Ok(())
    }

    fn stats(&self) -> LaneStats {
        let (udp_segment, udp_gro) = self.edges.socket.offloads();
        LaneStats {
            drops: self.core.drops().clone(),
            tun_tx_dropped: self.edges.tun.tx_dropped(),
            socket_rx_dropped: self.edges.socket.rx_dropped(),
            busy_seconds: self.started.elapsed().saturating_sub(self.idle).as_secs_f64(),
            offloads: Offloads {
                udp_segment,
                udp_gro,
                ..self.edges.tun.offloads()
            },
            peers: self.core.peer_stats(Instant::now()),
        }
    }

    fn serve(&mut self) {
        if let Some(mut server) = self.uapi.take() {
            server.serve(|asked| self.answer(asked));
            self.uapi = Some(server);
        }
    }

    fn answer(&mut self, asked: Asked) -> (Zeroizing<String>, i32) {
        match asked {
            Ok(Request::Get) => {
                let listen_port = self.edges.socket.port();
                let device = Device {
                    listen_port,
                    fwmark: self.fwmark,
                    secrets: self.uapi_writable,
                };
                (device.describe(&self.core), errno::OK)
            }
            Ok(Request::Set(_)) if !self.uapi_writable => (Zeroizing::default(), errno::NOT_PERMITTED),
            Ok(Request::Set(request)) => (Zeroizing::default(), self.apply(request)),
            Err(_) => (Zeroizing::default(), errno::INVALID),
        }
    }

    /// Applies `wg set`; returns an errno.
    fn apply(&mut self, request: SetRequest) -> i32 {
        self.core.finish(&mut self.edges);
        if let Some(port) = request.listen_port
            && port != self.edges.socket.port()
        {
            match Socket::bind(port, self.want) {
                Ok(socket) if socket.set_mark(self.fwmark).is_ok() => self.edges.socket = socket,
                Err(LaneError::PortInUse { .. }) => return libc::EADDRINUSE,
                _ => return errno::IO,
            }
        }
        if let Some(mark) = request.fwmark {
            if self.edges.socket.set_mark(mark).is_err() {
                return errno::IO;
            }
            self.edges.probe.set_mark(mark);
            self.fwmark = mark;
        }
        if let Some(key) = request.private_key {
            self.core.set_private_key(key);
        }
        if request.replace_peers {
            self.core.remove_all_peers();
        }
        for change in request.peers {
            // The one refusal, a peer that is the lane itself, is ignored by the kernel's WireGuard too.
            let _ = self.core.change_peer(change, &mut self.edges);
        }
        self.core.tick(Instant::now(), &mut self.edges);
        errno::OK
    }
}

/// The device was deleted.
struct Gone;

/// Positions in the set of descriptors waited for.
const WAKER: usize = 0;
const UAPI: usize = 3;
