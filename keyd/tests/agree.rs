//! The programs in the kernel, with the tables that keyd makes of a cluster's objects, give the verdicts of the policy engine
//! in random clusters: packet by packet, by `BPF_PROG_TEST_RUN`. Needs root, and fails without.

#[path = "../../policy/tests/random/mod.rs"]
mod random;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use etherparse::{PacketBuilder, ip_number};
use hauberk_api::{Enforcer, Mesh, MeshSpec, PolicySpec};
use hauberk_ebpf_redirect::abi::DropReason;
use hauberk_ebpf_redirect::{DryRun, Hook, Options, Redirect};
use hauberk_policy::cluster::{Cluster, Objects};
use hauberk_policy::connection::{End, Family};
use hauberk_policy::judge::{Decision, Verdict};
use hauberk_policy::ports::{Protocol, Traffic};
use hauberk_policy::read::Clock;
use k8s_openapi::api::core::v1::Pod;
use keyd::compute::{Local, compute, lpm_key};
use keyd::manifest::{Object, parse};
use keyd::memory::Memory;
use keyd::snapshot::Snapshot;
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use proptest::test_runner::{Config, TestRunner};
use serde::Serialize;

const CLUSTERS: u32 = 700;
/// At least so many packets are judged.
const PACKETS: usize = 100_000;
/// The node whose kernel it is, and its own addresses.
const NODE: &str = "node-0";
const OWN: [&str; 2] = ["192.0.2.1", "2001:db8:2::1"];
/// Interfaces for its pods.
const PODS: usize = 3;
/// What the programs answer for a packet that goes on, and for one that is dropped.
const NEXT: i32 = -1;
const DROP: i32 = 2;

