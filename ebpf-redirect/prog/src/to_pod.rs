//! What a pod receives, by whatever way: egress of its host-side interface.
//!
//! Refuses, in Strict, what a covered source or a node sent in clear; judges by ingress policy; records the
//! proof that a flow passed the stack untranslated.

use aya_ebpf::{macros::classifier, programs::TcContext};
use hauberk_abi::{
    CONFIG_DROP_UNKNOWN, CONFIG_ENFORCE, DIR_INGRESS, DropReason, IDENTITY_OUTSIDE, IP_LOCAL_POD, IP_SELF,
    IpcacheEntry, NO_PEER, PHASE_STRICT, STAMP_TUNNEL, flow_stamp,
};

use crate::{
    covered, flow,
    maps::{PEERS, PODS, copied, flags, ipcache, is_covered, scratch},
    neighbour,
    packet::{Ip, Link, Transport},
    policy::{self, Question},
    skb::{ETH_LEN, Skb},
    verdict::{NEXT, Verdict, finish},
};

#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    finish(skb, ETH_LEN, judge(skb))
}

#[inline(always)]
fn judge(skb: Skb) -> Verdict {
    let link = Link::read(skb)?;
    // ARP and what else is not IP stays on the pod's link.
    if !link.is_ip() {
        return Ok(NEXT);
    }
    let ip = Ip::read(skb, &link)?;
    let t = Transport::read(skb, &ip)?;
    if neighbour::is_discovery(&ip, &t) {
        return Ok(NEXT);
    }
    let flags = flags();
    let from = ipcache(&ip.src);
    let stamp = skb.stamp();
    if stamp & STAMP_TUNNEL == 0 && skb.was_received() {
        refuse_clear(&ip, from.as_ref(), flags)?;
    }
    if flags & CONFIG_ENFORCE == 0 {
        return Ok(NEXT);
    }
    let ifindex = skb.ifindex();
    let pod = copied(&PODS, &ifindex).ok_or(DropReason::InternalError)?;
    let asked = Question {
        set: pod.set,
        remote: from.map_or(IDENTITY_OUTSIDE, |entry| entry.identity),
        direction: DIR_INGRESS,
        // The node reaches its own pods, as the kubelet's probes do. What it only forwards is not its own, even with
        // its address.
        of_host: !skb.was_received(),
    };
    let keys = scratch()?;
    keys.connection = t.flow_key(&ip);
    policy::check(skb, &ip, &t, &asked, keys)?;
    if t.shortcut {
        let key = &keys.connection;
        if stamp & !STAMP_TUNNEL == flow_stamp(key) {
            let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = skb.load::<12>(0)?;
            flow::prove(key, ifindex, [d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]);
        }
    }
    Ok(NEXT)
}

/// For packets that came from a device and not out of the tunnel.
#[inline(always)]
fn refuse_clear(ip: &Ip, from: Option<&IpcacheEntry>, flags: u32) -> Result<(), DropReason> {
    if from.is_some_and(|e| e.flags & (IP_LOCAL_POD | IP_SELF) != 0) {
        return Ok(());
    }
    // What another node sends to a pod has a covered destination, so its guard encrypts it too.
    if !covered::is_other_node(from) && !is_covered(&ip.src) {
        return Ok(());
    }
    let peer = match from {
        Some(entry) if entry.peer != NO_PEER => copied(&PEERS, &entry.peer),
        _ => None,
    };
    let refused = match peer {
        Some(peer) => peer.phase == PHASE_STRICT,
        None => flags & CONFIG_DROP_UNKNOWN != 0,
    };
    if refused {
        Err(DropReason::ClearRefused)
    } else {
        Ok(())
    }
}
