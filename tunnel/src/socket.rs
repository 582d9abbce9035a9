//! A lane's UDP socket: both address families, never an outer fragment, many datagrams a call.
//!
//! Sending may wait for room in the socket's buffer, receiving never waits. IPv4 addresses are IPv4
//! outside of this module and mapped ones (::ffff:a.b.c.d) inside.
#![allow(unsafe_code)]

mod address;
mod option;
mod path;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::lane::{LaneError, Offloads};
use address::RawAddress;
pub(crate) use path::PathProbe;

/// Most datagrams of one `UDP_SEGMENT` call: UDP_MAX_SEGMENTS was 64 until Linux 6.9.
pub(crate) const MAX_SEGMENTS: usize = 64;
/// Most bytes of one call: the IPv4 datagram's limit, less its IP and UDP headers.
pub(crate) const MAX_BATCH_BYTES: usize = 65_535 - 20 - 8;
/// Bytes that one receive may give.
pub(crate) const RECEIVE_BUFFER: usize = 65_536;

/// Wanted socket buffers. A lane drains its socket in bursts of some hundred datagrams; the kernel counts
/// each with its overhead, twice.
const BUFFER_BYTES: libc::c_int = 4 << 20;
/// How long a send may wait for room in the socket's buffer: a device that takes nothing must not hold a lane.
const SEND_PATIENCE: Duration = Duration::from_millis(100);
/// Room for the control messages that are sent or received, with what the kernel may add.
const CONTROL_WORDS: usize = 32;

/// Datagrams to one address, `segment` bytes each; the last may be shorter.
pub(crate) struct Batch<'a> {
    pub(crate) to: SocketAddr,
    /// DSCP and ECN.
    pub(crate) tos: u8,
    pub(crate) bytes: &'a [u8],
    pub(crate) segment: usize,
}

/// Datagrams that came together from one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    pub(crate) tos: u8,
    pub(crate) length: usize,
    /// Bytes of each datagram; the last may be shorter.
    pub(crate) segment: usize,
    /// They did not fit the buffer.
    pub(crate) truncated: bool,
}

/// Why a batch was not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Longer than the path's MTU allows.
    TooBig,
    /// Refused for any other reason.
    Other,
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    ipv6: bool,
    port: u16,
    segmentation: bool,
    coalescing: bool,
}

