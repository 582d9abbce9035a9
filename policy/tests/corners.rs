//! The corners of the semantics, one by one, as docs/policy.md has them.

mod manifests;

use hauberk_policy::cluster::Cluster;
use hauberk_policy::connection::End;
use hauberk_policy::judge::{Reason, Verdict};
use hauberk_policy::ports::{Protocol, Traffic};
use hauberk_policy::read::Clock;

/// Two nodes; a web server, a client and a stranger with addresses of both families; an agent on a node's network, a job
/// that has ended, and a pod that a kubelet made.
const PODS: &str = "
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
kind: Namespace
metadata: {name: far, labels: {team: b}}
---
kind: Node
metadata: {name: one, labels: {zone: east}}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
kind: Node
metadata: {name: two, labels: {zone: west}}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec:
  nodeName: one
  serviceAccountName: server
  containers: [{name: a, ports: [{name: http, containerPort: 80}]}]
  initContainers:
  - {name: sidecar, restartPolicy: Always, ports: [{name: metrics, containerPort: 9090}]}
  - {name: once, ports: [{name: setup, containerPort: 9091}]}
status: {podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1:1'}]}
---
kind: Pod
metadata: {namespace: shop, name: client, labels: {app: client}}
spec: {nodeName: two, containers: []}
status: {podIPs: [{ip: 10.0.2.1}, {ip: 'fd00::2:1'}]}
---
kind: Pod
metadata: {namespace: far, name: stranger, labels: {app: client}}
spec: {nodeName: two, serviceAccountName: robot, containers: []}
status: {podIPs: [{ip: 10.0.2.2}, {ip: 'fd00::2:2'}]}
---
kind: Pod
metadata: {namespace: shop, name: agent, labels: {app: client}}
spec: {nodeName: two, hostNetwork: true, containers: []}
status: {podIPs: [{ip: 192.0.2.2}]}
---
kind: Pod
metadata: {namespace: shop, name: ended, labels: {app: client}}
spec: {nodeName: two, containers: []}
status: {phase: Succeeded, podIPs: [{ip: 10.0.2.9}]}
---
kind: Pod
metadata: {namespace: shop, name: mirror, labels: {app: client}, annotations: {kubernetes.io/config.mirror: x}}
spec: {nodeName: two, containers: []}
status: {podIPs: [{ip: 10.0.2.8}]}
---
";

fn cluster_at(policies: &str, clock: Clock) -> Cluster {
    Cluster::read(&manifests::objects(&format!("{PODS}{policies}")), clock)
}

fn cluster(policies: &str) -> Cluster {
    let clock = Clock::Says("2026-11-23T12:00:00Z".parse().unwrap());
    let cluster = cluster_at(policies, clock);
    assert_eq!(cluster.problems, []);
    cluster
}

fn end(text: &str) -> End {
    match (text.split_once('/'), text.parse()) {
        (Some((namespace, name)), _) => End::Pod(namespace.into(), name.into()),
        (None, Ok(address)) => End::Address(address),
        (None, Err(_)) => End::Name(text.into()),
    }
}

fn traffic(port: &str) -> Traffic {
    let (port, protocol) = port.split_once('/').unwrap();
    let protocol = Protocol::by_name(protocol).unwrap_or(Protocol::Other(1));
    let port = port.parse().unwrap();
    Traffic { protocol, port }
}

/// Whether every address family is let through; all have to be of one mind.
fn allows(cluster: &Cluster, from: &str, to: &str, port: &str) -> bool {
    let outcomes = cluster
        .connection(&end(from), &end(to), traffic(port), false)
        .unwrap();
    let verdicts: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome.verdict()).collect();
    assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "{outcomes:?}");
    verdicts[0] == Verdict::Allow
}

fn network_policy(spec: &str) -> String {
    format!("---\nkind: NetworkPolicy\nmetadata: {{namespace: shop, name: np}}\nspec: {spec}\n")
}

fn mesh_policy(spec: &str) -> String {
    format!("---\nkind: MeshPolicy\nmetadata: {{namespace: shop, name: mp}}\nspec: {spec}\n")
}

