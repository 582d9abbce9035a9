//! Random clusters, small and with few words, so that policies and pods meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hauberk_api::{
    ClusterEgressPeer, ClusterEgressRule, ClusterIngressRule, ClusterNetworkPolicy, ClusterNetworkPolicySpec,
    ClusterPods, ClusterPort, ClusterPortRange, ClusterPorts, ClusterProtocol, MeshAction, MeshEgressRule,
    MeshIngressRule, MeshPeer, MeshPolicy, MeshPolicySpec, NamespacedPods, NetworkSet, NetworkSetSpec,
    PolicyType, ServiceAccounts,
};
use hauberk_policy::cluster::Objects;
use hauberk_policy::connection::Family;
use hauberk_policy::ports::Protocol;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Namespace, Node, NodeAddress, NodeSpec, NodeStatus, Pod, PodIP, PodSpec,
    PodStatus, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// What is asked about; the last has no ports.
pub const TRAFFIC: [(&str, Protocol, u16); 6] = [
    ("TCP", Protocol::Tcp, 80),
    ("TCP", Protocol::Tcp, 81),
    ("TCP", Protocol::Tcp, 8080),
    ("UDP", Protocol::Udp, 80),
    ("SCTP", Protocol::Sctp, 8080),
    ("ICMP", Protocol::Other(1), 0),
];
/// Addresses of nobody.
pub const OUTSIDE: [&str; 3] = ["198.51.100.7", "10.0.9.9", "2001:db8::7"];

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const ACCOUNTS: [&str; 2] = ["default", "robot"];
const NETWORKS: [&str; 8] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.2/32",
    "198.51.100.0/24",
    "fd00:1::/64",
    "192.0.2.0/24",
];

/// The address of a pod of this family.
pub fn address(pod: &Pod, family: Family) -> Option<IpAddr> {
    let ips = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    let mut addresses = ips.map(|ip| ip.ip.parse::<IpAddr>().unwrap());
    addresses.find(|address| Family::of(*address) == family)
}

/// Both addresses of a node.
pub fn node_addresses(node: &Node) -> [IpAddr; 2] {
    let addresses = node.status.as_ref().unwrap().addresses.as_ref().unwrap();
    [0, 1].map(|number| addresses[number].address.parse().unwrap())
}

/// A cluster of up to six pods.
pub fn objects() -> impl Strategy<Value = Objects> {
    let labels = || vec(labels(), NAMESPACES.len());
    let accounts = vec(self::labels(), NAMESPACES.len() * ACCOUNTS.len());
    (
        labels(),
        vec(self::labels(), 2),
        vec(pod(), 2..=6),
        accounts,
        vec(network_policy(), 0..4),
        vec(cluster_network_policy(), 0..3),
        vec(mesh_policy(), 0..3),
        vec(network_set(), 0..2),
    )
        .prop_map(
            |(namespaces, nodes, pods, accounts, network, cluster, mesh, sets)| Objects {
                namespaces: NAMESPACES
                    .iter()
                    .zip(namespaces)
                    .map(|(name, labels)| Namespace {
                        metadata: named(None, name, labels),
                        ..Default::default()
                    })
                    .collect(),
                nodes: nodes
                    .into_iter()
                    .enumerate()
                    .map(|(number, labels)| node(number, labels))
                    .collect(),
                pods: pods
                    .into_iter()
                    .enumerate()
                    .map(|(number, pod)| placed(number, pod))
                    .collect(),
                service_accounts: NAMESPACES
                    .iter()
                    .flat_map(|namespace| ACCOUNTS.iter().map(move |name| (namespace, name)))
                    .zip(accounts)
                    .map(|((namespace, name), labels)| ServiceAccount {
                        metadata: named(Some(namespace), name, labels),
                        ..Default::default()
                    })
                    .collect(),
                network_policies: numbered(network, |policy: &mut NetworkPolicy| &mut policy.metadata),
                cluster_network_policies: numbered(cluster, |policy: &mut ClusterNetworkPolicy| {
                    &mut policy.metadata
                }),
                mesh_policies: numbered(mesh, |policy: &mut MeshPolicy| &mut policy.metadata),
                network_sets: numbered(sets, |set: &mut NetworkSet| &mut set.metadata),
            },
        )
}

fn numbered<T>(mut objects: Vec<T>, metadata: impl Fn(&mut T) -> &mut ObjectMeta) -> Vec<T> {
    for (number, object) in objects.iter_mut().enumerate() {
        metadata(object).name = Some(format!("n{number}"));
    }
    objects
}

