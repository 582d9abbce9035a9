//! The host's end of a container's interface: what the container's end names as its peer.
//!
//! A result of older plugins names no interfaces, and others name several. The kernel knows: the container's
//! namespace is entered by a thread that ends with the question.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// One link's description is far smaller.
const ANSWER: usize = 1 << 16;

/// The ifindex of the other end, if the interface is one of a veth pair.
pub fn of(netns: &Path, ifname: &str) -> io::Result<Option<u32>> {
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
            ask(ifname)
        });
        asked
            .join()
            .expect("the thread asks the kernel and does not panic")
    })
}

fn ask(ifname: &str) -> io::Result<Option<u32>> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(ifname.to_owned()));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(link));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let mut answer = Vec::with_capacity(ANSWER);
    socket.recv_from(&mut answer, 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(peer(&link)),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `IFLA_LINK` of a veth is its peer (`veth_get_iflink`, drivers/net/veth.c).
fn peer(link: &LinkMessage) -> Option<u32> {
    let is_veth = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
        _ => false,
    });
    let peer = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    peer.filter(|index| is_veth && *index != 0)
}
