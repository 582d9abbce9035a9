//! Holding packets back, so that later ones overtake them.
//!
//! A TAP device is a port of the bridge that learns nothing and is never flooded to. The eBPF program
//! redirects a packet to it; a thread reads it, keeps it for a while and writes it back, whereupon the
//! bridge forwards it to where it was going. All are held for the same time, so a queue is enough.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::OpenOptionsExt,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use crate::{LabError, Netns, error::file, system};

const DEVICE: &str = "hold";
/// The most that a TAP device takes; it never is what limits the fabric.
const MTU: u32 = 65_521;
/// The largest frame: 64 KiB of IP and a link header.
const FRAME_MAX: usize = 65_550;
/// Between two looks at whether to end.
const IDLE: Duration = Duration::from_millis(50);

nix::ioctl_write_int!(tun_set_iff, b'T', 202);

#[derive(Debug)]
struct Shared {
    hold_nanos: AtomicU64,
    stop: AtomicBool,
}

/// The device and its thread; both end when dropped.
#[derive(Debug)]
pub(super) struct Hold {
    ifindex: u32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Hold {
    pub(super) fn start(netns: &Netns, bridge: &str, time: Duration) -> Result<Self, LabError> {
        let (tap, ifindex) = netns.run(open_tap)??;
        let up = format!(
            "link set {DEVICE} master {bridge} mtu {MTU} up
             link set {DEVICE} type bridge_slave learning off flood off mcast_flood off bcast_flood off\n"
        );
        system::run_with_input(Command::new("ip").args(["-n", netns.name(), "-batch", "-"]), &up)?;
        let shared = Arc::new(Shared {
            hold_nanos: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let thread = thread::Builder::new()
            .name("fabric-hold".into())
            .spawn({
                let shared = shared.clone();
                move || keep_holding(tap, &shared)
            })
            .map_err(|source| LabError::System {
                what: "cannot start a thread".into(),
                source,
            })?;
        let hold = Self {
            ifindex,
            shared,
            thread: Some(thread),
        };
        hold.set_time(time);
        Ok(hold)
    }

    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    pub(super) fn set_time(&self, time: Duration) {
        self.shared
            .hold_nanos
            .store(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no way to panic that matters to anyone but its packets.
            let _ = thread.join();
        }
    }
}

/// In the calling thread's namespace. The device vanishes with the file.
fn open_tap() -> Result<(File, u32), LabError> {
    let path = std::path::Path::new("/dev/net/tun");
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(file("cannot open", path))?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    let failed = |e: nix::Error| LabError::System {
        what: "cannot make a TAP device".into(),
        source: e.into(),
    };
    // SAFETY: TUNSETIFF reads an ifreq, which outlives the call.
    unsafe { tun_set_iff(tap.as_raw_fd(), &raw const request as u64) }.map_err(failed)?;
    let ifindex = nix::net::if_::if_nametoindex(DEVICE).map_err(failed)?;
    Ok((tap, ifindex))
}

fn keep_holding(mut tap: File, shared: &Shared) {
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut frame = vec![0; FRAME_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while held.front().is_some_and(|(until, _)| *until <= now) {
            let (_, frame) = held.pop_front().expect("the front is there");
            // A frame that the device refuses is lost, as on any wire.
            let _ = tap.write(&frame);
        }
        let patience = held
            .front()
            .map_or(IDLE, |(until, _)| until.saturating_duration_since(now));
        let mut poll = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut poll, Some(TimeSpec::from_duration(patience.min(IDLE))), None);
        loop {
            match tap.read(&mut frame) {
                Ok(len) => {
                    let time = Duration::from_nanos(shared.hold_nanos.load(Ordering::Relaxed));
                    held.push_back((Instant::now() + time, frame[..len].to_vec()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // The device went away with its namespace.
                Err(_) => return,
            }
        }
    }
}
