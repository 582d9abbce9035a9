//! Short exchanges that carry the marker: one each over TCP, UDP and ICMP, over IPv4 and IPv6.

use std::{
    io::{Read, Write},
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use hauberk_netlab::{Family, Netns, Pod, Protocol};

use super::{error::DemoError, marker, tcp_flow::connect, udp_flow::unspecified};

/// How long a probe may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a probe's payload.
const PAYLOAD: usize = 64;

/// What a probe goes over.
pub const KINDS: [(Family, Protocol, &str); 6] = [
    (Family::V4, Protocol::Tcp, "TCP over IPv4"),
    (Family::V4, Protocol::Udp, "UDP over IPv4"),
    (Family::V4, Protocol::Icmp, "ICMP over IPv4"),
    (Family::V6, Protocol::Tcp, "TCP over IPv6"),
    (Family::V6, Protocol::Udp, "UDP over IPv6"),
    (Family::V6, Protocol::Icmp, "ICMP over IPv6"),
];

/// Probes of every kind from a namespace to a pod; returns the kinds that did not get through.
pub fn all_kinds(from: &Netns, to: &Pod) -> Vec<&'static str> {
    KINDS
        .iter()
        .filter(|(family, protocol, _)| {
            let address = address_of(to, *family);
            let passed = match protocol {
                Protocol::Tcp => tcp(from, to.netns(), address),
                Protocol::Udp => udp(from, to.netns(), address),
                _ => ping(from, address),
            };
            !passed.unwrap_or(false)
        })
        .map(|(_, _, name)| *name)
        .collect()
}

/// A pod's address of one family.
pub fn address_of(pod: &Pod, family: Family) -> IpAddr {
    match family {
        Family::V4 => pod.v4().into(),
        Family::V6 => pod.v6().into(),
    }
}

fn tcp(from: &Netns, to: &Netns, address: IpAddr) -> Result<bool, DemoError> {
    let (mut near, mut far) = connect(from, to, address)?;
    let sent = marker::payload::<PAYLOAD>();
    let mut received = [0; PAYLOAD];
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    near.write_all(&sent)?;
    far.read_exact(&mut received)?;
    far.write_all(&received)?;
    near.read_exact(&mut received)?;
    Ok(received == sent)
}

fn udp(from: &Netns, to: &Netns, address: IpAddr) -> Result<bool, DemoError> {
    let inbox = to.run(|| UdpSocket::bind((address, 0)))??;
    inbox.set_read_timeout(Some(PATIENCE))?;
    send(from, address, inbox.local_addr()?.port())?;
    let mut received = [0; PAYLOAD];
    Ok(inbox.recv(&mut received)? == PAYLOAD && received == marker::payload())
}

/// Sends one datagram with the marker, to whoever has the address; nobody answers.
pub fn send(from: &Netns, address: IpAddr, port: u16) -> Result<(), DemoError> {
    let outbox = from.run(|| UdpSocket::bind((unspecified(address), 0)))??;
    outbox.send_to(&marker::payload::<PAYLOAD>(), (address, port))?;
    Ok(())
}

/// Two echo requests that carry the marker; whether one was answered.
pub fn ping(from: &Netns, address: IpAddr) -> Result<bool, DemoError> {
    let output = from
        .command("ping")
        .args([
            "-n",
            "-q",
            "-c",
            "2",
            "-i",
            "0.2",
            "-W",
            "1",
            "-s",
            "64",
            "-p",
            &marker::as_ping_pattern(),
        ])
        .arg(address.to_string())
        .output()?;
    Ok(output.status.success())
}
