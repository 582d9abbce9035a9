//! Two nodes with a pod each in namespaces, an uplink between them, and a wire for a tunnel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command},
    thread,
    time::Duration,
};

use hauberk_ebpf_redirect::{
    Hook, QueueCell, Redirect,
    abi::{
        Config, Count, Counter, DEVICE_UPLINK, Device, DropReason, IP_LOCAL_POD, IP_NODE, IP_SELF,
        IpcacheEntry, Lane, MAX_SLOTS, Peer, Pod, PodAddress, VERDICT_ALLOW,
    },
    address::{mapped, prefix},
};
use nix::sched::{CloneFlags, setns};

use crate::{
    from_pod::verdicts,
    sandbox::{Bpffs, ifindex, options, run},
    wire::{Wire, open_tun},
};

const PEER: u32 = 1;
/// A set of policies that lets everything through.
const OPEN: u32 = 1;

/// How pods hang on a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// Host routes to each pod, whose gateway is link-local with a permanent neighbour.
    Routed,
    /// A bridge with the gateway's address.
    Bridged,
}

/// A namespace that lives as long as a sleeping process in it.
pub struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "600"]);
        let child = command.process_group(0).spawn().expect("unshare");
        let this = Self(child);
        // The process is in its namespace once it has become `sleep`.
        for _ in 0..5000 {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", this.0.id())).unwrap_or_default();
            if name.trim() == "sleep" {
                this.enter(|| run("ip link set lo up"));
                return this;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("unshare has not started");
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs something with this thread in the namespace.
    pub fn enter<T>(&self, body: impl FnOnce() -> T) -> T {
        let home = File::open("/proc/thread-self/ns/net").expect("own namespace");
        let there = File::open(format!("/proc/{}/ns/net", self.pid())).expect("the namespace");
        setns(there.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
        let result = body();
        setns(home.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns back");
        result
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended; either way it is gone behind this.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Node {
    pub net: Namespace,
    pub redirect: Redirect,
    pub pods: Vec<PodSide>,
    pub uplink: u32,
}

pub struct PodSide {
    pub net: Namespace,
    pub host_side: u32,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

pub struct Pair {
    pub a: Node,
    pub b: Node,
    pub wire: Wire,
    _bpffs: Bpffs,
}

impl Pair {
    /// `flags` is `CONFIG_*`, `phase` that of both sides.
    pub fn new(wiring: Wiring, flags: u32, phase: u32) -> Self {
        let bpffs = Bpffs::new(CloneFlags::empty());
        let nets = [Namespace::new(), Namespace::new()];
        nets[0].enter(|| {
            run(&format!(
                "ip link add uplink type veth peer name uplink netns {}",
                nets[1].pid()
            ));
        });
        let mut number = 0;
        let [a, b] = nets.map(|net| {
            number += 1;
            Node::new(net, number, wiring, &bpffs.path().join(format!("n{number}")))
        });
        let mut nodes = [a, b];
        let macs: Vec<[u8; 6]> = nodes
            .iter()
            .map(|node| node.net.enter(|| mac("uplink")))
            .collect();
        for (i, node) in nodes.iter_mut().enumerate() {
            node.configure(i as u8 + 1, flags, phase, macs[i]);
        }
        let tuns: Vec<(File, QueueCell)> = nodes
            .iter_mut()
            .map(|node| {
                let net = &node.net;
                let redirect = &mut node.redirect;
                net.enter(|| {
                    let tun = open_tun("lane0");
                    // Its own discovery packets would arrive at the other node, from an address nobody has.
                    std::fs::write("/proc/sys/net/ipv6/conf/lane0/disable_ipv6", "1").expect("a setting");
                    run("ip link set lane0 up mtu 1420");
                    let index = ifindex("lane0");
                    let mut lanes = [Lane::default(); MAX_SLOTS as usize];
                    lanes[0] = Lane {
                        tun_ifindex: index,
                        queue_limit_bytes: 4 << 20,
                    };
                    redirect.sync_lanes(&lanes).expect("LANES");
                    redirect.attach(Hook::FromTunnel, index).expect("from_tunnel");
                    (tun, redirect.queue(0))
                })
            })
            .collect();
        let [one, other] = <[_; 2]>::try_from(tuns).unwrap_or_else(|_| panic!("two"));
        let [a, b] = nodes;
        Self {
            a,
            b,
            wire: Wire::between(one, other),
            _bpffs: bpffs,
        }
    }
}

impl Node {
    fn new(net: Namespace, n: u8, wiring: Wiring, pin_dir: &std::path::Path) -> Self {
        let other = 3 - n;
        let redirect = net.enter(|| {
            for (name, value) in [
                ("ipv4.ip_forward", "1"),
                ("ipv6.conf.all.forwarding", "1"),
                // Strict: what comes out of the tunnel must look as if it came by the uplink.
                ("ipv4.conf.all.rp_filter", "1"),
                ("ipv4.conf.default.rp_filter", "1"),
                ("ipv6.conf.default.accept_dad", "0"),
                ("netfilter.nf_conntrack_tcp_be_liberal", "1"),
                // Asking a neighbour again would count as traffic between the nodes.
                ("ipv6.neigh.uplink.delay_first_probe_time", "600"),
            ] {
                let path = format!("/proc/sys/net/{}", name.replace('.', "/"));
                std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
            }
            run("ip link set uplink up");
            run(&format!("ip addr add 192.168.77.{n}/24 dev uplink"));
            run(&format!("ip addr add fd00:77::{n}/64 dev uplink nodad"));
            run(&format!("ip route add 10.77.{other}.0/24 via 192.168.77.{other}"));
            run(&format!("ip route add fd77:{other}::/64 via fd00:77::{other}"));
            // As kube-proxy does; it also turns conntrack on.
            run("nft add table inet t");
            run("nft add chain inet t f { type filter hook forward priority 0 ; }");
            run("nft add rule inet t f ct state invalid counter drop");
            Redirect::open(options(pin_dir)).expect("the programs load")
        });
        let uplink = net.enter(|| ifindex("uplink"));
        let pods = (2..4u8).map(|k| PodSide::new(&net, n, k, wiring)).collect();
        Self {
            net,
            redirect,
            pods,
            uplink,
        }
    }

    fn configure(&mut self, n: u8, flags: u32, phase: u32, uplink_mac: [u8; 6]) {
        let other = 3 - n;
        let net = |text: String| prefix(text.parse().expect("a prefix"));
        let mut ipcache = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        let mut pods = BTreeMap::new();
        for pod in &self.pods {
            pods.insert(pod.host_side, Pod { set: OPEN });
            for address in [pod.v4, pod.v6] {
                addresses.insert(PodAddress {
                    ifindex: pod.host_side,
                    addr: mapped(address),
                });
                let entry = IpcacheEntry {
                    identity: 5,
                    flags: IP_LOCAL_POD,
                    ifindex: pod.host_side,
                    ..Default::default()
                };
                ipcache.insert(prefix(address.into()), entry);
            }
        }
        let far = IpcacheEntry {
            peer: PEER,
            identity: 6,
            flags: 0,
            ifindex: self.uplink,
        };
        ipcache.insert(net(format!("10.77.{other}.0/24")), far);
        ipcache.insert(net(format!("fd77:{other}::/64")), far);
        let node = |flags, peer| IpcacheEntry {
            peer,
            identity: 1,
            flags,
            ifindex: self.uplink,
        };
        ipcache.insert(net(format!("192.168.77.{n}/32")), node(IP_NODE | IP_SELF, 0));
        ipcache.insert(net(format!("fd00:77::{n}/128")), node(IP_NODE | IP_SELF, 0));
        ipcache.insert(net(format!("192.168.77.{other}/32")), node(IP_NODE, PEER));
        ipcache.insert(net(format!("fd00:77::{other}/128")), node(IP_NODE, PEER));
        let uplink = self.uplink;
        let hooks: Vec<u32> = self.pods.iter().map(|pod| pod.host_side).collect();
        let redirect = &mut self.redirect;
        self.net.enter(|| {
            redirect.sync_ipcache(&ipcache).expect("IPCACHE");
            redirect
                .sync_covered(&[net("10.77.0.0/16".into()), net("fd77::/16".into())].into())
                .expect("COVERED");
            let peer = Peer {
                phase,
                sessions: 1,
                shift: 0,
                lanes: 1,
                slot_base: 0,
            };
            redirect.sync_peers(&[(PEER, peer)].into()).expect("PEERS");
            let device = Device {
                mac: uplink_mac,
                kind: DEVICE_UPLINK,
            };
            redirect
                .sync_devices(&[(uplink, device)].into())
                .expect("DEVICES");
            redirect
                .add_policy(&verdicts(&[OPEN], VERDICT_ALLOW), &BTreeMap::new())
                .expect("VERDICTS");
            redirect.sync_pods(&pods).expect("PODS");
            redirect.sync_pod_addresses(&addresses).expect("POD_ADDRESSES");
            redirect
                .set_config(Config {
                    flags,
                    ..Config::default()
                })
                .expect("CONFIG");
            for pod in hooks {
                redirect.attach(Hook::FromPod, pod).expect("from_pod");
                redirect.attach(Hook::ToPod, pod).expect("to_pod");
            }
            redirect.attach(Hook::ToNetwork, uplink).expect("to_network");
        });
    }

    pub fn counted(&self, counter: Counter) -> Count {
        let all = self.redirect.counters().expect("COUNTERS");
        all.iter().find(|(c, _)| *c == counter).expect("listed").1
    }

    pub fn drops(&self) -> Vec<(DropReason, Count)> {
        self.redirect
            .drops()
            .expect("DROPS")
            .into_iter()
            .filter(|(_, count)| count.packets > 0)
            .collect()
    }
}

impl PodSide {
    fn new(node: &Namespace, n: u8, k: u8, wiring: Wiring) -> Self {
        let net = Namespace::new();
        let host = format!("p{k}");
        let (v4, v6) = (format!("10.77.{n}.{k}"), format!("fd77:{n}::{k}"));
        let host_side = node.enter(|| {
            run(&format!(
                "ip link add {host} type veth peer name eth0 netns {}",
                net.pid()
            ));
            run(&format!("ip link set {host} up"));
            match wiring {
                Wiring::Routed => {
                    run(&format!("ip route add {v4}/32 dev {host}"));
                    run(&format!("ip route add {v6}/128 dev {host}"));
                }
                Wiring::Bridged => {
                    if nix::net::if_::if_nametoindex("cni0").is_err() {
                        run("ip link add cni0 type bridge");
                        run("ip link set cni0 up");
                        run(&format!("ip addr add 10.77.{n}.1/24 dev cni0"));
                        run(&format!("ip addr add fd77:{n}::1/64 dev cni0 nodad"));
                    }
                    run(&format!("ip link set {host} master cni0"));
                }
            }
            ifindex(&host)
        });
        let host_mac = text(node.enter(|| mac(&host)));
        net.enter(|| {
            run("ip link set eth0 up");
            let (len4, len6) = if wiring == Wiring::Routed {
                (32, 128)
            } else {
                (24, 64)
            };
            run(&format!("ip addr add {v4}/{len4} dev eth0"));
            run(&format!("ip addr add {v6}/{len6} dev eth0 nodad"));
            let (gateway4, gateway6) = match wiring {
                Wiring::Routed => {
                    run("ip route add 169.254.1.1 dev eth0 scope link");
                    run("ip route add fe80::1 dev eth0");
                    run(&format!(
                        "ip neigh add 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent"
                    ));
                    run(&format!(
                        "ip neigh add fe80::1 lladdr {host_mac} dev eth0 nud permanent"
                    ));
                    ("169.254.1.1".to_owned(), "fe80::1".to_owned())
                }
                Wiring::Bridged => (format!("10.77.{n}.1"), format!("fd77:{n}::1")),
            };
            run(&format!("ip route add default via {gateway4} dev eth0"));
            run(&format!("ip route add default via {gateway6} dev eth0"));
        });
        let parse = |text: &str| text.parse().expect("an address");
        Self {
            net,
            host_side,
            v4: parse(&v4),
            v6: parse(&v6),
        }
    }
}

/// Sends bytes by TCP from one namespace to a server in another; answers when the server has seen the end and
/// the client the server's end.
pub fn bulk(from: &Namespace, to: &Namespace, server: IpAddr, bytes: usize) {
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(server, 0)).expect("a listener"));
    let address = listener.local_addr().expect("its address");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut seen = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match stream.read(&mut buffer).expect("bytes") {
                0 => return seen,
                n => seen += n,
            }
        }
    });
    let mut stream =
        from.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection"));
    stream
        .set_write_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let chunk = vec![0x5a; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk.len());
        stream.write_all(&chunk[..now]).expect("bytes go");
        left -= now;
    }
    stream.shutdown(std::net::Shutdown::Write).expect("the end goes");
    assert_eq!(stream.read(&mut [0; 1]).expect("the server's end"), 0);
    assert_eq!(receiver.join().expect("the server"), bytes);
}

fn mac(device: &str) -> [u8; 6] {
    // /sys shows another namespace's devices; ip asks the kernel.
    let line = run(&format!("ip -br link show {device}"));
    let field = line.split_whitespace().nth(2).expect("an address").to_owned();
    let bytes: Vec<u8> = field
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
        .collect();
    bytes.try_into().expect("six bytes")
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
