//! ICMP errors belong to the connection of the packet that they quote.

use hauberk_abi::{DIR_INGRESS, DropReason, FlowKey};

use crate::{
    packet::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, Ip, Transport, mapped},
    skb::Skb,
};

/// Whether the packet is an ICMP error that quotes enough; if so, `key` is the connection that it is about, as packets
/// come to the pod.
#[inline(always)]
pub fn quotes(skb: Skb, ip: &Ip, t: &Transport, direction: u32, key: &mut FlowKey) -> bool {
    let is_error = match t.proto {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        IPPROTO_ICMP => matches!(t.icmp_type, 3 | 11 | 12),
        // RFC 4443 §2.1.
        IPPROTO_ICMPV6 => matches!(t.icmp_type, 1..=4),
        _ => false,
    };
    // What says too little belongs to nothing.
    is_error && !t.fragment && read(skb, ip.v6, t.offset + 8, direction, key).is_ok()
}

/// The quoted packet went the other way than the error: what comes to a pod quotes what it sent.
#[inline(always)]
fn read(skb: Skb, v6: bool, inner: u32, direction: u32, key: &mut FlowKey) -> Result<(), DropReason> {
    // What a pod sent, the quoted packet, is turned round to be as packets come to it.
    let (src, dst) = if direction == DIR_INGRESS {
        (&mut key.dst, &mut key.src)
    } else {
        (&mut key.src, &mut key.dst)
    };
    let behind = if v6 {
        key.proto = skb.load::<1>(inner + 6)?[0];
        skb.load_into(inner + 8, src)?;
        skb.load_into(inner + 24, dst)?;
        inner + 40
    } else {
        let [first] = skb.load::<1>(inner)?;
        key.proto = skb.load::<1>(inner + 9)?[0];
        *src = mapped(skb.load(inner + 12)?);
        *dst = mapped(skb.load(inner + 16)?);
        inner + ((first & 0x0f) as u32) * 4
    };
    let [a, b, c, d] = match key.proto {
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP => skb.load::<4>(behind)?,
        // The identifier of an echo, twice.
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            let [a, b] = skb.load::<2>(behind + 4)?;
            [a, b, a, b]
        }
        _ => [0; 4],
    };
    let (from, to) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
    key.pad = [0; 3];
    if direction == DIR_INGRESS {
        (key.sport, key.dport) = (to, from);
    } else {
        (key.sport, key.dport) = (from, to);
    }
    Ok(())
}
