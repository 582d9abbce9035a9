//! Two nodes, a router between them that counts fragments, and a WireGuard program on each node.
//!
//! Outside: 192.0.2.1 – router – 198.51.100.1, and fd01::1 – router – fd02::1. Inside: 10.9.0.1 and
//! 10.9.0.2, fd09::1 and fd09::2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use crate::namespace::{Namespace, Running, eventually, unique};
use crate::traffic;

pub const HAUBERK: &str = env!("CARGO_BIN_EXE_hauberk-wg");
pub const WIREGUARD_GO: &str = "wireguard-go";

/// Which family the outer packets are of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    V4,
    V6,
}

pub struct Node {
    pub namespace: Namespace,
    pub interface: String,
    pub public_key: String,
    private_key: String,
    pub program: Option<Running>,
}

pub struct Tunnel {
    // Programs end before the namespaces go: fields drop in this order.
    pub a: Node,
    pub b: Node,
    pub router: Namespace,
}

const PORT: u16 = 5_000;

impl Tunnel {
    /// A pair with Hauberk on both sides.
    pub fn hauberk() -> Self {
        Self::new(HAUBERK, HAUBERK, Outside::V4, None)
    }

    /// A pair that runs the programs given (`-f IFNAME` is appended).
    pub fn new(program_a: &str, program_b: &str, outside: Outside, preshared_key: Option<&str>) -> Self {
        let (a, b) = (Node::new("a"), Node::new("b"));
        let tunnel = Self {
            a,
            b,
            router: Namespace::new("r"),
        };
        tunnel.wire();
        let mut tunnel = tunnel;
        tunnel.a.start(program_a);
        tunnel.b.start(program_b);
        let (to_a, to_b) = match outside {
            Outside::V4 => ("192.0.2.1", "198.51.100.1"),
            Outside::V6 => ("[fd01::1]", "[fd02::1]"),
        };
        tunnel.a.set_up(&tunnel.b, to_b, 1, preshared_key);
        tunnel.b.set_up(&tunnel.a, to_a, 2, preshared_key);
        tunnel
    }

    fn wire(&self) {
        let router = &self.router;
        // Forwarding first: with it IPv6 is set up otherwise.
        router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for (node, device, net4, net6) in [
            (&self.a, "to-a", "192.0.2", "fd01:"),
            (&self.b, "to-b", "198.51.100", "fd02:"),
        ] {
            let ns = node.namespace.name();
            router.run(&format!(
                "ip link add {device} type veth peer name up0 netns {ns}"
            ));
            router.run(&format!("ip addr add {net4}.254/24 dev {device}"));
            router.run(&format!("ip addr add {net6}:fe/64 dev {device} nodad"));
            router.run(&format!("ip link set {device} up"));
            node.namespace.run(&format!("ip addr add {net4}.1/24 dev up0"));
            node.namespace
                .run(&format!("ip addr add {net6}:1/64 dev up0 nodad"));
            node.namespace.run("ip link set up0 up");
            node.namespace
                .run(&format!("ip route add default via {net4}.254"));
            node.namespace
                .run(&format!("ip -6 route add default via {net6}:fe"));
        }
        for words in [
            "nft add table inet watch",
            "nft add chain inet watch in { type filter hook prerouting priority -450 ; }",
            "nft add rule inet watch in ip frag-off & 0x3fff != 0 counter",
            "nft add rule inet watch in exthdr frag exists counter",
        ] {
            router.run(words);
        }
    }

    /// Sets the MTU of the way between the nodes: the whole of it.
    pub fn set_path_mtu(&self, mtu: u16) {
        for device in ["to-a", "to-b"] {
            self.router.run(&format!("ip link set {device} mtu {mtu}"));
        }
        for node in [&self.a, &self.b] {
            node.namespace.run(&format!("ip link set up0 mtu {mtu}"));
        }
    }

    /// Sets the MTU of the tunnel's devices.
    pub fn set_tun_mtu(&self, mtu: u16) {
        for node in [&self.a, &self.b] {
            node.namespace
                .run(&format!("ip link set {} mtu {mtu}", node.interface));
        }
    }

