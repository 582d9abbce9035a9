//! Flows known to pass the host's stack untranslated, which may therefore skip it.
//!
//! A flow is proven when a packet has been seen before the stack and, with the same addresses and ports,
//! behind it: the stamp carries the hash of what was seen. Only `to_pod` records proof, for the direction
//! in which packets come to the pod; what the pod answers is the same flow reversed.

use hauberk_abi::{FLOW_PROOF_SECONDS, Flow, FlowKey};

use crate::{clock::now_s, maps::FLOWS};

/// Nothing is lost when a proof is not stored: the flow passes the stack.
#[inline(always)]
pub fn prove(key: &FlowKey, ifindex: u32, dst_mac: [u8; 6], src_mac: [u8; 6]) {
    let _ = FLOWS.insert(
        key,
        Flow {
            ifindex,
            dst_mac,
            src_mac,
            proved_s: now_s(),
        },
        0,
    );
}

/// How to deliver a flow, if there is a proof that has not expired.
#[inline(always)]
pub fn proven(key: &FlowKey) -> Option<Flow> {
    // SAFETY: an entry re-used by another flow meanwhile is told apart by nothing, but LRU entries are
    // re-used only after the least recently used ones, and this one was just looked up.
    let flow = *unsafe { FLOWS.get(key) }?;
    (now_s().wrapping_sub(flow.proved_s) < FLOW_PROOF_SECONDS).then_some(flow)
}

/// What leaves through the stack may have been translated there: the proof is void.
#[inline(always)]
pub fn doubt(key: &FlowKey) {
    // Nothing to do when there was none.
    let _ = FLOWS.remove(key);
}
