//! What a pod may say and hear on its own link: ARP, neighbour discovery, MLD, DHCP, link-local.

use hauberk_abi::{Addr, DropReason, PodAddress};

use crate::{
    maps::{POD_ADDRESSES, copied},
    packet::{IPPROTO_ICMPV6, IPPROTO_UDP, Ip, Transport},
    skb::{ETH_LEN, Skb},
};

const ADVERTISEMENT: u8 = 136;

const UNSPECIFIED_V4: Addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
const UNSPECIFIED_V6: Addr = [0; 16];

/// Whether the address belongs to the pod behind the interface.
#[inline(always)]
pub fn is_pods_own(ifindex: u32, addr: &Addr) -> bool {
    copied(&POD_ADDRESSES, &PodAddress { ifindex, addr: *addr }).is_some()
}

/// ARP with the pod's own address as the sender's, or none (a probe, RFC 5227 §2.1.1).
#[inline(always)]
pub fn check_arp(skb: Skb, ifindex: u32) -> Result<(), DropReason> {
    // Sender protocol address: behind the 8 fixed bytes and the sender's MAC address (RFC 826).
    let [a, b, c, d] = skb.load::<4>(ETH_LEN + 8 + 6)?;
    let sender = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    if sender == UNSPECIFIED_V4 || is_pods_own(ifindex, &sender) {
        Ok(())
    } else {
        Err(DropReason::SpoofedSource)
    }
}

/// Neighbour and router discovery (RFC 4861), DAD (RFC 4862) and MLD (RFC 2710, 3810): never routed, so they
/// have no part in policy.
#[inline(always)]
pub fn is_discovery(ip: &Ip, t: &Transport) -> bool {
    ip.v6 && t.proto == IPPROTO_ICMPV6 && matches!(t.icmp_type, 130..=137 | 143)
}

/// Whether the pod may send with this source. Its own addresses always; others only on the link.
#[inline(always)]
pub fn check_source(skb: Skb, ifindex: u32, ip: &Ip, t: &Transport) -> Result<(), DropReason> {
    if is_discovery(ip, t) && t.icmp_type == ADVERTISEMENT {
        // An advertisement claims the target, whatever its source is.
        let target = skb.load::<16>(t.offset + 8)?;
        if !is_link_local(&target) && !is_pods_own(ifindex, &target) {
            return Err(DropReason::SpoofedSource);
        }
    }
    let own = is_pods_own(ifindex, &ip.src)
        || (is_link_local(&ip.src) && stays_on_link(&ip.dst))
        || (ip.src == UNSPECIFIED_V6 && is_discovery(ip, t) && stays_on_link(&ip.dst))
        || (ip.src == UNSPECIFIED_V4 && is_dhcp_request(t));
    if own {
        Ok(())
    } else {
        Err(DropReason::SpoofedSource)
    }
}

/// A client without an address yet (RFC 2131 §4.1).
#[inline(always)]
fn is_dhcp_request(t: &Transport) -> bool {
    t.proto == IPPROTO_UDP && t.sport == 68u16.to_be() && t.dport == 67u16.to_be()
}

/// fe80::/10 or 169.254.0.0/16.
#[inline(always)]
fn is_link_local(addr: &Addr) -> bool {
    (addr[0] == 0xfe && addr[1] & 0xc0 == 0x80) || (is_v4(addr) && addr[12] == 169 && addr[13] == 254)
}

/// Link-local unicast, and multicast of link or interface scope (ff01::/16, ff02::/16, 224.0.0.0/24).
#[inline(always)]
fn stays_on_link(addr: &Addr) -> bool {
    is_link_local(addr)
        || (addr[0] == 0xff && matches!(addr[1] & 0x0f, 1 | 2))
        || (is_v4(addr) && addr[12] == 224 && addr[13] == 0 && addr[14] == 0)
}

#[inline(always)]
fn is_v4(addr: &Addr) -> bool {
    addr[0] == 0 && addr[10] == 0xff && addr[11] == 0xff
}
