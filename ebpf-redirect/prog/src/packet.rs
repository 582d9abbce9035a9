//! Reads IP headers: addresses first, which decide most packets, then what lies behind them.

use hauberk_abi::{Addr, DropReason, FlowKey, symmetric_flow_hash};

use crate::skb::{ETH_LEN, Skb};

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_ICMPV6: u8 = 58;
pub const IPPROTO_SCTP: u8 = 132;
const IPPROTO_DCCP: u8 = 33;
const IPPROTO_UDPLITE: u8 = 136;
// IPv6 extension headers, RFC 8200 §4 and RFC 4302.
const EXT_HOP_BY_HOP: u8 = 0;
const EXT_ROUTING: u8 = 43;
const EXT_FRAGMENT: u8 = 44;
const EXT_AUTHENTICATION: u8 = 51;
const EXT_DESTINATION: u8 = 60;
const EXT_MOBILITY: u8 = 135;

/// Extension headers that are followed; RFC 8200 §4.1 knows seven kinds, most of them at most once.
const MAX_EXTENSIONS: u32 = 8;

// TCP flags, RFC 9293 §3.1.
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;
// SCTP chunks, RFC 9260 §3.2.
const SCTP_INIT: u8 = 1;
const SCTP_ABORT: u8 = 6;
const SCTP_SHUTDOWN_COMPLETE: u8 = 14;

/// Where the IP header of a frame starts, and what it is.
pub struct Link {
    pub ethertype: u16,
    pub l3: u32,
    /// A VLAN tag lies in the bytes.
    pub tagged: bool,
}

impl Link {
    /// Reads an Ethernet header, with at most two VLAN tags in the bytes.
    #[inline(always)]
    pub fn read(skb: Skb) -> Result<Self, DropReason> {
        let mut l3 = ETH_LEN;
        let mut ethertype = u16::from_be_bytes(skb.load::<2>(l3 - 2)?);
        let mut tagged = false;
        for _ in 0..2 {
            if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_SERVICE_VLAN {
                break;
            }
            l3 += 4;
            ethertype = u16::from_be_bytes(skb.load::<2>(l3 - 2)?);
            tagged = true;
        }
        Ok(Self {
            ethertype,
            l3,
            tagged,
        })
    }

    /// For devices without a link header: the IP version says what it is.
    #[inline(always)]
    pub fn without_header(skb: Skb) -> Result<Self, DropReason> {
        let [first] = skb.load::<1>(0)?;
        let ethertype = match first >> 4 {
            4 => ETHERTYPE_IPV4,
            6 => ETHERTYPE_IPV6,
            _ => return Err(DropReason::Malformed),
        };
        Ok(Self {
            ethertype,
            l3: 0,
            tagged: false,
        })
    }

    #[inline(always)]
    pub fn is_ip(&self) -> bool {
        self.ethertype == ETHERTYPE_IPV4 || self.ethertype == ETHERTYPE_IPV6
    }
}

/// The IP header.
pub struct Ip {
    pub v6: bool,
    pub src: Addr,
    pub dst: Addr,
    /// Protocol, or the first IPv6 extension header.
    next: u8,
    /// Offset of what follows the header.
    behind: u32,
    /// IPv4: one of several fragments. (IPv6 says so in an extension header.)
    fragment: bool,
    /// IPv4: not the first fragment.
    later_fragment: bool,
    /// IPv4: what its fragments have in common.
    id: u16,
}

impl Ip {
    #[inline(always)]
    pub fn read(skb: Skb, link: &Link) -> Result<Self, DropReason> {
        match link.ethertype {
            ETHERTYPE_IPV4 => Self::read_v4(skb, link.l3),
            ETHERTYPE_IPV6 => Self::read_v6(skb, link.l3),
            _ => Err(DropReason::Malformed),
        }
    }

    #[inline(always)]
    fn read_v4(skb: Skb, l3: u32) -> Result<Self, DropReason> {
        let h = skb.load::<20>(l3)?;
        let header_len = ((h[0] & 0x0f) as u32) * 4;
        if h[0] >> 4 != 4 || header_len < 20 {
            return Err(DropReason::Malformed);
        }
        let more_and_offset = u16::from_be_bytes([h[6], h[7]]) & 0x3fff;
        Ok(Self {
            v6: false,
            src: mapped([h[12], h[13], h[14], h[15]]),
            dst: mapped([h[16], h[17], h[18], h[19]]),
            next: h[9],
            behind: l3 + header_len,
            fragment: more_and_offset != 0,
            later_fragment: more_and_offset & 0x1fff != 0,
            id: u16::from_ne_bytes([h[4], h[5]]),
        })
    }

    #[inline(always)]
    fn read_v6(skb: Skb, l3: u32) -> Result<Self, DropReason> {
        let h = skb.load::<8>(l3)?;
        if h[0] >> 4 != 6 {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            v6: true,
            src: skb.load::<16>(l3 + 8)?,
            dst: skb.load::<16>(l3 + 24)?,
            next: h[6],
            behind: l3 + 40,
            fragment: false,
            later_fragment: false,
            id: 0,
        })
    }
}

#[inline(always)]
fn tcp_step(flags: u8) -> Step {
    match flags {
        _ if flags & TCP_RST != 0 => Step::Reset,
        _ if flags & (TCP_SYN | TCP_ACK) == TCP_SYN => Step::Open,
        _ if flags & TCP_FIN != 0 => Step::Done,
        _ => Step::Other,
    }
}

/// Of its first chunk; an INIT is alone in its packet (RFC 9260 §6.10).
#[inline(always)]
fn sctp_step(chunk: u8) -> Step {
    match chunk {
        SCTP_INIT => Step::Open,
        SCTP_ABORT | SCTP_SHUTDOWN_COMPLETE => Step::Reset,
        _ => Step::Other,
    }
}