fn cluster_policy(name: &str, spec: &str) -> String {
    format!("---\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

#[test]
fn without_policies_everything_is_let_through() {
    let cluster = cluster("");
    assert!(allows(&cluster, "far/stranger", "shop/web", "80/TCP"));
    assert!(allows(&cluster, "198.51.100.7", "shop/web", "80/TCP"));
}

#[test]
fn an_empty_list_of_peers_and_none_are_everybody_and_no_rules_are_nobody() {
    for from in ["{from: []}", "{}"] {
        let cluster = cluster(&network_policy(&format!(
            "{{podSelector: {{}}, ingress: [{from}]}}"
        )));
        assert!(allows(&cluster, "far/stranger", "shop/web", "80/TCP"), "{from}");
        assert!(allows(&cluster, "198.51.100.7", "shop/web", "5/ICMP"), "{from}");
    }
    let cluster = cluster(&network_policy("{podSelector: {}, ingress: []}"));
    assert!(!allows(&cluster, "far/stranger", "shop/web", "80/TCP"));
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_where_there_are_egress_rules() {
    let ingress = cluster(&network_policy("{podSelector: {matchLabels: {app: client}}}"));
    assert!(allows(&ingress, "shop/client", "shop/web", "80/TCP"));
    assert!(!allows(&ingress, "shop/web", "shop/client", "80/TCP"));
    let both = cluster(&network_policy(
        "{podSelector: {matchLabels: {app: client}}, egress: [{ports: [{port: 80}]}]}",
    ));
    assert!(allows(&both, "shop/client", "shop/web", "80/TCP"));
    assert!(!allows(&both, "shop/client", "shop/web", "81/TCP"));
    assert!(!allows(&both, "shop/web", "shop/client", "80/TCP"));
    let egress = cluster(&network_policy(
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], ingress: [{}]}",
    ));
    assert!(!allows(&egress, "shop/client", "shop/web", "80/TCP"));
    assert!(allows(&egress, "shop/web", "shop/client", "80/TCP"));
}

#[test]
fn a_named_port_is_the_destinations_and_a_restartable_init_container_has_some_too() {
    let named = |name: &str| {
        cluster(&network_policy(&format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{{port: {name}}}]}}]}}"
        )))
    };
    assert!(allows(&named("http"), "shop/client", "shop/web", "80/TCP"));
    assert!(!allows(&named("http"), "shop/client", "far/stranger", "80/TCP"));
    assert!(!allows(&named("http"), "shop/client", "shop/web", "80/UDP"));
    assert!(!allows(&named("http"), "shop/client", "198.51.100.7", "80/TCP"));
    assert!(allows(&named("metrics"), "shop/client", "shop/web", "9090/TCP"));
    assert!(!allows(&named("setup"), "shop/client", "shop/web", "9091/TCP"));
}

#[test]
fn a_rule_with_ports_is_about_protocols_with_ports_only() {
    let cluster = cluster(&network_policy(
        "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}]}",
    ));
    assert!(allows(&cluster, "shop/client", "shop/web", "90/TCP"));
    assert!(!allows(&cluster, "shop/client", "shop/web", "91/TCP"));
    assert!(!allows(&cluster, "shop/client", "shop/web", "0/ICMP"));
}

#[test]
fn a_pod_reaches_itself_and_is_reached_by_its_own_node_alone() {
    let cluster = cluster(&network_policy(
        "{podSelector: {}, policyTypes: [Ingress, Egress]}",
    ));
    assert!(allows(&cluster, "shop/web", "shop/web", "80/TCP"));
    assert!(allows(&cluster, "192.0.2.1", "shop/web", "80/TCP"));
    assert!(!allows(&cluster, "192.0.2.2", "shop/web", "80/TCP"));
    assert!(allows(&cluster, "shop/agent", "shop/client", "80/TCP"));
    // A pod's own node is no exception on the way out.
    assert!(!allows(&cluster, "shop/web", "192.0.2.1", "80/TCP"));
}