impl Socket {
    /// Binds `port` (0: any) on all addresses of both families, or of IPv4 alone where there is no IPv6.
    pub(crate) fn bind(port: u16, want: Offloads) -> Result<Self, LaneError> {
        match Self::bind_family(true, port, want) {
            Err(LaneError::Socket { source, .. })
                if matches!(
                    source.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
            {
                Self::bind_family(false, port, want)
            }
            result => result,
        }
    }

    fn bind_family(ipv6: bool, port: u16, want: Offloads) -> Result<Self, LaneError> {
        let step = |what| move |source| LaneError::Socket { what, source };
        let fd = option::open(ipv6).map_err(step("socket"))?;
        if ipv6 {
            option::set(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0).map_err(step("IPV6_V6ONLY"))?;
            option::set(
                &fd,
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DO,
            )
            .map_err(step("IPV6_MTU_DISCOVER"))?;
            option::set(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)
                .map_err(step("IPV6_RECVTCLASS"))?;
        }
        // On an IPv6 socket these hold for its mapped addresses.
        option::set(&fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
            .map_err(step("IP_MTU_DISCOVER"))?;
        option::set(&fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1).map_err(step("IP_RECVTOS"))?;
        for (forced, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            // Without CAP_NET_ADMIN the system's limit (net.core.[rw]mem_max) has to do.
            if option::set(&fd, libc::SOL_SOCKET, forced, BUFFER_BYTES).is_err() {
                option::set(&fd, libc::SOL_SOCKET, plain, BUFFER_BYTES).map_err(step("SO_RCVBUF"))?;
            }
        }
        option::set_send_timeout(&fd, SEND_PATIENCE).map_err(step("SO_SNDTIMEO"))?;
        let any: IpAddr = if ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let wanted = RawAddress::new(SocketAddr::new(any, port), ipv6);
        option::bind(&fd, &wanted).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => LaneError::PortInUse { port },
            _ => LaneError::Socket { what: "bind", source },
        })?;
        let port = option::local_address(&fd)
            .map_err(step("getsockname"))?
            .map_or(port, |a| a.port());

        // Setting a segment size of 0 changes nothing and tells whether the kernel knows the option.
        let segmentation = want.udp_segment && option::set(&fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        let coalescing = want.udp_gro && option::set(&fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        Ok(Self {
            fd,
            ipv6,
            port,
            segmentation,
            coalescing,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether `UDP_SEGMENT` and `UDP_GRO` are in use.
    pub(crate) fn offloads(&self) -> (bool, bool) {
        (self.segmentation, self.coalescing)
    }

    /// `SO_COOKIE`.
    pub(crate) fn cookie(&self) -> io::Result<u64> {
        option::cookie(&self.fd)
    }

    /// Datagrams lost because this socket's buffer was full.
    pub(crate) fn rx_dropped(&self) -> u64 {
        option::rx_dropped(&self.fd).unwrap_or(0)
    }

    /// Marks every datagram sent, for routing rules (`wg set … fwmark`).
    pub(crate) fn set_mark(&self, mark: u32) -> io::Result<()> {
        option::set(&self.fd, libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)
    }

    /// Sends a batch, one by one where the kernel or the device cannot segment.
    pub(crate) fn send(&mut self, batch: &Batch) -> Result<(), SendError> {
        let many = batch.bytes.len() > batch.segment;
        if many && self.segmentation {
            match self.send_message(batch, Some(batch.segment as u16)) {
                // The device on the way cannot checksum (net/ipv4/udp.c, udp_send_skb).
                Err(error) if error.raw_os_error() == Some(libc::EIO) => self.segmentation = false,
                // EINVAL is what kernels before 6.14 say to a segment beyond the path's MTU.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL)) => {
                    return Err(SendError::TooBig);
                }
                result => return result.map_err(|_| SendError::Other),
            }
        }
        for datagram in batch.bytes.chunks(batch.segment.max(1)) {
            let single = Batch {
                bytes: datagram,
                segment: datagram.len(),
                ..*batch
            };
            self.send_message(&single, None)
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => SendError::TooBig,
                    _ => SendError::Other,
                })?;
        }
        Ok(())
    }

    fn send_message(&self, batch: &Batch, segment: Option<u16>) -> io::Result<()> {
        let mut to = RawAddress::new(batch.to, self.ipv6);
        let mut control = [0_u64; CONTROL_WORDS];
        let mut piece = libc::iovec {
            iov_base: batch.bytes.as_ptr().cast_mut().cast(),
            iov_len: batch.bytes.len(),
        };
        // SAFETY: `msghdr` is plain old data, for which all zeros is a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = to.as_mut_ptr().cast();
        message.msg_namelen = to.length();
        message.msg_iov = &mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);

        let (level, kind) = match batch.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        let tos = libc::c_int::from(batch.tos);
        // SAFETY: `message` points at `control`, which is aligned for `cmsghdr`, zeroed, and with 256 bytes
        // has room for both messages; CMSG_FIRSTHDR and CMSG_NXTHDR stay within it or give null, and the
        // data of each is written unaligned, within the length given to CMSG_LEN.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&message);
            let mut used = put(header, level, kind, tos);
            if let Some(segment) = segment {
                header = libc::CMSG_NXTHDR(&message, header);
                used += put(header, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
            }
            message.msg_controllen = used;
        }
        // SAFETY: name, iovec and control point at live memory of the lengths given; the kernel only reads.
        let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &message, 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Receives into `buffer`; `None` when nothing waits.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut from = RawAddress::empty();
        let mut control = [0_u64; CONTROL_WORDS];
        let mut piece = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: `msghdr` is plain old data, for which all zeros is a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = from.as_mut_ptr().cast();
        message.msg_namelen = RawAddress::CAPACITY;
        message.msg_iov = &mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: name, iovec and control point at live memory of the lengths given, writable by the kernel.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        let length = length as usize;
        let mut received = Received {
            from: from.parse().ok_or(io::ErrorKind::InvalidData)?,
            tos: 0,
            length,
            segment: length,
            truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        };
        // SAFETY: the kernel filled `control` and set `msg_controllen`; the CMSG macros stay within it or give
        // null, and each read is of a type no longer than the kernel's message of that level and type.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&message);
            while !header.is_null() {
                let data = libc::CMSG_DATA(header);
                match ((*header).cmsg_level, (*header).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_TOS) => received.tos = data.read(),
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                        received.tos = data.cast::<libc::c_int>().read_unaligned() as u8;
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        received.segment = data.cast::<libc::c_int>().read_unaligned().max(1) as usize;
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(&message, header);
            }
        }
        Ok(Some(received))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Writes one control message at `header` and returns the space it takes.
///
/// # Safety
/// `header` must point at a `cmsghdr` with `CMSG_SPACE(size_of::<T>())` writable bytes.
unsafe fn put<T: Copy>(header: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    // SAFETY: by this function's contract header and data are within writable memory.
    unsafe {
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        libc::CMSG_SPACE(size_of::<T>() as u32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(offloads: Offloads) -> (Socket, Socket, SocketAddr) {
        let a = Socket::bind(0, offloads).expect("a socket binds");
        let b = Socket::bind(0, offloads).expect("a socket binds");
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), b.port());
        (a, b, to)
    }

    fn receive_all(socket: &Socket, mut bytes: usize) -> Vec<Received> {
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let mut all = Vec::new();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while bytes > 0 && std::time::Instant::now() < until {
            if let Some(received) = socket.receive(&mut buffer).expect("receives") {
                bytes -= received.length;
                all.push(received);
            }
        }
        assert_eq!(bytes, 0, "datagrams missing");
        all
    }

    #[test]
    fn a_batch_arrives_in_segments_with_its_tos() {
        for offloads in [Offloads::default(), Offloads::NONE] {
            let (mut a, b, to) = pair(offloads);
            let bytes = vec![7; 1_000 * 3 + 10];
            a.send(&Batch {
                to,
                tos: 2,
                bytes: &bytes,
                segment: 1_000,
            })
            .expect("sends");
            let received = receive_all(&b, bytes.len());
            assert!(
                received
                    .iter()
                    .all(|r| r.tos == 2 && r.from.ip() == Ipv4Addr::LOCALHOST)
            );
            let datagrams: usize = received.iter().map(|r| r.length.div_ceil(r.segment)).sum();
            assert_eq!(datagrams, 4);
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let a = Socket::bind(0, Offloads::NONE).expect("a socket binds");
        match Socket::bind(a.port(), Offloads::NONE) {
            Err(LaneError::PortInUse { port }) => assert_eq!(port, a.port()),
            other => panic!("{other:?}"),
        }
    }
}
