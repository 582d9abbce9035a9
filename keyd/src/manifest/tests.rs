//! Manifests as users, nodes and accidents write them.

use super::*;

fn problems(text: &str) -> Vec<String> {
    parse("m.yaml", text.as_bytes())
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn objects(text: &str) -> Vec<Object> {
    parse("m.yaml", text.as_bytes()).unwrap().objects
}

const MESH: &str = "\
apiVersion: hauberk.dev/v1alpha1
kind: Mesh
metadata:
  name: default
spec:
  encryption:
    enabled: true
    podCIDRs: [10.77.0.0/16, 'fd77::/48']
    lanes: 2
  policy:
    enforcer: Hauberk
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  uid: 4f1c
  creationTimestamp: 2026-11-22T10:00:00Z
  labels: {app: web}
  annotations:
    hauberk.dev/extra-addresses: 10.77.1.200, fd77:1::200
spec:
  nodeName: a
  serviceAccountName: web
  containers: []
status:
  phase: Running
  podIP: 10.77.1.2
  podIPs:
  - ip: 10.77.1.2
  - ip: fd77:1::2
";

#[test]
fn a_mesh_is_read_with_its_prefixes() {
    let [Object::Mesh(mesh)] = &objects(MESH)[..] else {
        panic!("one Mesh")
    };
    assert!(mesh.spec.encryption.enabled);
    assert_eq!(mesh.spec.encryption.pod_cidrs.len(), 2);
}

#[test]
fn a_pod_is_read_with_its_node_addresses_and_annotation() {
    let [Object::Pod(name, pod)] = &objects(POD)[..] else {
        panic!("one Pod")
    };
    assert_eq!(name.to_string(), "shop/web-0");
    assert_eq!(
        (pod.node.as_deref(), pod.service_account.as_str()),
        (Some("a"), "web")
    );
    assert_eq!((pod.addresses.len(), pod.extra_addresses.len()), (2, 2));
    assert!(pod.owns_addresses() && pod.origin.created.is_some());
}

#[test]
fn a_mirror_pod_lends_a_static_pod_neither_labels_nor_a_service_account_nor_addresses() {
    let mirror = POD.replace(
        "  annotations:\n",
        "  annotations:\n    kubernetes.io/config.mirror: x\n",
    );
    assert_ne!(mirror, POD);
    let [Object::Pod(_, pod)] = &objects(&mirror)[..] else {
        panic!("one Pod")
    };
    assert!(pod.labels.is_empty() && pod.service_account.is_empty() && pod.extra_addresses.is_empty());
    assert_eq!(pod.addresses.len(), 2, "its own are its own");
}

#[test]
fn a_node_is_read_with_prefixes_and_internal_addresses_only() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.77.1.0/24}, status: \
                {addresses: [{type: InternalIP, address: 192.168.77.1}, {type: Hostname, address: a}]}}";
    let [Object::Node(name, node)] = &objects(node)[..] else {
        panic!("one Node")
    };
    assert_eq!(
        (name.as_str(), node.addresses.len(), node.pod_cidrs.len()),
        ("a", 1, 1)
    );
}

#[test]
fn several_documents_of_one_file_are_all_read_and_empty_ones_skipped() {
    let text = format!("---\n{MESH}---\n---\n# nothing\n---\n{POD}");
    assert_eq!(objects(&text).len(), 2);
    assert_eq!(objects("").len(), 0);
}

#[test]
fn a_wrong_type_is_named_by_file_line_and_field() {
    let text = format!("{POD}---\n{}", MESH.replace("lanes: 2", "lanes: two"));
    let [problem] = &problems(&text)[..] else {
        panic!("one problem")
    };
    assert!(
        problem.starts_with("m.yaml:30: spec.encryption.lanes: invalid type"),
        "{problem}"
    );
}

#[test]
fn an_unknown_field_of_our_kinds_is_named_and_of_kubernetes_kinds_ignored() {
    let misspelt = MESH.replace("enabled: true", "enabledd: true");
    assert_eq!(
        problems(&misspelt),
        ["m.yaml:7: spec.encryption.enabledd: unknown field"]
    );
    assert_eq!(
        objects(&POD.replace("nodeName: a", "nodeName: a\n  futureField: 1")).len(),
        1
    );
}

