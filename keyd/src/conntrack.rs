//! Makes the host's conntrack forgiving about connections whose packets passed beside it.
//!
//! While pairs encrypt, a connection's packets may skip the host's stack, so that conntrack's idea of
//! its windows stays behind. Liberal tracking accepts what is out of window but learns nothing from it
//! (`tcp_in_window`, net/netfilter/nf_conntrack_proto_tcp.c), so once the node-wide setting is put
//! back, such a connection would be invalid for ever. Before that, each connection of a covered
//! address gets the same leniency for itself: 1. dump the table, 2. pick TCP with a covered address,
//! translated ones included, 3. set its flag in both directions. Nothing is deleted: translations live on.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

// linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
const CT_NEW: u16 = 0x0100;
const CT_GET: u16 = 0x0101;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_PROTOINFO: u16 = 4;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`, as flag and as mask.
const BE_LIBERAL: [u8; 2] = [0x08, 0x08];
// linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const MESSAGE_HEADER: usize = 16;
/// `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
const TCP: u8 = 6;
/// More than one answer of the kernel ever holds.
const ANSWER: usize = 1 << 16;

/// Makes every tracked TCP connection with an address in `covered` liberal; says how many there were.
/// On a kernel without conntrack there are none.
pub fn be_liberal(covered: &[IpNet]) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let dump = match exchange(&socket, &message(CT_GET, NLM_F_DUMP, 0, &[])) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(nix::libc::EINVAL | nix::libc::EOPNOTSUPP)
            ) =>
        {
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let mut changed = 0;
    for change in dump.iter().filter_map(|entry| liberal_change(entry, covered)) {
        match exchange(&socket, &change) {
            Ok(_) => changed += 1,
            // It ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

/// Sends a request and collects the bodies of the answers, up to the end of the dump or the acknowledgement.
fn exchange(socket: &Socket, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    socket.send_to(request, &SocketAddr::new(0, 0), 0)?;
    let mut bodies = Vec::new();
    loop {
        let mut answer = Vec::with_capacity(ANSWER);
        socket.recv_from(&mut answer, 0)?;
        let mut rest = answer.as_slice();
        while let Some((kind, body, next)) = split_message(rest) {
            rest = next;
            match kind {
                NLMSG_DONE => return Ok(bodies),
                NLMSG_ERROR => {
                    let code = body
                        .first_chunk()
                        .map_or(-nix::libc::EPROTO, |code| i32::from_ne_bytes(*code));
                    return if code == 0 {
                        Ok(bodies)
                    } else {
                        Err(io::Error::from_raw_os_error(-code))
                    };
                }
                _ => bodies.push(body.to_vec()),
            }
        }
    }
}

/// The request that makes the connection of a dumped entry liberal, if it is TCP and covered.
fn liberal_change(entry: &[u8], covered: &[IpNet]) -> Option<Vec<u8>> {
    let family = *entry.first()?;
    let attributes = entry.get(FAMILY_HEADER..)?;
    let original = find(attributes, CTA_TUPLE_ORIG)?;
    let reply = find(attributes, CTA_TUPLE_REPLY)?;
    let protocol = find(find(original, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?;
    let is_covered = [original, reply]
        .into_iter()
        .flat_map(|tuple| addresses(find(tuple, CTA_TUPLE_IP).unwrap_or_default()))
        .any(|address| covered.iter().any(|prefix| prefix.contains(&address)));
    if protocol != [TCP] || !is_covered {
        return None;
    }
    let flags = [
        attribute(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &BE_LIBERAL),
        attribute(CTA_PROTOINFO_TCP_FLAGS_REPLY, &BE_LIBERAL),
    ];
    let tcp = attribute(CTA_PROTOINFO_TCP | NLA_F_NESTED, &flags.concat());
    let mut body = attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, original);
    if let Some(zone) = find(attributes, CTA_ZONE) {
        body.extend(attribute(CTA_ZONE, zone));
    }
    body.extend(attribute(CTA_PROTOINFO | NLA_F_NESTED, &tcp));
    Some(message(CT_NEW, NLM_F_ACK, family, &body))
}

fn addresses(tuple_ip: &[u8]) -> impl Iterator<Item = IpAddr> {
    attributes(tuple_ip).filter_map(|(_, value)| {
        <[u8; 4]>::try_from(value)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
            .ok()
    })
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let body = bytes.get(MESSAGE_HEADER..length)?;
    Some((
        kind,
        body,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, flags: u16, family: u8, body: &[u8]) -> Vec<u8> {
    let length = MESSAGE_HEADER + FAMILY_HEADER + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and port: each request has its answer before the next is sent.
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const AF_INET: u8 = 2;

    fn tuple(source: [u8; 4], destination: [u8; 4], protocol: u8) -> Vec<u8> {
        let ip = [attribute(1, &source), attribute(2, &destination)].concat();
        let proto = attribute(CTA_PROTO_NUM, &[protocol]);
        [
            attribute(CTA_TUPLE_IP | NLA_F_NESTED, &ip),
            attribute(CTA_TUPLE_PROTO | NLA_F_NESTED, &proto),
        ]
        .concat()
    }

    fn entry(destination: [u8; 4], backend: [u8; 4], protocol: u8) -> Vec<u8> {
        let client = [192, 0, 2, 1];
        let mut entry = vec![AF_INET, 0, 0, 0];
        entry.extend(attribute(
            CTA_TUPLE_ORIG | NLA_F_NESTED,
            &tuple(client, destination, protocol),
        ));
        entry.extend(attribute(
            CTA_TUPLE_REPLY | NLA_F_NESTED,
            &tuple(backend, client, protocol),
        ));
        entry
    }

    #[test]
    fn a_connection_that_a_service_translated_to_a_covered_pod_is_found() {
        let covered = ["10.77.0.0/16".parse().expect("a prefix")];
        let change =
            liberal_change(&entry([10, 96, 0, 1], [10, 77, 1, 2], TCP), &covered).expect("it is covered");
        let (kind, body, rest) = split_message(&change).expect("a message");
        assert_eq!((kind, body[0], rest.len()), (CT_NEW, AF_INET, 0));
        let info = find(&body[FAMILY_HEADER..], CTA_PROTOINFO).and_then(|info| find(info, CTA_PROTOINFO_TCP));
        let info = info.expect("it changes TCP's part");
        for direction in [CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CTA_PROTOINFO_TCP_FLAGS_REPLY] {
            assert_eq!(find(info, direction), Some(BE_LIBERAL.as_slice()));
        }
    }

    #[test]
    fn other_protocols_and_uncovered_connections_are_left_alone() {
        let covered = ["10.77.0.0/16".parse().expect("a prefix")];
        assert_eq!(
            liberal_change(&entry([10, 77, 1, 2], [10, 77, 1, 2], 17), &covered),
            None
        );
        assert_eq!(
            liberal_change(&entry([10, 96, 0, 1], [10, 88, 1, 2], TCP), &covered),
            None
        );
    }

    #[test]
    fn truncated_answers_end_the_reading() {
        let entry = entry([10, 77, 1, 2], [10, 77, 1, 2], TCP);
        for length in 0..entry.len() {
            let _ = liberal_change(&entry[..length], &["0.0.0.0/0".parse().expect("a prefix")]);
        }
    }
}