fn named(namespace: Option<&str>, name: &str, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        namespace: namespace.map(Into::into),
        name: Some(name.into()),
        labels: Some(labels),
        ..Default::default()
    }
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(
        select(vec!["a".to_owned(), "b".into()]),
        select(vec!["0".to_owned(), "1".into()]),
        0..=2,
    )
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let expression = (
        select(vec!["a", "b"]),
        select(vec!["In", "NotIn", "Exists", "DoesNotExist"]),
        vec(select(vec!["0".to_owned(), "1".into()]), 1..=2),
    );
    let expression = expression.prop_map(|(key, operator, values)| LabelSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values: operator.ends_with("In").then_some(values),
    });
    (labels(), vec(expression, 0..=1), 0..3).prop_map(|(labels, expressions, size)| LabelSelector {
        // Few requirements, so that something is selected.
        match_labels: (size == 1).then_some(labels),
        match_expressions: (size == 2).then_some(expressions),
    })
}

fn namespace_selector() -> impl Strategy<Value = LabelSelector> {
    let by_name = select(NAMESPACES.to_vec()).prop_map(|name| LabelSelector {
        match_labels: Some([("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into()),
        match_expressions: None,
    });
    prop_oneof![selector(), by_name]
}

fn node(number: usize, labels: BTreeMap<String, String>) -> Node {
    let addresses = [
        format!("192.0.2.{}", number + 1),
        format!("2001:db8:2::{}", number + 1),
    ];
    let prefixes = [
        format!("10.0.{}.0/24", number + 1),
        format!("fd00:{}::/64", number + 1),
    ];
    Node {
        metadata: named(None, &format!("node-{number}"), labels),
        spec: Some(NodeSpec {
            pod_cidrs: Some(prefixes.into()),
            ..Default::default()
        }),
        status: Some(NodeStatus {
            addresses: Some(
                addresses
                    .map(|address| NodeAddress {
                        address,
                        type_: "InternalIP".into(),
                    })
                    .into(),
            ),
            ..Default::default()
        }),
    }
}

struct Made {
    namespace: &'static str,
    labels: BTreeMap<String, String>,
    account: &'static str,
    ports: Vec<ContainerPort>,
    families: usize,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:?}", self.namespace, self.labels)
    }
}

fn pod() -> impl Strategy<Value = Made> {
    let port = (
        select(vec!["web", "alt"]),
        select(vec![80, 81, 8080]),
        protocol_name(),
    );
    let port = port.prop_map(|(name, number, protocol)| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some(protocol.into()),
        ..Default::default()
    });
    (
        select(NAMESPACES.to_vec()),
        labels(),
        select(ACCOUNTS.to_vec()),
        vec(port, 0..=2),
        0..3_usize,
    )
        .prop_map(|(namespace, labels, account, ports, families)| Made {
            namespace,
            labels,
            account,
            ports,
            families,
        })
}

fn placed(number: usize, pod: Made) -> Pod {
    let all = [
        format!("10.0.{}.{number}", number % 2 + 1),
        format!("fd00:{}::{number}", number % 2 + 1),
    ];
    let ips = match pod.families {
        0 => &all[..],
        1 => &all[..1],
        _ => &all[1..],
    };
    let half = pod.ports.len() / 2;
    let container = |ports: &[ContainerPort], restart: Option<&str>| Container {
        ports: Some(ports.to_vec()),
        restart_policy: restart.map(Into::into),
        ..Default::default()
    };
    Pod {
        metadata: named(Some(pod.namespace), &format!("pod-{number}"), pod.labels),
        spec: Some(PodSpec {
            containers: vec![container(&pod.ports[half..], None)],
            // Ports of an init container count only where it stays.
            init_containers: Some(vec![container(
                &pod.ports[..half],
                number.is_multiple_of(2).then_some("Always"),
            )]),
            service_account_name: Some(pod.account.into()),
            node_name: Some(format!("node-{}", number % 2)),
            ..Default::default()
        }),
        status: Some(PodStatus {
            pod_ips: Some(ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
            ..Default::default()
        }),
    }
}

fn protocol_name() -> impl Strategy<Value = &'static str> {
    select(vec!["TCP", "TCP", "UDP", "SCTP"])
}