#[test]
fn values_out_of_range_are_named_each() {
    let text = MESH.replace("lanes: 2", "lanes: 17\n    listenPort: 80");
    assert_eq!(
        problems(&text),
        [
            "m.yaml:9: spec.encryption.lanes: has to be between 1 and 16",
            "m.yaml:10: spec.encryption.listenPort: has to be between 1024 and 65500",
        ]
    );
    let text = MESH.replace("name: default", "name: other");
    assert_eq!(
        problems(&text),
        ["m.yaml:4: metadata.name: the only Mesh is named default"]
    );
}

#[test]
fn a_wrong_address_is_named_with_its_place_in_the_list() {
    let text = POD.replace("- ip: fd77:1::2", "- ip: fd77:1::x");
    assert_eq!(
        problems(&text),
        ["m.yaml:20: status.podIPs[1]: \"fd77:1::x\" is no IP address"]
    );
    let text = MESH.replace("10.77.0.0/16", "10.77.0.0/33");
    let [problem] = &problems(&text)[..] else {
        panic!("one problem")
    };
    assert!(
        problem.starts_with("m.yaml:8: spec.encryption.podCIDRs[0]: "),
        "{problem}"
    );
}

#[test]
fn a_missing_field_is_named_at_the_object_around_it() {
    assert_eq!(problems("kind: Pod\n"), ["m.yaml:1: apiVersion is missing"]);
    let tunnel = "apiVersion: hauberk.dev/v1alpha1\nkind: NodeTunnel\nmetadata: {name: a}\nspec:\n  generations:\n  \
                  - id: 1\n    lanes:\n    - port: 1\n  addresses: []\n";
    let [problem] = &problems(tunnel)[..] else {
        panic!("one problem")
    };
    assert!(
        problem.contains("m.yaml:8: spec.generations[0].lanes[0]") && problem.contains("publicKey"),
        "{problem}"
    );
}

#[test]
fn half_a_file_is_an_error_with_its_line_and_gives_nothing() {
    let half = &MESH[..MESH.find("/48']").unwrap()];
    let [problem] = &problems(half)[..] else {
        panic!("one problem")
    };
    assert!(
        problem.starts_with("m.yaml:8") && problem.contains("half written"),
        "{problem}"
    );
    assert!(!problems(&format!("{POD}---\n{half}")).is_empty());
}

#[test]
fn a_kind_that_keyd_does_not_use_is_a_notice() {
    let parsed = parse(
        "m.yaml",
        b"{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}",
    )
    .unwrap();
    assert!(parsed.objects.is_empty());
    assert_eq!(
        parsed.notices[0].to_string(),
        "m.yaml: apps/v1 Deployment is no kind that keyd uses"
    );
    let old = MESH.replace("v1alpha1", "v1");
    assert!(problems(&old)[0].contains("use hauberk.dev/v1alpha1"));
}

#[test]
fn a_mesh_with_nothing_but_a_status_is_the_controllers() {
    let text = "apiVersion: hauberk.dev/v1alpha1\nkind: Mesh\nmetadata: {name: default}\nstatus:\n  \
                phase: Encrypted\n  nodes: 3\n  encryptedNodes: 3\n";
    let [Object::MeshStatus(status)] = &objects(text)[..] else {
        panic!("a status")
    };
    assert_eq!(
        (status.phase, status.nodes),
        (hauberk_api::MeshPhase::Encrypted, 3)
    );
}

#[test]
fn a_name_that_would_lead_out_of_the_directory_is_refused() {
    for name in ["../../etc/x", "a/b", "", ".hidden", "A"] {
        let text = format!("{{apiVersion: v1, kind: Node, metadata: {{name: \"{name}\"}}}}");
        assert!(problems(&text)[0].contains("metadata"), "{name}");
    }
}

#[test]
fn no_cut_and_no_changed_byte_makes_it_panic() {
    let text = format!("{MESH}---\n{POD}");
    for cut in 0..text.len() {
        let _ = parse("m.yaml", &text.as_bytes()[..cut]);
        let mut spoilt = text.clone().into_bytes();
        for byte in [0, b'\n', b':', b'{', b'*', 0xff] {
            spoilt[cut] = byte;
            let _ = parse("m.yaml", &spoilt);
        }
    }
}

#[test]
fn aliases_that_would_grow_without_end_are_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(!problems(&bomb).is_empty());
}
