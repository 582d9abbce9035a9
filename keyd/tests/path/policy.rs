//! NetworkPolicies in the kernel, by real packets: between nodes and on one, both families, also while they change.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, NodeSpec, Wiring};

use crate::conversation::Conversation;
use crate::stage::Stage;

const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(10);

/// The pod's addresses of both families.
fn addresses(lab: &Lab, pod: &str) -> [IpAddr; 2] {
    let pod = lab.pod(pod);
    [pod.v4().into(), pod.v6().into()]
}

/// Accepts on a port of a pod until the lab ends.
fn listen(lab: &Lab, pod: &str, port: u16) {
    for address in addresses(lab, pod) {
        let bind = || TcpListener::bind(SocketAddr::new(address, port));
        let listener = lab.pod(pod).netns().run(bind).expect("the pod is there");
        let listener = listener.expect("the pod has the address");
        thread::spawn(move || listener.incoming().for_each(drop));
    }
}

fn connects(address: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_millis(300)).is_ok()
}

/// By which families a pod reaches another one on a port.
fn by_family(stage: &Stage, from: &str, to: &str, port: u16) -> [bool; 2] {
    let netns = stage.lab.pod(from).netns();
    addresses(&stage.lab, to).map(|address| {
        let connected = netns.run(|| connects(address, port));
        connected.expect("the pod is there")
    })
}

/// By both.
fn reaches(stage: &Stage, from: &str, to: &str, port: u16) -> bool {
    by_family(stage, from, to, port) == [true; 2]
}

/// By neither.
fn is_cut_off(stage: &Stage, from: &str, to: &str, port: u16) -> bool {
    by_family(stage, from, to, port) == [false; 2]
}

fn write(stage: &Stage, name: &str, spec: &str) {
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {}}}\nspec: {spec}\n",
        ManifestSpec::default().namespace
    );
    let path = stage.mesh.replicas().shared().join(format!("policy-{name}.yaml"));
    fs::write(path, text).expect("written");
}

