//! What a lane decrypted: ingress of its TUN device, where packets have no link header.
//!
//! Proven flows go straight to the pod's interface. All else enters the host's stack as if it had been
//! received on the device by which the kernel's routes reach the source: strict `rp_filter` passes, the TUN
//! needs no address, and iptables sees the uplink as the way in.

use aya_ebpf::{macros::classifier, programs::TcContext};
use hauberk_abi::{CONFIG_ENFORCE, Counter, DropReason, IP_LOCAL_POD, IP_SELF, STAMP_TUNNEL, flow_stamp};

use crate::{
    count, flow,
    maps::{DEVICES, copied, flags, ipcache},
    packet::{Ip, Link, Transport},
    skb::Skb,
    verdict::{Verdict, finish},
};

#[classifier]
pub fn from_tunnel(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    finish(skb, 0, receive(skb))
}

#[inline(always)]
fn receive(skb: Skb) -> Verdict {
    let link = Link::without_header(skb)?;
    let ip = Ip::read(skb, &link)?;
    let t = Transport::read(skb, &ip)?;
    let key = t.flow_key(&ip);
    // The lane has checked the source against the peer's AllowedIPs; this node's own can be in nobody's.
    let from = ipcache(&ip.src).ok_or(DropReason::NoDevice)?;
    if from.flags & (IP_LOCAL_POD | IP_SELF) != 0 {
        return Err(DropReason::SpoofedSource);
    }
    skb.set_stamp(flow_stamp(&key) | STAMP_TUNNEL);
    if t.shortcut
        && flags() & CONFIG_ENFORCE != 0
        && let Some(flow) = flow::proven(&key)
    {
        count::passed(skb, 0, Counter::TunnelShortcut);
        skb.push_ethernet(&ethernet(flow.dst_mac, flow.src_mac, link.ethertype))?;
        return skb.redirect(flow.ifindex);
    }
    let device = copied(&DEVICES, &from.ifindex).ok_or(DropReason::NoDevice)?;
    count::passed(skb, 0, Counter::TunnelToStack);
    if device.mac != [0; 6] {
        // The destination makes it a packet for this host; nobody reads the source.
        skb.push_ethernet(&ethernet(device.mac, [0; 6], link.ethertype))?;
    }
    skb.redirect_into_stack(from.ifindex)
}

#[inline(always)]
fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16) -> [u8; 14] {
    let [d0, d1, d2, d3, d4, d5] = dst;
    let [s0, s1, s2, s3, s4, s5] = src;
    let [t0, t1] = ethertype.to_be_bytes();
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]
}
