//! Addresses and prefixes as the maps have them: 16 bytes, IPv4 mapped into `::ffff:0:0/96`.

use std::net::IpAddr;

use hauberk_abi::Addr;
use ipnet::IpNet;

/// Key of the prefix maps: an address and how many of its 128 bits count. An IPv4 /24 has 120.
pub type Prefix = (Addr, u8);

/// Bits before the IPv4 address in the mapped form.
const MAPPED_BITS: u8 = 96;

/// The 16-byte form of an address.
pub fn mapped(address: IpAddr) -> Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The 16-byte form of a prefix, with the host's bits cleared.
pub fn prefix(net: IpNet) -> Prefix {
    let length = match net {
        IpNet::V4(v4) => MAPPED_BITS + v4.prefix_len(),
        IpNet::V6(v6) => v6.prefix_len(),
    };
    (mapped(net.network()), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_prefix_counts_the_mapped_bits() {
        let (addr, length) = prefix("10.1.2.3/24".parse().expect("a valid prefix"));
        assert_eq!(length, 120);
        assert_eq!(addr, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 0]);
    }

    #[test]
    fn an_ipv6_prefix_keeps_its_length() {
        let (addr, length) = prefix("fd77:1::5/64".parse().expect("a valid prefix"));
        assert_eq!(length, 64);
        assert_eq!(addr, [0xfd, 0x77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