#[test]
fn a_pod_on_the_host_network_is_the_node_and_no_selector_of_pods_matches_it() {
    let cluster = cluster(&network_policy(
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}",
    ));
    assert!(allows(&cluster, "shop/client", "shop/web", "80/TCP"));
    assert!(!allows(&cluster, "shop/agent", "shop/web", "80/TCP"));
    // No policy is about it.
    assert!(allows(&cluster, "far/stranger", "shop/agent", "80/TCP"));
}

#[test]
fn a_pod_that_has_ended_owns_no_address() {
    let cluster = cluster(&network_policy(
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}",
    ));
    assert!(!allows(&cluster, "10.0.2.9", "shop/web", "80/TCP"));
    assert!(allows(&cluster, "10.0.2.1", "shop/web", "80/TCP"));
    assert!(
        cluster
            .connection(&end("shop/ended"), &end("shop/web"), traffic("80/TCP"), false)
            .is_err()
    );
}

#[test]
fn a_mirror_pod_is_selected_as_all_of_its_namespace_are_and_its_labels_open_nothing() {
    let cluster = cluster(&network_policy(
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}",
    ));
    assert!(!allows(&cluster, "shop/mirror", "shop/web", "80/TCP"));
    assert!(!allows(&cluster, "far/stranger", "shop/mirror", "80/TCP"));
    let denies = self::cluster(&cluster_policy(
        "c",
        "{tier: Admin, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, \
         podSelector: {matchLabels: {app: other}}}}]}]}",
    ));
    assert!(
        !allows(&denies, "shop/mirror", "shop/web", "80/TCP"),
        "it could be one of those"
    );
}

#[test]
fn a_policy_that_selects_no_pod_changes_nothing() {
    let cluster = cluster(&network_policy(
        "{podSelector: {matchLabels: {app: nobody}}, policyTypes: [Ingress, Egress]}",
    ));
    assert!(allows(&cluster, "shop/client", "shop/web", "80/TCP"));
}

#[test]
fn a_network_matches_pods_and_nodes_too_by_address_family() {
    let cluster = cluster(&network_policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.2.2/32]}}]}]}",
    ));
    let outcomes = cluster
        .connection(&end("shop/client"), &end("shop/web"), traffic("80/TCP"), false)
        .unwrap();
    let verdicts: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome.verdict()).collect();
    assert_eq!(verdicts, [Verdict::Allow, Verdict::Deny]);
    assert!(!allows(&cluster, "far/stranger", "shop/web", "80/TCP"));
    assert!(allows(&cluster, "192.0.2.2", "shop/web", "80/TCP"));
}

#[test]
fn admin_goes_before_network_policy_and_that_before_baseline() {
    let admin = |action: &str| {
        cluster_policy(
            "admin",
            &format!(
                "{{tier: Admin, subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, from: [{{namespaces: \
                 {{matchLabels: {{team: b}}}}}}]}}]}}"
            ),
        )
    };
    let baseline = cluster_policy(
        "base",
        "{tier: Baseline, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
    );
    let open = network_policy("{podSelector: {matchLabels: {app: web}}, ingress: [{}]}");
    let closed = network_policy("{podSelector: {matchLabels: {app: web}}}");
    let stranger =
        |policies: &[&str]| allows(&cluster(&policies.concat()), "far/stranger", "shop/web", "80/TCP");
    assert!(stranger(&[&admin("Accept"), &closed, &baseline]));
    assert!(!stranger(&[&admin("Deny"), &open]));
    assert!(
        stranger(&[&admin("Pass"), &open, &baseline]),
        "NetworkPolicy ends Baseline"
    );
    assert!(!stranger(&[&admin("Pass"), &closed]));
    assert!(!stranger(&[&admin("Pass"), &baseline]));
    assert!(stranger(&[&admin("Pass")]));
}