#[test]
fn the_kernel_and_the_engine_agree_on_a_hundred_thousand_packets() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("root may have namespaces of its own");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts of its own");
    let dir = tempfile::tempdir().expect("a directory");
    mount(
        Some("bpf"),
        dir.path(),
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .expect("a BPF file system");
    let kernel = RefCell::new(Kernel::new(dir.path()));
    let mut runner = TestRunner::new(Config {
        cases: CLUSTERS,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&random::objects(), |mut objects| {
        // Not enforced yet.
        objects.mesh_policies.clear();
        objects.network_sets.clear();
        kernel.borrow_mut().ask_everything(&objects);
        Ok(())
    });
    nix::mount::umount(dir.path()).expect("nobody else uses it");
    outcome.unwrap();
    let Kernel { packets, dropped, .. } = kernel.into_inner();
    println!("{packets} packets, {dropped} of them dropped");
    assert!(packets >= PACKETS, "{packets}");
    assert!(
        (packets / 10..packets * 9 / 10).contains(&dropped),
        "{dropped} of {packets}"
    );
}

/// The programs, and interfaces of pods.
struct Kernel {
    redirect: Redirect,
    interfaces: Vec<u32>,
    memory: Memory,
    packets: usize,
    dropped: usize,
}

impl Kernel {
    fn new(bpffs: &Path) -> Self {
        let redirect = Redirect::open(Options {
            pin_dir: bpffs.join("node"),
            ..Options::default()
        });
        let interface = |number: usize| {
            let name = format!("pod{number}");
            let peer = format!("peer{number}");
            let arguments = ["link", "add", &name, "type", "veth", "peer", "name", &peer];
            let added = Command::new("ip").args(arguments).status().expect("ip runs");
            assert!(added.success());
            if_nametoindex(&*name).expect("it is there")
        };
        Self {
            redirect: redirect.expect("the programs load"),
            interfaces: (0..PODS).map(interface).collect(),
            memory: Memory::default(),
            packets: 0,
            dropped: 0,
        }
    }

    /// Has the cluster's policies in force, and sends between each of the node's pods and everybody.
    fn ask_everything(&mut self, objects: &Objects) {
        let cluster = Cluster::read(objects, Clock::Untrusted);
        let here = objects.pods.iter().filter(|pod| {
            let spec = pod.spec.as_ref().unwrap();
            spec.node_name.as_deref() == Some(NODE)
        });
        let here: Vec<(End, Vec<IpAddr>, u32)> = here
            .zip(&self.interfaces)
            .map(|(pod, interface)| (end(pod), addresses(pod), *interface))
            .collect();
        self.put_in_force(objects, &here);
        let mut others: Vec<(End, IpAddr)> = Vec::new();
        for pod in &objects.pods {
            others.extend(addresses(pod).into_iter().map(|address| (end(pod), address)));
        }
        let nodes = objects.nodes.iter().flat_map(random::node_addresses);
        let strangers = nodes.chain(random::OUTSIDE.map(|text| text.parse().unwrap()));
        others.extend(strangers.map(|address| (End::Address(address), address)));
        for (pod, own, interface) in &here {
            for (other, there) in others.iter().filter(|(other, _)| other != pod) {
                let Some(own) = own.iter().find(|own| own.is_ipv4() == there.is_ipv4()) else {
                    continue;
                };
                for (name, protocol, port) in random::TRAFFIC {
                    let traffic = Traffic { protocol, port };
                    let judged = |from, to| {
                        let found = cluster.connection(from, to, traffic, false).unwrap();
                        let mut of_family = found.into_iter();
                        let found = of_family.find(|(family, _)| *family == Family::of(*there));
                        found.expect("both have an address of it").1
                    };
                    // Nobody's policies are asked where a side has none.
                    let of = |side: Option<Decision>| side.map_or(Verdict::Allow, |side| side.verdict);
                    let egress = of(judged(pod, other).egress);
                    let ingress = of(judged(other, pod).ingress);
                    let out = packet(*own, *there, protocol, port);
                    let back = packet(*there, *own, protocol, port);
                    let text = format!("{pod} and {other} at {there}, {name}/{port}");
                    self.send(Hook::FromPod, &out, *interface, *interface, egress, &text);
                    // What has the node's address was made there: it has no pods on its own network here.
                    let is_own = OWN.iter().any(|own| there.to_string() == *own);
                    let received_on = if is_own { 0 } else { *interface };
                    self.send(Hook::ToPod, &back, *interface, received_on, ingress, &text);
                }
            }
        }
    }

    fn put_in_force(&mut self, objects: &Objects, here: &[(End, Vec<IpAddr>, u32)]) {
        let interfaces = here
            .iter()
            .flat_map(|(_, addresses, interface)| addresses.iter().map(|address| (*address, *interface)));
        let local = Local {
            node: NODE.into(),
            cores: 1,
            pod_interfaces: interfaces.collect(),
            ..Local::default()
        };
        let desired = compute(&snapshot(objects), &local, &mut self.memory).expect("the node is there");
        let redirect = &mut self.redirect;
        let covered: BTreeSet<_> = desired.covered.iter().map(|net| lpm_key(*net)).collect();
        let incomplete = redirect.add_policy(&desired.verdicts, &desired.ports);
        assert_eq!(incomplete.expect("VERDICTS and PORTS"), BTreeSet::new());
        redirect.sync_pods(&desired.pods).expect("PODS");
        redirect
            .sync_pod_addresses(&desired.pod_addresses)
            .expect("POD_ADDRESSES");
        redirect.sync_ipcache(&desired.ipcache).expect("IPCACHE");
        redirect.sync_peers(&desired.peers).expect("PEERS");
        redirect.sync_covered(&covered).expect("COVERED");
        redirect.set_config(desired.config).expect("CONFIG");
        redirect
            .prune_policy(&desired.verdicts, &desired.ports)
            .expect("VERDICTS and PORTS");
        redirect.sync_connections(&BTreeMap::new()).expect("CONNECTIONS");
    }

    fn send(&mut self, hook: Hook, packet: &[u8], at: u32, received_on: u32, expected: Verdict, text: &str) {
        let before = self.denied();
        let ran = self.redirect.dry_run(hook, packet, at, received_on);
        let DryRun { code, .. } = ran.expect("the program runs");
        let denied = self.denied() - before;
        let expected = match expected {
            Verdict::Allow => (NEXT, 0),
            Verdict::Deny => (DROP, 1),
        };
        assert_eq!((code, denied), expected, "{hook} of {text}");
        self.packets += 1;
        self.dropped += usize::from(code == DROP);
    }

    fn denied(&self) -> u64 {
        let drops = self.redirect.drops().expect("DROPS");
        let of_policy = drops
            .iter()
            .find(|(reason, _)| *reason == DropReason::PolicyDenied);
        of_policy.expect("each reason is listed").1.packets
    }
}

fn end(pod: &Pod) -> End {
    let metadata = &pod.metadata;
    End::Pod(
        metadata.namespace.clone().unwrap(),
        metadata.name.clone().unwrap(),
    )
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let families = Family::ALL.into_iter();
    families
        .filter_map(|family| random::address(pod, family))
        .collect()
}

/// The objects as keyd reads them, with policy enforced and encryption off.
fn snapshot(objects: &Objects) -> Snapshot {
    let spec = MeshSpec {
        policy: PolicySpec {
            enforcer: Some(Enforcer::Hauberk),
            ..Default::default()
        },
        ..Default::default()
    };
    let mut snapshot = Snapshot {
        mesh: Some(Mesh::new("default", spec)),
        ..Snapshot::default()
    };
    add_all(&mut snapshot, &objects.namespaces);
    add_all(&mut snapshot, &objects.nodes);
    add_all(&mut snapshot, &objects.pods);
    add_all(&mut snapshot, &objects.service_accounts);
    add_all(&mut snapshot, &objects.network_policies);
    add_all(&mut snapshot, &objects.cluster_network_policies);
    snapshot
}

fn add_all<T: Serialize>(snapshot: &mut Snapshot, objects: &[T]) {
    for object in objects {
        let text = serde_json::to_vec(object).expect("objects are JSON");
        for object in parse("objects", &text).expect("they are good").objects {
            match object {
                Object::Namespace(name, namespace) => drop(snapshot.namespaces.insert(name, namespace)),
                Object::Node(name, node) => drop(snapshot.nodes.insert(name, node)),
                Object::Pod(name, pod) => drop(snapshot.pods.insert(&name, &pod)),
                Object::ServiceAccount(name, account) => {
                    drop(snapshot.service_accounts.insert(name, account))
                }
                Object::Policy(read) => drop(snapshot.policies.insert(read.policy.origin.clone(), read)),
                other => panic!("not made here: {other:?}"),
            }
        }
    }
}

/// A packet that asks for a connection.
fn packet(from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> Vec<u8> {
    const PORT: u16 = 40_000;
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("both are of one family"),
    };
    let mut bytes = Vec::new();
    let written = match protocol {
        Protocol::Tcp => ip.tcp(PORT, port, 0, 1024).syn().write(&mut bytes, &[]),
        Protocol::Udp => ip.udp(PORT, port).write(&mut bytes, &[]),
        Protocol::Sctp => {
            let ports = [PORT.to_be_bytes(), port.to_be_bytes()].concat();
            // Tag, checksum, and an INIT chunk's head.
            let packet = [&ports[..], &[0; 8], &[1, 0, 0, 4]].concat();
            ip.write(&mut bytes, ip_number::SCTP, &packet)
        }
        Protocol::Other(_) if from.is_ipv4() => ip.icmpv4_echo_request(7, 1).write(&mut bytes, &[]),
        Protocol::Other(_) => ip.icmpv6_echo_request(7, 1).write(&mut bytes, &[]),
    };
    written.expect("a vector takes all");
    bytes
}
