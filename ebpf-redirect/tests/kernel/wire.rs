//! What a lane does, without encryption: carries whole packets from one TUN device to another.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use hauberk_ebpf_redirect::QueueCell;

// linux/if_tun.h
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const IFF_TUN: libc::c_short = 0x0001;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;
const TUN_F_CSUM: libc::c_ulong = 1;
const TUN_F_TSO4: libc::c_ulong = 2;
const TUN_F_TSO6: libc::c_ulong = 4;
/// `struct virtio_net_hdr`
const VNET_HEADER: usize = 10;

/// Makes a TUN device in this thread's namespace, with vnet headers and TSO.
pub fn open_tun(name: &str) -> File {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("TUN");
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR).to_ne_bytes());
    // SAFETY: `struct ifreq` has 40 bytes, name first, flags behind; the kernel writes only within.
    let made = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
    // SAFETY: takes a number.
    let offloads = unsafe {
        libc::ioctl(
            tun.as_raw_fd(),
            TUNSETOFFLOAD,
            TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
        )
    };
    assert_eq!(offloads, 0, "{}", io::Error::last_os_error());
    tun
}

/// `SO_COOKIE` of a socket.
pub fn cookie(socket: &impl AsRawFd) -> u64 {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option is 8 bytes, which is what is offered.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    assert_eq!(got, 0, "{}", io::Error::last_os_error());
    cookie
}

/// Cuts what is sent into datagrams of this size.
pub fn set_udp_segment(socket: &impl AsRawFd, size: u16) {
    let size = libc::c_int::from(size);
    // SAFETY: the option is a C int.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Carries packets both ways until dropped.
pub struct Wire {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    largest: Arc<AtomicUsize>,
}

impl Wire {
    /// Each end with the gauge of its device's queue.
    pub fn between(one: (File, QueueCell), other: (File, QueueCell)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let largest = Arc::new(AtomicUsize::new(0));
        let clone = |file: &File| file.try_clone().expect("a descriptor");
        let ends = [(clone(&one.0), clone(&other.0), one.1), (other.0, one.0, other.1)];
        let threads = ends
            .into_iter()
            .map(|(from, to, gauge)| {
                let (stop, largest) = (Arc::clone(&stop), Arc::clone(&largest));
                std::thread::spawn(move || carry(from, to, &gauge, &stop, &largest))
            })
            .collect();
        Self {
            stop,
            threads,
            largest,
        }
    }

    /// Bytes of the largest IP packet seen.
    pub fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has made the test fail by itself: nothing arrives.
            let _ = thread.join();
        }
    }
}

fn carry(mut from: File, mut to: File, gauge: &QueueCell, stop: &AtomicBool, largest: &AtomicUsize) {
    let mut packet = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        if !readable(from.as_raw_fd()) {
            gauge.empty();
            continue;
        }
        let Ok(length) = from.read(&mut packet) else {
            return;
        };
        gauge.consumed((length - VNET_HEADER) as u64);
        largest.fetch_max(length - VNET_HEADER, Ordering::Relaxed);
        // A packet that the kernel refuses is one lost on the way.
        let _ = to.write(&packet[..length]);
    }
}

fn readable(fd: RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 50) == 1 }
}