fn block() -> impl Strategy<Value = IPBlock> {
    let blocks = [
        ("0.0.0.0/0", vec![]),
        ("::/0", vec!["fd00:1::/64"]),
        ("10.0.0.0/8", vec!["10.0.1.0/24"]),
        ("10.0.0.0/8", vec!["10.0.1.2/32", "10.0.2.0/24"]),
        ("10.0.1.0/24", vec![]),
        ("192.0.2.0/24", vec!["192.0.2.1/32"]),
        ("fd00:1::/64", vec![]),
        ("198.51.100.0/24", vec![]),
    ];
    select(blocks.to_vec()).prop_map(|(cidr, except)| IPBlock {
        cidr: cidr.into(),
        except: (!except.is_empty()).then(|| except.into_iter().map(Into::into).collect()),
    })
}

fn port() -> impl Strategy<Value = NetworkPolicyPort> {
    let number = select(vec![
        (None, None),
        (Some(IntOrString::Int(80)), None),
        (Some(IntOrString::Int(80)), Some(81)),
        (Some(IntOrString::Int(81)), Some(65535)),
        (Some(IntOrString::String("web".into())), None),
        (Some(IntOrString::String("alt".into())), None),
    ]);
    (number, option::of(protocol_name())).prop_map(|((port, end_port), protocol)| NetworkPolicyPort {
        port,
        end_port,
        protocol: protocol.map(Into::into),
    })
}

fn network_policy() -> impl Strategy<Value = NetworkPolicy> {
    let peer = || {
        prop_oneof![
            1 => block().prop_map(|block| NetworkPolicyPeer { ip_block: Some(block), ..Default::default() }),
            1 => selector().prop_map(|pods| NetworkPolicyPeer { pod_selector: Some(pods), ..Default::default() }),
            2 => (namespace_selector(), option::of(selector())).prop_map(|(namespaces, pods)| NetworkPolicyPeer {
                namespace_selector: Some(namespaces),
                pod_selector: pods,
                ip_block: None,
            }),
        ]
    };
    let parts = move || (option::of(vec(peer(), 0..3)), option::of(vec(port(), 0..3)));
    let types = select(vec![
        None,
        Some(vec![]),
        Some(vec!["Ingress".to_owned()]),
        Some(vec!["Egress".to_owned()]),
        Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
    ]);
    (
        select(NAMESPACES.to_vec()),
        selector(),
        types,
        option::of(vec(parts(), 0..3)),
        option::of(vec(parts(), 0..3)),
    )
        .prop_map(|(namespace, pods, types, ingress, egress)| NetworkPolicy {
            metadata: named(Some(namespace), "", BTreeMap::new()),
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(pods),
                policy_types: types,
                ingress: ingress.map(|rules| {
                    let rules = rules.into_iter();
                    rules
                        .map(|(from, ports)| NetworkPolicyIngressRule { from, ports })
                        .collect()
                }),
                egress: egress.map(|rules| {
                    let rules = rules.into_iter();
                    rules
                        .map(|(to, ports)| NetworkPolicyEgressRule { to, ports })
                        .collect()
                }),
            }),
        })
}

fn cluster_pods() -> impl Strategy<Value = ClusterPods> {
    prop_oneof![
        namespace_selector().prop_map(|namespaces| ClusterPods {
            namespaces: Some(namespaces),
            pods: None,
        }),
        (namespace_selector(), selector()).prop_map(|(namespace_selector, pod_selector)| ClusterPods {
            namespaces: None,
            pods: Some(NamespacedPods {
                namespace_selector,
                pod_selector,
            }),
        }),
    ]
}

fn cluster_egress_peer() -> impl Strategy<Value = ClusterEgressPeer> {
    prop_oneof![
        3 => cluster_pods().prop_map(|pods| ClusterEgressPeer {
            namespaces: pods.namespaces,
            pods: pods.pods,
            ..Default::default()
        }),
        1 => selector().prop_map(|nodes| ClusterEgressPeer { nodes: Some(nodes), ..Default::default() }),
        1 => vec(select(NETWORKS.to_vec()), 1..3).prop_map(|networks| ClusterEgressPeer {
            networks: Some(networks.into_iter().map(Into::into).collect()),
            ..Default::default()
        }),
    ]
}

fn cluster_protocol() -> impl Strategy<Value = ClusterProtocol> {
    let ports = select(vec![
        ClusterPorts::default(),
        ClusterPorts {
            destination_port: Some(ClusterPort {
                number: 80,
                range: None,
            }),
        },
        ClusterPorts {
            destination_port: Some(ClusterPort {
                number: 0,
                range: Some(ClusterPortRange { start: 81, end: 9000 }),
            }),
        },
    ]);
    (ports, 0..4).prop_map(|(ports, kind)| match kind {
        0 => ClusterProtocol {
            tcp: Some(ports),
            ..Default::default()
        },
        1 => ClusterProtocol {
            udp: Some(ports),
            ..Default::default()
        },
        2 => ClusterProtocol {
            sctp: Some(ports),
            ..Default::default()
        },
        _ => ClusterProtocol {
            destination_named_port: "web".into(),
            ..Default::default()
        },
    })
}

