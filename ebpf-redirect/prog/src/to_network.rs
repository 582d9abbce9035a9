//! What leaves the node: egress of every uplink and overlay device. The guard, and the catch-all.
//!
//! Lanes' datagrams are known by their socket and pass. A covered packet still in clear goes to its lane,
//! or is dropped with a reason, whoever sent it; only a pair that is not yet Sending lets it pass, counted.
//! By a device that is not known nothing else passes: whether it has a link header decides how to read.

use aya_ebpf::{helpers::bpf_get_socket_cookie, macros::classifier, programs::TcContext};
use hauberk_abi::{CONFIG_ENFORCE, Counter, DropReason, IP_NODE};

use crate::{
    count, covered, flow, lane,
    maps::{DEVICES, LANE_COOKIES, copied, flags, ipcache},
    packet::{Ip, Link, Transport},
    skb::{ETH_LEN, Skb},
    verdict::{NEXT, Verdict, finish},
};

#[classifier]
pub fn to_network(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    // SAFETY: the helper takes the context; it answers 0 for a packet without a socket.
    let cookie = unsafe { bpf_get_socket_cookie(skb.as_ptr().cast()) };
    if cookie != 0 && copied(&LANE_COOKIES, &cookie).is_some() {
        count::passed(skb, ETH_LEN, Counter::Ciphertext);
        return NEXT;
    }
    let Some(device) = copied(&DEVICES, &skb.ifindex()) else {
        return finish(skb, ETH_LEN, Err(DropReason::UnknownDevice));
    };
    let bare = device.mac == [0; 6];
    let verdict = guard(skb, bare);
    finish(skb, if bare { 0 } else { ETH_LEN }, verdict)
}

#[inline(always)]
fn guard(skb: Skb, bare: bool) -> Verdict {
    let link = if bare {
        Link::without_header(skb)?
    } else {
        Link::read(skb)?
    };
    if !link.is_ip() {
        return Ok(pass(skb, link.l3, Counter::NotCovered));
    }
    let ip = Ip::read(skb, &link)?;
    let to = ipcache(&ip.dst);
    if !covered::packet_is_covered(&ip.src, &ip.dst, to.as_ref()) {
        let exempt = to.is_some_and(|e| e.flags & IP_NODE != 0)
            && ipcache(&ip.src).is_some_and(|e| e.flags & IP_NODE != 0);
        let counter = if exempt {
            Counter::ExemptHost
        } else {
            Counter::NotCovered
        };
        return Ok(pass(skb, link.l3, counter));
    }
    let flags = flags();
    let Some(peer) = covered::peer_for(to.as_ref(), flags)? else {
        return Ok(pass(skb, link.l3, Counter::Clear));
    };
    // A VLAN tag cannot go through the tunnel; the VLAN's own device is the uplink to guard.
    if link.tagged || skb.has_vlan_tag() {
        return Err(DropReason::InternalError);
    }
    let t = Transport::read(skb, &ip)?;
    if flags & CONFIG_ENFORCE != 0 {
        flow::doubt(&t.reversed_key(&ip));
    }
    let verdict = lane::redirect(skb, link.l3, &peer, t.session_hash(&ip))?;
    count::passed(skb, link.l3, Counter::ToLaneFromStack);
    Ok(verdict)
}

#[inline(always)]
fn pass(skb: Skb, l3: u32, counter: Counter) -> i32 {
    // Between namespaces of one machine a stamp would arrive with the packet and be believed.
    if skb.stamp() != 0 {
        skb.set_stamp(0);
    }
    count::passed(skb, l3, counter);
    NEXT
}