    /// Fails if any outer packet was ever a fragment.
    pub fn assert_no_outer_fragment(&self) {
        let rules = self.router.run("nft list table inet watch");
        assert_eq!(rules.matches("counter packets 0 bytes 0").count(), 2, "{rules}");
    }

    /// `ping` from A; whether all came back.
    pub fn ping(&self, options: &str) -> bool {
        self.a
            .namespace
            .try_run(&format!("ping -q -i 0.2 -W 2 {options}"))
            .status
            .success()
    }

    /// Both families get through, the handshake's time included.
    pub fn assert_pings(&self) {
        for to in ["10.9.0.2", "fd09::2"] {
            eventually(&format!("a ping to {to}"), || self.ping(&format!("-c 1 {to}")));
        }
    }

    /// Moves megabytes by TCP from A to B; every byte must arrive as it was.
    pub fn assert_moves(&self, megabytes: u64, to: IpAddr) {
        traffic::tcp(&self.a.namespace, &self.b.namespace, to, megabytes << 20);
    }

    /// The same from B to A.
    pub fn assert_moves_back(&self, megabytes: u64, to: IpAddr) {
        traffic::tcp(&self.b.namespace, &self.a.namespace, to, megabytes << 20);
    }

    /// TCP in both directions and families.
    pub fn assert_bulk(&self, megabytes: u64) {
        for (a, b) in INNER {
            self.assert_moves(megabytes, b);
            self.assert_moves_back(megabytes, a);
        }
    }
}

/// A's and B's addresses inside the tunnel.
pub const INNER: [(IpAddr, IpAddr); 2] = [
    (
        IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)),
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2)),
    ),
];

impl Node {
    fn new(role: &str) -> Self {
        let namespace = Namespace::new(role);
        let private_key = namespace.run("wg genkey").trim().to_owned();
        let public_key = pipe(&namespace, "wg pubkey", &private_key);
        // `wg` looks for the sockets of all namespaces in one directory.
        let interface = format!("wg{role}{}", unique());
        Self {
            namespace,
            interface,
            public_key,
            private_key,
            program: None,
        }
    }

    pub fn start(&mut self, program: &str) {
        self.program = Some(self.namespace.start(&format!("{program} -f {}", self.interface)));
        let socket = format!("/var/run/wireguard/{}.sock", self.interface);
        eventually("it listens to wg", || UnixStream::connect(&socket).is_ok());
    }

    fn set_up(&self, peer: &Self, endpoint: &str, n: u8, preshared_key: Option<&str>) {
        let other = 3 - n;
        let (wg, key) = (&self.interface, &peer.public_key);
        let set = format!("wg set {wg} listen-port {PORT} private-key /dev/stdin");
        pipe(&self.namespace, &set, &self.private_key);
        if let Some(preshared_key) = preshared_key {
            pipe(
                &self.namespace,
                &format!("wg set {wg} peer {key} preshared-key /dev/stdin"),
                preshared_key,
            );
        }
        self.namespace.run(&format!(
            "wg set {wg} peer {key} endpoint {endpoint}:{PORT} allowed-ips 10.9.0.{other}/32,fd09::{other}/128"
        ));
        self.namespace.run(&format!("ip addr add 10.9.0.{n}/24 dev {wg}"));
        self.namespace
            .run(&format!("ip addr add fd09::{n}/64 dev {wg} nodad"));
        self.namespace.run(&format!("ip link set {wg} up"));
    }

    /// What `wg show IFNAME WHAT` prints.
    pub fn show(&self, what: &str) -> String {
        self.namespace.run(&format!("wg show {} {what}", self.interface))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.program = None;
        // A program that was killed leaves its socket, and `wg show` of anyone would stumble over it.
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.interface));
    }
}

fn pipe(namespace: &Namespace, words: &str, input: &str) -> String {
    use std::io::Write;
    let mut command = namespace.command(words);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("setpriv and nsenter are installed");
    child
        .stdin
        .take()
        .expect("is piped")
        .write_all(input.as_bytes())
        .expect("is read");
    let output = child.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout)
        .expect("prints UTF-8")
        .trim()
        .to_owned()
}

/// Long enough for any handshake.
pub const PATIENCE: Duration = Duration::from_secs(15);
