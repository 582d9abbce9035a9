//! Waiting for descriptors, being woken from another thread, and the CPU a thread runs on.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

/// Wakes a thread that waits in [`Waiter::wait`].
#[derive(Debug)]
pub(super) struct Waker(File);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the returned descriptor is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a new descriptor that nobody else owns.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    pub(super) fn wake(&self) {
        // It fails only when 2^64 - 2 wakes are pending already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Forgets the wakes so far.
    pub(super) fn rest(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits for any of some descriptors.
#[derive(Default)]
pub(super) struct Waiter(Vec<libc::pollfd>);

impl Waiter {
    /// Starts a new set of descriptors.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a descriptor: to be read, or to be written.
    pub(super) fn add(&mut self, fd: RawFd, write: bool) {
        let events = if write { libc::POLLOUT } else { libc::POLLIN };
        self.0.push(libc::pollfd {
            fd,
            events,
            revents: 0,
        });
    }

    /// Waits until one is ready, for `timeout` at most.
    pub(super) fn wait(&mut self, timeout: Duration) {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let (set, length) = (self.0.as_mut_ptr(), self.0.len() as libc::nfds_t);
        // SAFETY: `set` points at `length` live entries; the timeout lives through the call; no signal mask.
        let ready = unsafe { libc::ppoll(set, length, &timeout, std::ptr::null()) };
        if ready < 0 {
            // A signal: nothing is known to be ready.
            self.0.iter_mut().for_each(|entry| entry.revents = 0);
        }
    }

    /// Whether the descriptor added as number `n` is ready, or in trouble.
    pub(super) fn is_ready(&self, n: usize) -> bool {
        self.0.get(n).is_some_and(|entry| entry.revents != 0)
    }

    /// Whether any descriptor from number `n` on is.
    pub(super) fn is_any_ready_from(&self, n: usize) -> bool {
        self.0.iter().skip(n).any(|entry| entry.revents != 0)
    }
}

/// Binds the calling thread to one CPU.
pub(super) fn bind_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `cpu_set_t` is plain old data, for which all zeros is the empty set; CPU_SET's index is within
    // it, as checked; the kernel reads the set of the size given. 0 is the calling thread.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_ends_the_wait_until_it_is_rested() {
        let waker = Waker::new().expect("an eventfd");
        let mut waiter = Waiter::default();
        waiter.add(waker.fd(), false);
        waiter.wait(Duration::ZERO);
        assert!(!waiter.is_ready(0));
        waker.wake();
        waiter.wait(Duration::from_secs(10));
        assert!(waiter.is_ready(0) && waiter.is_any_ready_from(0) && !waiter.is_any_ready_from(1));
        waker.rest();
        waiter.wait(Duration::ZERO);
        assert!(!waiter.is_ready(0));
    }
}