#[test]
fn of_cluster_policies_the_lowest_priority_is_asked_first_then_the_first_name_then_the_first_rule() {
    let policy = |name: &str, priority: i32, actions: [&str; 2]| {
        let rules = actions.map(|action| format!("{{action: {action}, from: [{{namespaces: {{}}}}]}}"));
        cluster_policy(
            name,
            &format!(
                "{{tier: Admin, priority: {priority}, subject: {{namespaces: {{}}}}, ingress: [{}]}}",
                rules.join(", ")
            ),
        )
    };
    let asked =
        |policies: &[String]| allows(&cluster(&policies.concat()), "far/stranger", "shop/web", "80/TCP");
    let (accept, deny) = (["Accept", "Deny"], ["Deny", "Accept"]);
    assert!(asked(&[policy("b", 1, accept), policy("a", 2, deny)]));
    assert!(!asked(&[policy("b", 1, accept), policy("a", 1, deny)]));
}

#[test]
fn what_a_cluster_policy_says_of_an_unknown_peer_closes() {
    let policy = |action: &str| {
        let policy = cluster_policy(
            "future",
            &format!(
                "{{tier: Admin, subject: {{namespaces: {{}}}}, egress: [{{action: {action}, to: [{{moon: {{}}}}, \
                 {{namespaces: {{}}}}]}}]}}"
            ),
        );
        cluster_at(&policy, Clock::Untrusted)
    };
    for action in ["Deny", "Pass"] {
        let cluster = policy(action);
        assert!(
            !allows(&cluster, "shop/client", "198.51.100.7", "80/TCP"),
            "{action}"
        );
        assert_eq!(cluster.problems[0].field, "spec.egress[0].to[0]");
    }
    let closed = cluster_policy(
        "later",
        "{tier: Admin, priority: 9, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}]}",
    );
    let accept = cluster_policy(
        "future",
        "{tier: Admin, subject: {namespaces: {}}, egress: [{action: Accept, to: [{moon: {}}, {namespaces: {}}]}]}",
    );
    let cluster = cluster_at(&format!("{accept}{closed}"), Clock::Untrusted);
    assert!(
        !allows(&cluster, "shop/client", "shop/web", "80/TCP"),
        "the rule matches nothing"
    );
}

#[test]
fn names_are_for_rules_that_accept_and_match_what_was_learnt_for_them() {
    let accept = "{action: Accept, to: [{domainNames: ['*.example.com']}]}";
    let deny = "{action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}";
    let spec = format!("{{tier: Admin, subject: {{namespaces: {{}}}}, egress: [{accept}, {deny}]}}");
    let cluster = cluster(&cluster_policy("names", &spec));
    assert!(allows(&cluster, "shop/client", "api.example.com", "443/TCP"));
    assert!(!allows(&cluster, "shop/client", "198.51.100.7", "443/TCP"));
    let refused = cluster_policy(
        "names",
        "{tier: Admin, subject: {namespaces: {}}, egress: [{action: Deny, to: [{domainNames: [example.com]}]}]}",
    );
    let cluster = cluster_at(&refused, Clock::Untrusted);
    assert!(
        cluster.problems[0].to_string().contains("Accept only"),
        "{}",
        cluster.problems[0]
    );
    assert!(
        !allows(&cluster, "shop/client", "shop/web", "80/TCP"),
        "denies all"
    );
}

#[test]
fn a_mesh_policy_isolates_where_it_allows_and_its_deny_goes_before_network_policy() {
    let allow = mesh_policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{action: Allow, from: [{namespaceSelector: {}, \
         serviceAccounts: {names: [robot]}}]}]}",
    );
    let isolating = cluster(&allow);
    assert!(allows(&isolating, "far/stranger", "shop/web", "80/TCP"));
    assert!(!allows(&isolating, "shop/client", "shop/web", "80/TCP"));
    assert!(
        allows(&isolating, "shop/web", "shop/client", "80/TCP"),
        "egress is not isolated"
    );

    let deny = mesh_policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{action: Deny, from: [{namespaceSelector: {matchLabels: \
         {team: b}}}]}]}",
    );
    let open = network_policy("{podSelector: {}, ingress: [{}]}");
    let denying = cluster(&format!("{deny}{open}"));
    assert!(!allows(&denying, "far/stranger", "shop/web", "80/TCP"));
    assert!(allows(&denying, "shop/client", "shop/web", "80/TCP"));
    assert!(
        allows(&cluster(&deny), "shop/client", "shop/web", "80/TCP"),
        "a deny isolates nothing"
    );
}

