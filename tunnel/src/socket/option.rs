//! Thin calls: open, bind, socket options.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::address::RawAddress;

/// SO_MEMINFO (include/uapi/asm-generic/socket.h); its ninth number is the count of drops
/// (include/uapi/linux/sock_diag.h, SK_MEMINFO_DROPS).
const SO_MEMINFO: libc::c_int = 55;
const MEMINFO_DROPS: usize = 8;

pub(super) fn open(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointers are passed; the returned descriptor is checked before it is owned.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn bind(fd: &OwnedFd, address: &RawAddress) -> io::Result<()> {
    // SAFETY: pointer and length describe one live address.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr(), address.length()) })
}

pub(super) fn connect(fd: &OwnedFd, address: &RawAddress) -> io::Result<()> {
    // SAFETY: pointer and length describe one live address.
    check(unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr(), address.length()) })
}

pub(super) fn local_address(fd: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    let mut address = RawAddress::empty();
    let mut length = RawAddress::CAPACITY;
    // SAFETY: the storage has room for `length` bytes.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), address.as_mut_ptr(), &mut length) })?;
    Ok(address.parse())
}

pub(super) fn set(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer is to a live int of the length given.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    })
}

/// How long a send waits at most.
pub(super) fn set_send_timeout(fd: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let timeout = libc::timeval {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_usec: timeout.subsec_micros().into(),
    };
    // SAFETY: the pointer is to a live `timeval` of the length given.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            std::ptr::from_ref(&timeout).cast(),
            size_of_val(&timeout) as libc::socklen_t,
        )
    })
}

/// Reads an option into `value`; how many bytes the kernel wrote does not matter to any caller here, since
/// what it did not write stays zero.
fn read<T: Copy>(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer is to live memory of `length` bytes; `T` is an integer or an array of them, valid
    // for any bits.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &mut length,
        )
    })
}

pub(super) fn number(fd: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    read(fd, level, name, &mut value)?;
    Ok(value)
}

pub(super) fn cookie(fd: &OwnedFd) -> io::Result<u64> {
    let mut value = 0_u64;
    read(fd, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value)?;
    Ok(value)
}

pub(super) fn rx_dropped(fd: &OwnedFd) -> io::Result<u64> {
    let mut value = [0_u32; 16];
    read(fd, libc::SOL_SOCKET, SO_MEMINFO, &mut value)?;
    Ok(value[MEMINFO_DROPS].into())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
