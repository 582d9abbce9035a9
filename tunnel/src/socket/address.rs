//! Socket addresses as the kernel has them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A `sockaddr_in` or `sockaddr_in6` with its length.
pub(super) struct RawAddress {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl RawAddress {
    /// Bytes the storage holds: `sockaddr_in6` is the longer of the two.
    pub(super) const CAPACITY: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

    pub(super) fn empty() -> Self {
        // SAFETY: `sockaddr_in6` is plain old data, for which all zeros is a valid value.
        Self {
            storage: unsafe { std::mem::zeroed() },
            length: Self::CAPACITY,
        }
    }

    /// `address` in the form that a socket of the given family takes.
    pub(super) fn new(address: SocketAddr, ipv6: bool) -> Self {
        let mut raw = Self::empty();
        let v6 = match address {
            SocketAddr::V4(v4) if !ipv6 => {
                let short = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                // SAFETY: `sockaddr_in` is shorter than the storage and needs no stricter alignment.
                unsafe {
                    std::ptr::from_mut(&mut raw.storage)
                        .cast::<libc::sockaddr_in>()
                        .write(short)
                };
                raw.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                return raw;
            }
            SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
            SocketAddr::V6(v6) => v6,
        };
        raw.storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        raw.storage.sin6_port = v6.port().to_be();
        raw.storage.sin6_addr.s6_addr = v6.ip().octets();
        raw.storage.sin6_scope_id = v6.scope_id();
        raw
    }

    /// The address, a mapped one as IPv4; `None` for any other family.
    pub(super) fn parse(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.storage.sin6_family) {
            libc::AF_INET => {
                // SAFETY: the family says that the storage holds a `sockaddr_in`, which is shorter than it.
                let short = unsafe {
                    std::ptr::from_ref(&self.storage)
                        .cast::<libc::sockaddr_in>()
                        .read()
                };
                let ip = short.sin_addr.s_addr.to_ne_bytes().into();
                Some(SocketAddrV4::new(ip, u16::from_be(short.sin_port)).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(self.storage.sin6_addr.s6_addr);
                let port = u16::from_be(self.storage.sin6_port);
                Some(match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
                    None => SocketAddrV6::new(ip, port, 0, self.storage.sin6_scope_id).into(),
                })
            }
            _ => None,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        std::ptr::from_ref(&self.storage).cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        std::ptr::from_mut(&mut self.storage).cast()
    }

    pub(super) fn length(&self) -> libc::socklen_t {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_kernels_form() {
        for text in ["192.0.2.7:51820", "[2001:db8::1]:1", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(RawAddress::new(address, true).parse(), Some(address));
            if address.is_ipv4() {
                assert_eq!(RawAddress::new(address, false).parse(), Some(address));
            }
        }
    }
}