#[test]
fn a_mesh_policy_that_allows_ends_baseline() {
    let base = cluster_policy(
        "base",
        "{tier: Baseline, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
    );
    let allow =
        mesh_policy("{ingress: [{action: Allow, from: [{podSelector: {matchLabels: {app: client}}}]}]}");
    assert!(allows(
        &cluster(&format!("{base}{allow}")),
        "shop/client",
        "shop/web",
        "80/TCP"
    ));
    assert!(!allows(&cluster(&base), "shop/client", "shop/web", "80/TCP"));
}

#[test]
fn a_rule_that_ends_by_itself_isolates_nothing_and_on_an_untrusted_clock_only_what_denies_holds() {
    let closed = network_policy("{podSelector: {matchLabels: {app: web}}}");
    let glass = mesh_policy(
        "{ingress: [{action: Allow}, {action: Deny, ports: [{port: 81}]}], validity: {notBefore: '2026-11-23T10:00:00Z', \
         notAfter: '2026-11-23T11:00:00Z'}}",
    );
    let at = |policies: &str, time: &str| {
        cluster_at(
            policies,
            Clock::Says(format!("2026-11-23T{time}:00Z").parse().unwrap()),
        )
    };
    let web = |cluster: &Cluster| allows(cluster, "far/stranger", "shop/web", "80/TCP");
    let both = format!("{closed}{glass}");
    assert_eq!(
        ["09:59", "10:00", "11:00"].map(|time| web(&at(&both, time))),
        [false, true, false]
    );
    assert!(!web(&cluster_at(&both, Clock::Untrusted)));
    // Alone it neither closes before nor after, nor does its end open what it closed.
    assert_eq!(
        ["09:59", "10:00", "11:00"].map(|time| web(&at(&glass, time))),
        [true; 3]
    );
    assert!(!allows(
        &cluster_at(&glass, Clock::Untrusted),
        "far/stranger",
        "shop/web",
        "81/TCP"
    ));
}

#[test]
fn a_network_set_is_selected_by_label_in_the_policys_namespace_or_where_it_says() {
    let sets = "---\nkind: NetworkSet\nmetadata: {namespace: shop, name: near, labels: {of: partner}}\nspec: {cidrs: \
                [198.51.100.0/24], dnsNames: [api.example.com]}\n---\nkind: NetworkSet\nmetadata: {namespace: far, name: \
                away, labels: {of: partner}}\nspec: {cidrs: [203.0.113.0/24]}\n";
    let policy = |selector: &str| {
        let to = format!("{{networkSets: {{matchLabels: {{of: partner}}}}{selector}}}");
        cluster(&format!(
            "{}{sets}",
            mesh_policy(&format!("{{egress: [{{action: Allow, to: [{to}]}}]}}"))
        ))
    };
    let own = policy("");
    assert!(allows(&own, "shop/client", "198.51.100.7", "80/TCP"));
    assert!(allows(&own, "shop/client", "api.example.com", "80/TCP"));
    assert!(!allows(&own, "shop/client", "203.0.113.7", "80/TCP"));
    assert!(allows(
        &policy(", namespaceSelector: {}"),
        "shop/client",
        "203.0.113.7",
        "80/TCP"
    ));
}

#[test]
fn a_staged_policy_is_only_asked_when_wanted() {
    let cluster = cluster(&mesh_policy("{staged: true, policyTypes: [Ingress]}"));
    assert!(allows(&cluster, "shop/client", "shop/web", "80/TCP"));
    let staged = cluster.connection(&end("shop/client"), &end("shop/web"), traffic("80/TCP"), true);
    assert_eq!(staged.unwrap()[0].1.verdict(), Verdict::Deny);
}