fn cluster_network_policy() -> impl Strategy<Value = ClusterNetworkPolicy> {
    let action = || select(vec!["Accept", "Deny", "Pass"]);
    let protocols = || option::of(vec(cluster_protocol(), 1..3));
    let ingress = (action(), vec(cluster_pods(), 1..3), protocols());
    let ingress = ingress.prop_map(|(action, from, protocols)| ClusterIngressRule {
        name: String::new(),
        action: action.into(),
        from,
        protocols,
    });
    let egress = (action(), vec(cluster_egress_peer(), 1..3), protocols());
    let egress = egress.prop_map(|(action, to, protocols)| ClusterEgressRule {
        name: String::new(),
        action: action.into(),
        to,
        protocols,
    });
    (
        select(vec!["Admin", "Baseline"]),
        0..3,
        cluster_pods(),
        vec(ingress, 0..3),
        vec(egress, 0..3),
    )
        .prop_map(|(tier, priority, subject, ingress, egress)| {
            ClusterNetworkPolicy::new(
                "",
                ClusterNetworkPolicySpec {
                    tier: tier.into(),
                    priority,
                    subject,
                    ingress,
                    egress,
                },
            )
        })
}

fn accounts() -> impl Strategy<Value = ServiceAccounts> {
    let names = option::of(vec(select(ACCOUNTS.to_vec()), 1..=2));
    (names, option::of(selector())).prop_map(|(names, selector)| ServiceAccounts {
        names: names.map(|names| names.into_iter().map(Into::into).collect()),
        selector,
    })
}

fn mesh_peer() -> impl Strategy<Value = MeshPeer> {
    prop_oneof![
        1 => block().prop_map(|block| MeshPeer { ip_block: Some(block), ..Default::default() }),
        1 => (option::of(namespace_selector()), selector()).prop_map(|(namespaces, sets)| MeshPeer {
            namespace_selector: namespaces,
            network_sets: Some(sets),
            ..Default::default()
        }),
        3 => (option::of(namespace_selector()), selector(), option::of(accounts())).prop_map(
            |(namespaces, pods, accounts)| MeshPeer {
                namespace_selector: namespaces,
                pod_selector: Some(pods),
                service_accounts: accounts,
                ..Default::default()
            }
        ),
    ]
}

fn mesh_policy() -> impl Strategy<Value = MeshPolicy> {
    let action = || prop_oneof![3 => Just(MeshAction::Allow), 1 => Just(MeshAction::Deny)];
    let parts = move || {
        (
            action(),
            option::of(vec(mesh_peer(), 1..3)),
            option::of(vec(port(), 1..3)),
        )
    };
    let types = select(vec![
        None,
        None,
        Some(vec![]),
        Some(vec![PolicyType::Ingress]),
        Some(vec![PolicyType::Ingress, PolicyType::Egress]),
    ]);
    (
        select(NAMESPACES.to_vec()),
        option::of(selector()),
        option::of(accounts()),
        types,
        vec(parts(), 0..3),
        vec(parts(), 0..3),
    )
        .prop_map(|(namespace, pods, accounts, types, ingress, egress)| {
            let ingress = ingress.into_iter().map(|(action, from, ports)| MeshIngressRule {
                name: String::new(),
                action,
                from,
                ports,
            });
            let egress = egress.into_iter().map(|(action, to, ports)| MeshEgressRule {
                name: String::new(),
                action,
                to,
                ports,
            });
            let spec = MeshPolicySpec {
                pod_selector: pods,
                service_accounts: accounts,
                policy_types: types,
                ingress: ingress.collect(),
                egress: egress.collect(),
                ..Default::default()
            };
            let mut policy = MeshPolicy::new("", spec);
            policy.metadata.namespace = Some(namespace.into());
            policy
        })
}

fn network_set() -> impl Strategy<Value = NetworkSet> {
    (
        select(NAMESPACES.to_vec()),
        labels(),
        vec(select(NETWORKS.to_vec()), 0..3),
    )
        .prop_map(|(namespace, labels, networks)| {
            let mut set = NetworkSet::new(
                "",
                NetworkSetSpec {
                    cidrs: networks.into_iter().map(Into::into).collect(),
                    dns_names: Vec::new(),
                },
            );
            set.metadata.namespace = Some(namespace.into());
            set.metadata.labels = Some(labels);
            set
        })
}
