//! RBAC: who may do what, as the API server answers.

use k8s_openapi::api::{authorization::v1::SubjectAccessReview, rbac::v1::ClusterRole};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{KEYD, control_plane, eventually, read, stored};

/// One request to a line: verb, group (`-` for Kubernetes' own), resource, namespace (`-` for none), name if any.
type Requests = &'static [&'static str];

#[test]
fn keyd_may_do_what_a_node_needs_and_nothing_more() {
    may(
        KEYD,
        &[
            "list - nodes -",
            "watch - nodes -",
            "list - pods -",
            "watch - pods -",
            "watch hauberk.dev meshes -",
            "watch hauberk.dev externalpeers -",
            "watch hauberk.dev nodetunnels -",
            "create hauberk.dev nodetunnels -",
            "patch hauberk.dev nodetunnels - a",
            "patch hauberk.dev nodetunnels/status - a",
            "create certificates.k8s.io certificatesigningrequests -",
            "get certificates.k8s.io certificatesigningrequests - x",
            "list - configmaps hauberk-system hauberk-trust-bundle",
            "watch - configmaps hauberk-system hauberk-trust-bundle",
            "create events.k8s.io events default",
        ],
        &[
            "get - secrets hauberk-system hauberk-ca",
            "list - secrets hauberk-system",
            "list - configmaps hauberk-system",
            "update - configmaps hauberk-system hauberk-trust-bundle",
            "patch - nodes - a",
            "patch - nodes/status - a",
            "patch - pods default x",
            "create - pods hauberk-system",
            "create - pods/exec hauberk-system x",
            "create - serviceaccounts/token hauberk-system hauberk-keyd",
            "delete hauberk.dev nodetunnels - a",
            "override hauberk.dev nodetunnels - a",
            "patch hauberk.dev meshes - default",
            "patch hauberk.dev meshes/status - default",
            "create hauberk.dev externalpeers -",
            "patch hauberk.dev externalpeers - x",
            "patch certificates.k8s.io certificatesigningrequests/approval - x",
            "approve certificates.k8s.io signers - hauberk.dev/node",
            "create events.k8s.io events kube-system",
        ],
    );
}

#[test]
fn the_controller_may_do_what_the_cluster_needs_once_and_nothing_more() {
    may(
        "system:serviceaccount:hauberk-system:hauberk-controller",
        &[
            "patch - nodes - a",
            "get - namespaces - kube-system",
            "patch hauberk.dev meshes/status - default",
            "delete hauberk.dev nodetunnels - a",
            "watch certificates.k8s.io certificatesigningrequests -",
            "patch certificates.k8s.io certificatesigningrequests/approval - x",
            "patch certificates.k8s.io certificatesigningrequests/status - x",
            "approve certificates.k8s.io signers - hauberk.dev/node",
            "sign certificates.k8s.io signers - hauberk.dev/node",
            "patch coordination.k8s.io leases hauberk-system hauberk-controller",
            "update - configmaps hauberk-system hauberk-trust-bundle",
            "get - secrets hauberk-system hauberk-ca",
            "create - secrets hauberk-system",
        ],
        &[
            "sign certificates.k8s.io signers - kubernetes.io/kube-apiserver-client",
            "approve certificates.k8s.io signers - kubernetes.io/kubelet-serving",
            "create certificates.k8s.io certificatesigningrequests -",
            "patch hauberk.dev nodetunnels - a",
            "patch hauberk.dev nodetunnels/status - a",
            "patch hauberk.dev meshes - default",
            "get - secrets hauberk-system other",
            "update - secrets hauberk-system hauberk-ca",
            "delete - secrets hauberk-system hauberk-ca",
            "create - secrets default",
            "get - namespaces - default",
            "patch - nodes/status - a",
            "delete - nodes - a",
            "list - pods -",
            "patch coordination.k8s.io leases hauberk-system other",
        ],
    );
}

fn may(user: &str, granted: Requests, denied: Requests) {
    let control_plane = control_plane();
    for (requests, expected) in [(granted, true), (denied, false)] {
        for request in requests {
            let review: SubjectAccessReview = read(&review(user, request));
            let answer = control_plane
                .run(async |client| Api::all(client).create(&PostParams::default(), &review).await)
                .unwrap()
                .unwrap();
            assert_eq!(answer.status.unwrap().allowed, expected, "{user}: {request}");
        }
    }
}

fn review(user: &str, request: &str) -> Value {
    let mut words = request.split(' ').map(|word| if word == "-" { "" } else { word });
    let mut word = || words.next().unwrap_or_default();
    let (verb, group, resource, namespace, name) = (word(), word(), word(), word(), word());
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    json!({
        "metadata": {},
        "spec": {"user": user, "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource,
            "namespace": namespace, "name": name,
        }},
    })
}

#[test]
fn kubernetes_own_roles_reach_our_kinds() {
    let control_plane = control_plane();
    let admin = control_plane.admin();
    let has = |role: &str, resource: &str, verb: &str| {
        let role = stored::<ClusterRole>(admin, role).unwrap();
        let of = |rule: &Value, field: &str, wanted: &str| {
            let all = rule[field].as_array();
            all.is_some_and(|all| all.iter().any(|one| one == wanted))
        };
        role["rules"].as_array().into_iter().flatten().any(|rule| {
            of(rule, "apiGroups", "hauberk.dev") && of(rule, "resources", resource) && of(rule, "verbs", verb)
        })
    };
    eventually("the roles are aggregated", || {
        let all = has("view", "nodetunnels", "watch")
            && has("edit", "meshes", "patch")
            && has("edit", "externalpeers", "get")
            && has("admin", "externalpeers", "create");
        all.then_some(())
    });
    assert!(!has("view", "meshes", "patch") && !has("edit", "externalpeers", "create"));
    assert!(!has("admin", "nodetunnels", "patch"));
}