#[test]
fn what_means_nothing_is_told_with_its_field_and_opens_nothing() {
    let ingress = |rule: &str| network_policy(&format!("{{podSelector: {{}}, ingress: [{rule}]}}"));
    let cases = [
        (
            network_policy("{podSelector: {matchExpressions: [{key: a, operator: Maybe}]}, ingress: [{}]}"),
            "spec.podSelector",
        ),
        (
            ingress("{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}"),
            "spec.ingress[0].from[0].ipBlock.cidr",
        ),
        (
            ingress("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}]}"),
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            ingress("{from: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}"),
            "spec.ingress[0].from[0].podSelector",
        ),
        (ingress("{from: [{}]}"), "spec.ingress[0].from[0]"),
        (
            ingress("{ports: [{port: 70000}]}"),
            "spec.ingress[0].ports[0].port",
        ),
        (
            ingress("{ports: [{port: 90, endPort: 80}]}"),
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            ingress("{ports: [{port: http, endPort: 80}]}"),
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            ingress("{ports: [{protocol: ICMP}]}"),
            "spec.ingress[0].ports[0].protocol",
        ),
        (
            network_policy("{podSelector: {}, policyTypes: [Sideways]}"),
            "spec.policyTypes[0]",
        ),
        (
            mesh_policy("{policyTypes: [Ingress], ingress: [{action: Allow, from: [{}]}]}"),
            "spec.ingress[0].from[0]",
        ),
        (
            mesh_policy("{policyTypes: [Ingress], ingress: [{action: Allow, from: [{dnsNames: [a.com]}]}]}"),
            "spec.ingress[0].from[0].dnsNames",
        ),
        (
            mesh_policy("{ingress: [{action: Deny, from: [{ipBlock: {cidr: 198.51.100.7/24}}]}]}"),
            "spec.ingress[0].from[0].ipBlock.cidr",
        ),
        (
            cluster_policy(
                "c",
                "{tier: Middle, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
            ),
            "spec.tier",
        ),
        (
            cluster_policy(
                "c",
                "{tier: Admin, subject: {}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
            ),
            "spec.subject",
        ),
        (
            cluster_policy(
                "c",
                "{tier: Admin, subject: {namespaces: {}}, ingress: [{action: Perhaps, from: [{namespaces: {}}]}]}",
            ),
            "spec.ingress[0].action",
        ),
    ];
    for (policy, field) in cases {
        let cluster = cluster_at(&policy, Clock::Untrusted);
        let fields: Vec<_> = cluster
            .problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(fields, [field], "{policy}");
        assert!(!allows(&cluster, "shop/client", "shop/web", "80/TCP"), "{policy}");
    }
}

#[test]
fn ten_thousand_ports_are_read_and_judged() {
    let ports: Vec<_> = (1..=10_000)
        .map(|port| format!("{{port: {}}}", port * 2))
        .collect();
    let policy = network_policy(&format!(
        "{{podSelector: {{}}, ingress: [{{ports: [{}]}}]}}",
        ports.join(", ")
    ));
    let cluster = cluster(&policy);
    assert!(allows(&cluster, "shop/client", "shop/web", "20000/TCP"));
    assert!(!allows(&cluster, "shop/client", "shop/web", "19999/TCP"));
}

#[test]
fn the_reason_names_the_rule_or_the_policies_that_isolate() {
    let cluster = cluster(&network_policy(
        "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}",
    ));
    let ask = |port: &str| {
        let outcomes = cluster.connection(&end("shop/client"), &end("shop/web"), traffic(port), false);
        outcomes.unwrap().remove(0).1.ingress.unwrap()
    };
    let allowed = ask("80/TCP");
    let Reason::Rule(origin, rule) = allowed.reason else {
        panic!("{allowed:?}")
    };
    assert_eq!(
        (origin.to_string().as_str(), rule.place.as_str()),
        ("NetworkPolicy shop/np", "ingress[0]")
    );
    let denied = ask("81/TCP");
    let Reason::Isolated(origins) = denied.reason else {
        panic!("{denied:?}")
    };
    assert_eq!(origins.len(), 1);
}