#[inline(always)]
pub fn mapped(v4: [u8; 4]) -> Addr {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// What a packet means for its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It asks for a new one: a SYN, an INIT, an echo request.
    Open,
    /// The sender's last, a FIN.
    Done,
    /// It ends the connection at once: an RST, an ABORT.
    Reset,
    /// Any other.
    Other,
}

/// What lies behind the IP header.
pub struct Transport {
    pub proto: u8,
    /// Offset of the transport header.
    pub offset: u32,
    /// Network byte order; ICMP echo: the identifier, in both. 0 where there is none.
    pub sport: u16,
    pub dport: u16,
    /// ICMP type.
    pub icmp_type: u8,
    pub step: Step,
    pub fragment: bool,
    /// Not the first fragment: there is no header, and so neither ports nor a step.
    pub later_fragment: bool,
    /// What the fragments of one datagram have in common, network byte order.
    pub fragment_id: u32,
    /// May be delivered past the host's stack once its flow is proven: TCP, UDP or echo with ports, whole,
    /// and neither opening nor closing a connection. Those that do always pass the stack, or the host's
    /// conntrack would never learn of them.
    pub shortcut: bool,
}

impl Transport {
    #[inline(always)]
    pub fn read(skb: Skb, ip: &Ip) -> Result<Self, DropReason> {
        let mut t = Self {
            proto: ip.next,
            offset: ip.behind,
            sport: 0,
            dport: 0,
            icmp_type: 0,
            step: Step::Other,
            fragment: ip.fragment,
            later_fragment: ip.later_fragment,
            fragment_id: ip.id as u32,
            shortcut: false,
        };
        if ip.v6 {
            t.skip_extensions(skb)?;
        }
        if !t.later_fragment {
            t.read_header(skb)?;
        }
        Ok(t)
    }

    /// Walks IPv6 extension headers, of a later fragment only those before the fragment's.
    #[inline(always)]
    fn skip_extensions(&mut self, skb: Skb) -> Result<(), DropReason> {
        for _ in 0..MAX_EXTENSIONS {
            let len = match self.proto {
                EXT_HOP_BY_HOP | EXT_ROUTING | EXT_DESTINATION | EXT_MOBILITY => {
                    let [next, len] = skb.load::<2>(self.offset)?;
                    self.proto = next;
                    (len as u32 + 1) * 8
                }
                EXT_AUTHENTICATION => {
                    let [next, len] = skb.load::<2>(self.offset)?;
                    self.proto = next;
                    (len as u32 + 2) * 4
                }
                EXT_FRAGMENT => {
                    let [next, _, high, low, a, b, c, d] = skb.load::<8>(self.offset)?;
                    self.proto = next;
                    self.fragment = true;
                    self.fragment_id = u32::from_ne_bytes([a, b, c, d]);
                    if u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                        self.later_fragment = true;
                        return Ok(());
                    }
                    8
                }
                _ => return Ok(()),
            };
            self.offset += len;
        }
        // A chain this long has no use but to hide what it carries.
        Err(DropReason::Malformed)
    }

    #[inline(always)]
    fn read_header(&mut self, skb: Skb) -> Result<(), DropReason> {
        match self.proto {
            IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_SCTP | IPPROTO_DCCP => {
                let [a, b, c, d] = skb.load::<4>(self.offset)?;
                self.sport = u16::from_ne_bytes([a, b]);
                self.dport = u16::from_ne_bytes([c, d]);
                // A first fragment has to have these bytes too, or nobody could tell what it asks for (RFC 1858 §2).
                match self.proto {
                    IPPROTO_TCP => {
                        let [flags] = skb.load::<1>(self.offset + 13)?;
                        self.step = tcp_step(flags);
                        self.shortcut = !self.fragment && flags & (TCP_FIN | TCP_SYN | TCP_RST) == 0;
                    }
                    IPPROTO_SCTP => self.step = sctp_step(skb.load::<1>(self.offset + 12)?[0]),
                    IPPROTO_UDP => self.shortcut = !self.fragment,
                    _ => {}
                }
            }
            IPPROTO_ICMP | IPPROTO_ICMPV6 => {
                let [kind, _, _, _, a, b] = skb.load::<6>(self.offset)?;
                self.icmp_type = kind;
                let (request, answer) = match self.proto {
                    IPPROTO_ICMP => (kind == 8, kind == 0),
                    _ => (kind == 128, kind == 129),
                };
                if request || answer {
                    self.sport = u16::from_ne_bytes([a, b]);
                    self.dport = self.sport;
                    self.shortcut = !self.fragment;
                }
                if request {
                    self.step = Step::Open;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The flow as this packet has it.
    #[inline(always)]
    pub fn flow_key(&self, ip: &Ip) -> FlowKey {
        FlowKey {
            src: ip.src,
            dst: ip.dst,
            sport: self.sport,
            dport: self.dport,
            proto: self.proto,
            pad: [0; 3],
        }
    }

    /// The flow as packets the other way have it.
    #[inline(always)]
    pub fn reversed_key(&self, ip: &Ip) -> FlowKey {
        FlowKey {
            src: ip.dst,
            dst: ip.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
            pad: [0; 3],
        }
    }

    /// Chooses the session. Fragments go by addresses and protocol, the first as well as the later ones.
    #[inline(always)]
    pub fn session_hash(&self, ip: &Ip) -> u32 {
        let (sport, dport) = if self.fragment {
            (0, 0)
        } else {
            (self.sport, self.dport)
        };
        symmetric_flow_hash(&ip.src, &ip.dst, self.proto, sport, dport)
    }
}
