//! What a pod sends: ingress of its host-side interface.
//!
//! Always takes away the stamp (a pod can set it in its own namespace). When Hauberk enforces: source,
//! egress verdict, then the shortcuts; whatever has no shortcut goes to the host's stack, and `to_network`
//! catches what leaves.

use aya_ebpf::{macros::classifier, programs::TcContext};
use hauberk_abi::{
    CONFIG_ENFORCE, Counter, DIR_EGRESS, DropReason, FlowKey, IDENTITY_OUTSIDE, IP_LOCAL_POD, IpcacheEntry,
    flow_stamp,
};

use crate::{
    count, covered, flow, lane,
    maps::{PODS, copied, flags, ipcache, scratch},
    neighbour,
    packet::{ETHERTYPE_ARP, Ip, Link, Transport},
    policy::{self, Question},
    skb::{ETH_LEN, Skb},
    verdict::{NEXT, Verdict, finish},
};

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    skb.set_stamp(0);
    let flags = flags();
    if flags & CONFIG_ENFORCE == 0 {
        return NEXT;
    }
    finish(skb, ETH_LEN, enforce(skb, flags))
}

#[inline(always)]
fn enforce(skb: Skb, flags: u32) -> Verdict {
    let ifindex = skb.ifindex();
    let link = Link::read(skb)?;
    if link.ethertype == ETHERTYPE_ARP && !link.tagged {
        neighbour::check_arp(skb, ifindex)?;
        return Ok(NEXT);
    }
    // Tagged frames would pass a bridge unread.
    if !link.is_ip() || link.tagged || skb.has_vlan_tag() {
        return Err(DropReason::Malformed);
    }
    let ip = Ip::read(skb, &link)?;
    let t = Transport::read(skb, &ip)?;
    neighbour::check_source(skb, ifindex, &ip, &t)?;
    if neighbour::is_discovery(&ip, &t) {
        return Ok(NEXT);
    }
    let to = ipcache(&ip.dst);
    let pod = copied(&PODS, &ifindex).ok_or(DropReason::InternalError)?;
    let asked = Question {
        set: pod.set,
        remote: to.map_or(IDENTITY_OUTSIDE, |entry| entry.identity),
        direction: DIR_EGRESS,
        of_host: false,
    };
    let keys = scratch()?;
    keys.connection = t.reversed_key(&ip);
    policy::check(skb, &ip, &t, &asked, keys)?;
    deliver(skb, &ip, &t, to.as_ref(), flags, &keys.connection)
}

#[inline(always)]
fn deliver(
    skb: Skb,
    ip: &Ip,
    t: &Transport,
    to: Option<&IpcacheEntry>,
    flags: u32,
    connection: &FlowKey,
) -> Verdict {
    if let Some(entry) = to
        && entry.flags & IP_LOCAL_POD != 0
    {
        return deliver_locally(skb, ip, t, entry);
    }
    if t.shortcut && flow::proven(connection).is_some() && covered::packet_is_covered(&ip.src, &ip.dst, to) {
        if let Some(peer) = covered::peer_for(to, flags)? {
            let verdict = lane::redirect(skb, ETH_LEN, &peer, t.session_hash(ip))?;
            count::passed(skb, ETH_LEN, Counter::ToLaneFromPod);
            return Ok(verdict);
        }
    }
    Ok(NEXT)
}

#[inline(always)]
fn deliver_locally(skb: Skb, ip: &Ip, t: &Transport, entry: &IpcacheEntry) -> Verdict {
    if !t.shortcut {
        return Ok(NEXT);
    }
    let key = t.flow_key(ip);
    if let Some(flow) = flow::proven(&key)
        && flow.ifindex == entry.ifindex
    {
        skb.store(0, &flow.dst_mac)?;
        skb.store(6, &flow.src_mac)?;
        count::passed(skb, ETH_LEN, Counter::LocalShortcut);
        return skb.redirect(flow.ifindex);
    }
    skb.set_stamp(flow_stamp(&key));
    Ok(NEXT)
}
