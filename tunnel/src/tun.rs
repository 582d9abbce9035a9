//! A TUN device with virtio-net headers: opening, probing of offloads, reading and writing.
//!
//! One read gives one packet or super-packet behind a `virtio_net_hdr` of [`VNET_HEADER`] bytes; one
//! write takes the same. The device never blocks.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::lane::{LaneError, Offloads};

/// Bytes of the `virtio_net_hdr` before each packet (include/uapi/linux/virtio_net.h, without `num_buffers`).
pub(crate) const VNET_HEADER: usize = 10;

/// Bytes one read may give: the header and the longest IP packet.
pub(crate) const READ_BUFFER: usize = VNET_HEADER + 65_535;

/// What an owner asks of a TUN.
pub(crate) struct TunOptions<'a> {
    pub(crate) name: &'a str,
    pub(crate) mtu: Option<u32>,
    pub(crate) up: bool,
    pub(crate) persist: bool,
    pub(crate) offloads: Offloads,
}

/// An open TUN device.
#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    name: String,
    ifindex: u32,
    offloads: Offloads,
}

impl Tun {
    /// Makes the device, or attaches to the persistent one of that name.
    pub(crate) fn open(options: &TunOptions) -> Result<Self, LaneError> {
        let name = options.name;
        let bad = |c: char| c == '/' || c == '%' || c.is_whitespace() || c.is_control();
        if name.is_empty()
            || name.len() >= libc::IFNAMSIZ
            || name.contains(bad)
            || name == "."
            || name == ".."
        {
            return Err(LaneError::BadName(name.to_owned()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(LaneError::NoTun)?;
        let failed = |source| LaneError::Tun {
            name: name.to_owned(),
            source,
        };

        let mut request = request_for(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        ioctl_request(file.as_raw_fd(), libc::TUNSETIFF, &mut request).map_err(failed)?;
        // A persistent device keeps the size that its last user chose.
        ioctl_pointer(
            file.as_raw_fd(),
            libc::TUNSETVNETHDRSZ,
            &(VNET_HEADER as libc::c_int),
        )
        .map_err(failed)?;
        ioctl_number(file.as_raw_fd(), libc::TUNSETPERSIST, options.persist.into()).map_err(failed)?;
        let offloads = probe_offloads(&file, options.offloads).map_err(failed)?;

        let control = control_socket().map_err(failed)?;
        let mut request = request_for(name);
        ioctl_request(control.as_raw_fd(), libc::SIOCGIFINDEX, &mut request).map_err(failed)?;
        // SAFETY: SIOCGIFINDEX succeeded, so the kernel wrote the union's `ifru_ifindex`.
        let ifindex = unsafe { request.ifr_ifru.ifru_ifindex } as u32;
        if let Some(mtu) = options.mtu {
            let mut request = request_for(name);
            request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
            ioctl_request(control.as_raw_fd(), libc::SIOCSIFMTU, &mut request).map_err(failed)?;
        }
        if options.up {
            let mut request = request_for(name);
            ioctl_request(control.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request).map_err(failed)?;
            // SAFETY: SIOCGIFFLAGS succeeded, so the kernel wrote the union's `ifru_flags`.
            let flags = unsafe { request.ifr_ifru.ifru_flags };
            request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
            ioctl_request(control.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request).map_err(failed)?;
        }
        Ok(Self {
            file,
            name: name.to_owned(),
            ifindex,
            offloads,
        })
    }

    /// Reads one packet with its header into `buffer`; `None` when no packet waits.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match io::Read::read(&mut &self.file, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one packet, given in pieces, the first of which begins with the header.
    pub(crate) fn write(&self, pieces: &[IoSlice]) -> io::Result<()> {
        io::Write::write_vectored(&mut &self.file, pieces).map(|_| ())
    }

    /// Whether the device outlives this process.
    pub(crate) fn set_persist(&self, persist: bool) -> io::Result<()> {
        ioctl_number(self.file.as_raw_fd(), libc::TUNSETPERSIST, persist.into())
    }

    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The offloads of `checksum`, `tso` and `uso` that the kernel granted.
    pub(crate) fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Packets the kernel dropped on the way to this device, which nothing else tells.
    pub(crate) fn tx_dropped(&self) -> u64 {
        // Not /sys: it shows the namespace it was mounted in. `thread-self` shows this thread's.
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        tx_dropped_in(&table, &self.name).unwrap_or(0)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether an error of read or write means that the device was deleted.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADFD | libc::ENODEV | libc::ENXIO)
    )
}

/// The transmit column "drop" is the fourth of eight behind the eight of receive (net/core/net-procfs.c).
fn tx_dropped_in(table: &str, name: &str) -> Option<u64> {
    let (_, numbers) = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.trim() == name)?;
    numbers.split_ascii_whitespace().nth(11)?.parse().ok()
}

fn probe_offloads(file: &File, want: Offloads) -> io::Result<Offloads> {
    let tso = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let uso = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let mut tries = [want; 4];
    tries[1].uso = false;
    tries[2] = Offloads {
        tso: false,
        uso: false,
        ..want
    };
    tries[3] = Offloads {
        checksum: false,
        tso: false,
        uso: false,
        ..want
    };
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for mut granted in tries {
        granted.tso &= granted.checksum;
        granted.uso &= granted.checksum;
        let bits = if granted.checksum { libc::TUN_F_CSUM } else { 0 }
            | if granted.tso { tso } else { 0 }
            | if granted.uso { uso } else { 0 };
        match ioctl_number(file.as_raw_fd(), libc::TUNSETOFFLOAD, bits.into()) {
            Ok(()) => return Ok(granted),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain old data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *to = from as libc::c_char;
    }
    request
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the returned descriptor is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ioctl_request(fd: RawFd, code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: every `code` used here takes a pointer to an `ifreq`, which is valid for reads and writes.
    check(unsafe { libc::ioctl(fd, code, std::ptr::from_mut(request)) })
}

fn ioctl_pointer(fd: RawFd, code: libc::Ioctl, value: &libc::c_int) -> io::Result<()> {
    // SAFETY: `code` (TUNSETVNETHDRSZ) reads one int through the pointer.
    check(unsafe { libc::ioctl(fd, code, std::ptr::from_ref(value)) })
}

fn ioctl_number(fd: RawFd, code: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: `code` (TUNSETPERSIST, TUNSETOFFLOAD) takes its argument by value.
    check(unsafe { libc::ioctl(fd, code, value) })
}

fn check(result: libc::c_int) -> io::Result<()> {
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
    fn transmit_drops_are_read_from_their_column() {
        let table = "Inter-|   Receive  | Transmit\n face |bytes packets\n  \
            lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n wg-long: 1 2 3 4 5 6 7 8 9 10 11 77 13 14 15 16\n";
        assert_eq!(tx_dropped_in(table, "wg-long"), Some(77));
        assert_eq!(tx_dropped_in(table, "wg"), None);
    }

    #[test]
    fn a_name_that_cannot_be_an_interfaces_is_refused() {
        for name in ["", "has space", "a/b", "sixteen-letters-", "wg%d", ".."] {
            let options = TunOptions {
                name,
                mtu: None,
                up: false,
                persist: false,
                offloads: Offloads::NONE,
            };
            assert!(
                matches!(Tun::open(&options), Err(LaneError::BadName(_))),
                "{name:?}"
            );
        }
    }
}
