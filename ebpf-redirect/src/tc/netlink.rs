//! Lists and deletes what traffic control has on a device, by rtnetlink.

use std::io;

use aya::programs::TcAttachType;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::filter::{self, Filter, TCMSG_LEN};

// linux/rtnetlink.h
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const HEADER_LEN: usize = 16;
// linux/pkt_sched.h
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;

/// Filters of a hook in the order they run; none when the device has no clsact, or is gone.
pub(super) fn filters(ifindex: u32, place: TcAttachType) -> io::Result<Vec<Filter>> {
    let parent = match place {
        TcAttachType::Ingress => CLSACT_INGRESS,
        TcAttachType::Egress => CLSACT_EGRESS,
        TcAttachType::Custom(parent) => parent,
    };
    let mut found = Vec::new();
    let listed = exchange(RTM_GETTFILTER, NLM_F_DUMP, ifindex, 0, parent, |kind, payload| {
        if kind == RTM_NEWTFILTER {
            found.extend(Filter::parse(payload));
        }
    });
    match listed {
        Ok(()) => Ok(found),
        // A device without the qdisc (EINVAL), or none at all (ENODEV), has no filters.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

pub(super) fn has_clsact(ifindex: u32) -> io::Result<bool> {
    let mut found = false;
    // The kernel lists the qdiscs of all devices whatever is asked.
    exchange(RTM_GETQDISC, NLM_F_DUMP, 0, 0, 0, |kind, payload| {
        found |= kind == RTM_NEWQDISC
            && filter::device(payload) == Some(ifindex)
            && filter::qdisc_kind(payload).is_some_and(|kind| kind.starts_with(b"clsact\0"));
    })?;
    Ok(found)
}

pub(super) fn delete_clsact(ifindex: u32) -> io::Result<()> {
    exchange(
        RTM_DELQDISC,
        NLM_F_ACK,
        ifindex,
        CLSACT_HANDLE,
        CLSACT_PARENT,
        |_, _| (),
    )
}

/// Sends one request and hands every answer's type and payload to `answer`, to the end.
fn exchange(
    kind: u16,
    flags: u16,
    ifindex: u32,
    handle: u32,
    parent: u32,
    mut answer: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(
        &request(kind, flags, ifindex, handle, parent),
        &SocketAddr::new(0, 0),
        0,
    )?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, payload, behind)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return error_of(payload),
                _ => answer(kind, payload),
            }
            rest = behind;
        }
    }
}

fn request(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + TCMSG_LEN);
    bytes.extend(((HEADER_LEN + TCMSG_LEN) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    // struct tcmsg: family and padding, ifindex, handle, parent, info.
    for field in [0, ifindex, handle, parent, 0] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// The first message of a datagram: its type, its payload, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER_LEN..length)?;
    Some((
        kind,
        payload,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

/// `struct nlmsgerr` begins with a negative error number, 0 for an acknowledgement.
fn error_of(payload: &[u8]) -> io::Result<()> {
    let code = payload
        .get(..4)
        .and_then(|code| code.try_into().ok())
        .map_or(-libc::EPROTO, i32::from_ne_bytes);
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-code))
    }
}
