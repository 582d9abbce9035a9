//! Packet capture on the fabric.
//!
//! It listens on the bridge, which in promiscuous mode sees each frame that it forwards, once: lost packets
//! are missing from it, duplicates are in it twice.

use std::{
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap::Active;

use crate::{LabError, Netns};

/// Of the kernel, for one capture.
const BUFFER_BYTES: i32 = 64 << 20;
/// Between two looks at whether to end, milliseconds.
const LOOK_EVERY_MS: u16 = 20;

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureSpec {
    /// Bytes kept of each frame.
    pub snaplen: u32,
    /// In tcpdump's language; empty for everything.
    pub filter: String,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        Self {
            snaplen: 256,
            filter: String::new(),
        }
    }
}

impl CaptureSpec {
    /// Captures what `filter`, in tcpdump's language, lets through; 256 bytes of each frame.
    pub fn filter(filter: &str) -> Self {
        Self {
            filter: filter.into(),
            ..Self::default()
        }
    }
}

/// A capture under way; ends when dropped.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Captured, LabError>>>,
}

impl Capture {
    pub(crate) fn start(netns: &Netns, device: &str, spec: CaptureSpec) -> Result<Self, LabError> {
        // The socket stays in the namespace in which it is made.
        let handle = netns.run(|| open(device, &spec))??;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name("fabric-capture".into())
            .spawn({
                let stop = stop.clone();
                move || collect(handle, &stop)
            })
            .map_err(|source| LabError::System {
                what: "cannot start a thread".into(),
                source,
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the capture; all that crossed before the call is in it.
    ///
    /// # Errors
    /// Reading failed, for example because the bridge went down.
    pub fn stop(mut self) -> Result<Captured, LabError> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().expect("only stop and drop take it");
        thread
            .join()
            .expect("the capture's thread has nothing to panic about")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One frame.
#[derive(Clone, Debug)]
pub struct CapturedPacket {
    /// When it crossed.
    pub time: SystemTime,
    /// Its length in bytes on the wire, link header included; that of a super-packet as one.
    pub wire_len: u32,
    /// Its first bytes, from the Ethernet header on.
    pub data: Vec<u8>,
}

/// What a capture found.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// The frames, in order.
    pub packets: Vec<CapturedPacket>,
    /// Frames that were lost to the capture.
    pub dropped: u64,
}

impl Captured {
    /// Only a capture that lost nothing can prove that something did not cross.
    ///
    /// # Errors
    /// Frames were lost.
    pub fn complete(self) -> Result<Vec<CapturedPacket>, LabError> {
        if self.dropped > 0 {
            return Err(LabError::CaptureIncomplete {
                dropped: self.dropped,
                seen: self.packets.len(),
            });
        }
        Ok(self.packets)
    }
}

fn open(device: &str, spec: &CaptureSpec) -> Result<pcap::Capture<Active>, LabError> {
    let mut handle = pcap::Capture::from_device(device)?
        .promisc(true)
        .immediate_mode(true)
        .snaplen(i32::try_from(spec.snaplen).unwrap_or(i32::MAX))
        .buffer_size(BUFFER_BYTES)
        .open()?;
    if !spec.filter.is_empty() {
        handle.filter(&spec.filter, true)?;
    }
    Ok(handle.setnonblock()?)
}

fn collect(mut handle: pcap::Capture<Active>, stop: &AtomicBool) -> Result<Captured, LabError> {
    let mut captured = Captured::default();
    loop {
        // Looked at first, so that one more round is made after it was set.
        let last_round = stop.load(Ordering::Acquire);
        loop {
            match handle.next_packet() {
                Ok(packet) => captured.packets.push(CapturedPacket {
                    time: time(packet.header),
                    wire_len: packet.header.len,
                    data: packet.data.to_vec(),
                }),
                Err(pcap::Error::TimeoutExpired) => break,
                Err(e) => return Err(e.into()),
            }
        }
        if last_round {
            break;
        }
        let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is only a shorter one.
        let _ = poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS));
    }
    let stats = handle.stats()?;
    captured.dropped = u64::from(stats.dropped) + u64::from(stats.if_dropped);
    Ok(captured)
}

fn time(header: &pcap::PacketHeader) -> SystemTime {
    let seconds = Duration::from_secs(header.ts.tv_sec.try_into().unwrap_or(0));
    let micros = Duration::from_micros(header.ts.tv_usec.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH + seconds + micros
}
