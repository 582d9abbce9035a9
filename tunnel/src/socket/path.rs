//! The MTU of the path to an address, as the kernel knows it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::address::RawAddress;
use super::option;

/// Sockets that are connected to one address after another and asked for their path's MTU. Learnt MTUs
/// belong to the route, so what the lane's own datagrams met is seen here.
#[derive(Debug, Default)]
pub(crate) struct PathProbe {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
    mark: u32,
}

impl PathProbe {
    /// Follows the same routing rules as a socket with this mark.
    pub(crate) fn set_mark(&mut self, mark: u32) {
        *self = Self {
            mark,
            ..Self::default()
        };
    }

    /// Bytes of the largest outer IP packet on the path to `to`; `None` while there is no route.
    pub(crate) fn mtu(&mut self, to: SocketAddr) -> Option<u16> {
        let (slot, level, name) = match to {
            SocketAddr::V4(_) => (&mut self.v4, libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => (&mut self.v6, libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        if slot.is_none() {
            let fd = option::open(to.is_ipv6()).ok()?;
            if self.mark != 0 {
                option::set(&fd, libc::SOL_SOCKET, libc::SO_MARK, self.mark as libc::c_int).ok()?;
            }
            *slot = Some(fd);
        }
        let fd = slot.as_ref()?;
        option::connect(fd, &RawAddress::new(to, to.is_ipv6())).ok()?;
        let mtu = option::number(fd, level, name).ok()?;
        Some(mtu.clamp(0, u16::MAX.into()) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_path_is_as_wide_as_its_device() {
        let mtu = PathProbe::default().mtu("127.0.0.1:9".parse().expect("an address"));
        assert_eq!(mtu, Some(u16::MAX));
    }
}