fn remove(stage: &Stage, name: &str) {
    let path = stage.mesh.replicas().shared().join(format!("policy-{name}.yaml"));
    fs::remove_file(path).expect("it was there");
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn stage() -> Stage {
    let nodes = vec![
        NodeSpec::new("a", Wiring::Routed, &["a1", "a2"]),
        NodeSpec::new("b", Wiring::Routed, &["b1", "b2"]),
    ];
    let stage = Stage::encrypted(LabSpec::new("policy", nodes), ManifestSpec::default());
    for pod in ["a1", "b1"] {
        listen(&stage.lab, pod, PORT);
        listen(&stage.lab, pod, PORT + 1);
    }
    stage
}

#[test]
fn who_is_not_allowed_does_not_get_in_on_one_node_nor_across() {
    let stage = stage();
    let reach = |from, to, port| reaches(&stage, from, to, port);
    let cut_off = |from, to, port| is_cut_off(&stage, from, to, port);
    for from in ["a2", "b2"] {
        assert!(
            reach(from, "a1", PORT) && reach(from, "b1", PORT),
            "before there is any policy"
        );
    }
    write(&stage, "deny", "{podSelector: {}, policyTypes: [Ingress]}");
    for (from, to) in [("a2", "a1"), ("b2", "a1"), ("a2", "b1"), ("b2", "b1")] {
        until("default deny", || cut_off(from, to, PORT));
    }
    let dropped = stage.dropped("a");
    assert!(
        dropped.get("PolicyDenied").is_some_and(|count| *count > 0),
        "{dropped:?}"
    );

    // By identity, on one port.
    let rule = format!(
        "{{podSelector: {{matchLabels: {{app: a1}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: b2}}}}}}], \
         ports: [{{port: {PORT}}}]}}]}}"
    );
    write(&stage, "allow", &rule);
    until("b2 is allowed", || reach("b2", "a1", PORT));
    assert!(cut_off("b2", "a1", PORT + 1), "another port");
    assert!(cut_off("a2", "a1", PORT), "another identity");
    assert!(cut_off("b2", "b1", PORT), "another pod");

    // The node reaches its own pods, whatever policies say, and not those of another.
    let from_node = |node: &str, pod: &str| {
        let netns = stage.lab.node(node).netns();
        addresses(&stage.lab, pod)
            .map(|address| netns.run(|| connects(address, PORT)).expect("the node is there"))
    };
    assert_eq!(from_node("a", "a1"), [true, true], "as the kubelet's probes");
    assert_eq!(from_node("b", "a1"), [false, false]);

    // Egress, and the answers to what is let out.
    write(
        &stage,
        "out",
        "{podSelector: {matchLabels: {app: b2}}, policyTypes: [Egress]}",
    );
    until("b2 is closed in", || cut_off("b2", "a1", PORT));
    remove(&stage, "out");
    until("b2 is let out again", || reach("b2", "a1", PORT));
    for name in ["deny", "allow"] {
        remove(&stage, name);
    }
    until("all is as before", || {
        reach("a2", "b1", PORT) && reach("a2", "a1", PORT)
    });
    stage.assert_no_clear();
}

#[test]
fn a_policy_that_comes_ends_what_it_denies_and_nothing_else() {
    let stage = stage();
    let lab = &stage.lab;
    let kept: Vec<_> = addresses(lab, "b1")
        .into_iter()
        .chain(addresses(lab, "a2"))
        .map(|address| {
            let to = if addresses(lab, "b1").contains(&address) {
                "b1"
            } else {
                "a2"
            };
            Conversation::start(lab, "a1", to, address)
        })
        .collect();
    let ended: Vec<_> = addresses(lab, "b1")
        .map(|address| Conversation::start(lab, "a2", "b1", address))
        .into();
    let talk = |all: &[Conversation]| {
        for conversation in all {
            conversation.goes_on(Duration::from_secs(5));
        }
    };
    talk(&kept);
    talk(&ended);
    let _ = kept.iter().map(Conversation::longest_wait).max();
    // Egress of all pods is closed but for answers, and what a1 asks for is let in and out.
    write(
        &stage,
        "a1",
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: a1}}}]}]}",
    );
    write(
        &stage,
        "out",
        "{podSelector: {matchLabels: {app: a1}}, egress: [{}], policyTypes: [Egress]}",
    );
    let before: Vec<u64> = ended.iter().map(Conversation::answers).collect();
    until("a2 is cut off", || {
        let answers: Vec<u64> = ended.iter().map(Conversation::answers).collect();
        thread::sleep(Duration::from_millis(300));
        ended.iter().map(Conversation::answers).eq(answers)
    });
    assert!(ended.iter().map(Conversation::answers).ge(before));
    thread::sleep(Duration::from_secs(1));
    talk(&kept);
    let longest = kept
        .iter()
        .map(Conversation::longest_wait)
        .max()
        .unwrap_or_default();
    assert!(longest < Duration::from_millis(1500), "{longest:?}");
    stage.assert_no_clear();
}

#[test]
fn an_audited_policy_is_counted_and_denies_nothing() {
    let stage = stage();
    write(&stage, "deny", "{podSelector: {}, policyTypes: [Ingress]}");
    until("default deny", || is_cut_off(&stage, "b2", "a1", PORT));
    let mesh = stage.mesh.replicas().shared().join("mesh.yaml");
    let text = fs::read_to_string(&mesh).expect("a manifest");
    let audited = text.replace("enforcer: Hauberk", "enforcer: Hauberk\n    mode: Audit");
    assert_ne!(audited, text);
    fs::write(&mesh, audited).expect("written");
    until("nothing is denied", || reaches(&stage, "b2", "a1", PORT));
    until("it is counted", || {
        let counted = &stage.mesh.state("a")["guard"]["would_deny"]["packets"];
        counted.as_u64().is_some_and(|packets| packets > 0)
    });
    fs::write(&mesh, text).expect("written");
    until("it is denied again", || is_cut_off(&stage, "b2", "a1", PORT));
}
