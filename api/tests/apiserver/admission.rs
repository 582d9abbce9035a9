//! The admission policies, asked with tokens as keyd and the controller have them.

use hauberk_api::{NodeTunnel, STARTUP_TAINT};
use hauberk_netlab::kubernetes::{ControlPlane, Identity};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy,
    authentication::v1::TokenRequest,
    certificates::v1::CertificateSigningRequest,
    core::v1::{Node, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, PropagationPolicy},
};
use serde_json::{Value, json};

use crate::{
    Answer, KEYD, apply, apply_status, control_plane, controller, delete, eventually, keyd, merge, refused,
    stored, try_to_create,
};

const SIGNER: &str = "hauberk.dev/node";
const USAGES: &[&str] = &["client auth", "digital signature", "server auth"];

/// The NodeTunnel of a node, as its keyd makes it.
pub(crate) fn owned_tunnel(control_plane: &ControlPlane, node: &str) -> Value {
    let found = stored::<Node>(control_plane.admin(), node).unwrap();
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "NodeTunnel",
        "metadata": {
            "name": node,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": node, "uid": found["metadata"]["uid"]},
            ],
        },
        "spec": {"generations": [], "addresses": []},
    })
}

/// Its status, with the reason of `Encrypted`.
pub(crate) fn tunnel_status(node: &str, encrypted: &str) -> Value {
    let condition = |kind: &str, status: bool, reason: &str| {
        json!({
            "type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": "",
            "lastTransitionTime": "2025-01-01T00:00:00Z",
        })
    };
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "NodeTunnel",
        "metadata": {"name": node},
        "status": {"conditions": [
            condition("Ready", true, "InSync"),
            condition("Encrypted", encrypted == "AllPairsStrict", encrypted),
            condition("Degraded", false, "AsExpected"),
        ]},
    })
}

/// A policy counts a moment after it was made.
pub(crate) fn wait_for_policies(control_plane: &ControlPlane) {
    let (keyd, _) = keyd_of(control_plane, "a");
    let (_, tunnel) = keyd_of(control_plane, "b");
    let controller = controller(control_plane, "a");
    eventually("the policy of NodeTunnels is in force", || {
        try_to_create::<NodeTunnel>(&keyd, &tunnel).err()
    });
    eventually("the policy of certificates is in force", || {
        try_to_create::<CertificateSigningRequest>(&keyd, &request("example.com/other", USAGES)).err()
    });
    // A change each time, since one that changes nothing is nobody's business.
    let mut number = 0;
    eventually("the policy of Nodes is in force", || {
        number += 1;
        let labels = json!({"metadata": {"labels": {"number": number.to_string()}}});
        merge::<Node>(&controller, "a", &labels).err()
    });
}

fn keyd_of(control_plane: &ControlPlane, node: &str) -> (Identity, Value) {
    (keyd(control_plane, node), owned_tunnel(control_plane, node))
}

#[test]
fn a_node_writes_its_own_tunnel_and_its_status() {
    let control_plane = control_plane();
    let (keyd, mut tunnel) = keyd_of(&control_plane, "own");
    apply::<NodeTunnel>(&keyd, &tunnel).unwrap();
    apply_status::<NodeTunnel>(&keyd, &tunnel_status("own", "Off")).unwrap();
    tunnel["spec"]["addresses"] = json!(["192.168.77.9"]);
    apply::<NodeTunnel>(&keyd, &tunnel).unwrap();
    let found = stored::<NodeTunnel>(control_plane.admin(), "own").unwrap();
    assert_eq!(found["spec"]["addresses"], json!(["192.168.77.9"]));
    assert_eq!(found["status"]["conditions"][1]["reason"], "Off");
}

#[test]
fn a_token_stolen_from_one_node_cannot_write_another_nodes_tunnel() {
    let control_plane = control_plane();
    let (victim, tunnel) = keyd_of(&control_plane, "victim");
    let thief = keyd(&control_plane, "thief");
    let words = "the token is of node thief, which may write its own NodeTunnel only, not that of victim";
    refused(&apply::<NodeTunnel>(&thief, &tunnel), 403, words);
    refused(&try_to_create::<NodeTunnel>(&thief, &tunnel), 403, words);

    apply::<NodeTunnel>(&victim, &tunnel).unwrap();
    apply_status::<NodeTunnel>(&victim, &tunnel_status("victim", "Off")).unwrap();
    let before = stored::<NodeTunnel>(control_plane.admin(), "victim");
    let mut changed = tunnel.clone();
    changed["spec"]["addresses"] = json!(["192.168.77.66"]);
    refused(&apply::<NodeTunnel>(&thief, &changed), 403, words);
    for patch in [
        json!({"spec": {"addresses": ["192.168.77.66"]}}),
        json!({"metadata": {"ownerReferences": []}}),
        json!({"metadata": {"labels": {"any": "label"}}}),
    ] {
        refused(&merge::<NodeTunnel>(&thief, "victim", &patch), 403, words);
    }
    let status = tunnel_status("victim", "AllPairsStrict");
    refused(&apply_status::<NodeTunnel>(&thief, &status), 403, words);
    let deleted = delete::<NodeTunnel>(&thief, "victim", &DeleteParams::default());
    refused(&deleted, 403, "nodetunnels.hauberk.dev \"victim\" is forbidden");
    assert_eq!(stored::<NodeTunnel>(control_plane.admin(), "victim"), before);
}

#[test]
fn a_token_that_names_no_node_writes_nothing() {
    let control_plane = control_plane();
    let (_, tunnel) = keyd_of(&control_plane, "unnamed");
    let token = control_plane
        .run(async |client| {
            Api::<ServiceAccount>::namespaced(client, "hauberk-system")
                .create_token_request("hauberk-keyd", &PostParams::default(), &TokenRequest::default())
                .await
        })
        .unwrap()
        .unwrap();
    let unbound = control_plane
        .bearer("unbound", &token.status.unwrap().token)
        .unwrap();
    let words = "the token names no node (authentication.kubernetes.io/node-name)";
    refused(&apply::<NodeTunnel>(&unbound, &tunnel), 403, words);
    let certificate = try_to_create::<CertificateSigningRequest>(&unbound, &request(SIGNER, USAGES));
    refused(&certificate, 403, words);
    apply::<NodeTunnel>(control_plane.admin(), &tunnel).unwrap();
    refused(
        &apply_status::<NodeTunnel>(&unbound, &tunnel_status("unnamed", "Off")),
        403,
        words,
    );
}

#[test]
fn keyd_deletes_no_tunnel_even_where_a_role_lets_it() {
    let control_plane = control_plane();
    let (keyd, tunnel) = keyd_of(&control_plane, "undeleted");
    apply::<NodeTunnel>(&keyd, &tunnel).unwrap();
    let mut config = control_plane.admin().config();
    config.auth_info.impersonate = Some(KEYD.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    let answer = control_plane
        .run(async |_| {
            let tunnels = Api::<NodeTunnel>::all(Client::try_from(config).unwrap());
            tunnels.delete("undeleted", &DeleteParams::default()).await
        })
        .unwrap();
    let Err(kube::Error::Api(status)) = answer else {
        panic!("not refused: {answer:?}")
    };
    refused(
        &Err(status),
        403,
        "keyd deletes no NodeTunnel; it goes with its Node",
    );
}

#[test]
fn a_tunnel_has_its_node_as_the_one_owner_and_nothing_that_keeps_it() {
    let control_plane = control_plane();
    let (keyd, tunnel) = keyd_of(&control_plane, "owner");
    let other = keyd_of(&control_plane, "other").1;
    let owner = &tunnel["metadata"]["ownerReferences"][0];
    let changed = |field: &str, value: Value| {
        let mut owner = owner.clone();
        owner[field] = value;
        json!([owner])
    };
    for owners in [
        json!([]),
        json!([owner, other["metadata"]["ownerReferences"][0]]),
        other["metadata"]["ownerReferences"].clone(),
        changed("kind", json!("Pod")),
        changed("name", json!("other")),
        changed("uid", json!("00000000-0000-0000-0000-000000000000")),
        changed("controller", json!(true)),
        changed("blockOwnerDeletion", json!(true)),
    ] {
        let mut tunnel = tunnel.clone();
        tunnel["metadata"]["ownerReferences"] = owners;
        let words = "a NodeTunnel has one owner, the Node of its name and UID";
        refused(&apply::<NodeTunnel>(&keyd, &tunnel), 422, words);
    }
    let mut kept = tunnel.clone();
    kept["metadata"]["finalizers"] = json!(["example.com/keep"]);
    refused(&apply::<NodeTunnel>(&keyd, &kept), 403, "keyd adds no finalizers");
}

#[test]
fn whoever_else_is_given_the_permission_to_write_tunnels_needs_another_one() {
    let control_plane = control_plane();
    let admin = control_plane.admin();
    let tunnel = keyd_of(&control_plane, "guarded").1;
    apply::<NodeTunnel>(admin, &tunnel).unwrap();
    let mut changed = tunnel.clone();
    changed["spec"]["addresses"] = json!(["192.168.77.66"]);

    let writer = control_plane.user("writer", "writer", None).unwrap();
    grant(admin, "writer", &["create", "patch", "update"]);
    let labels = json!({"metadata": {"labels": {"team": "blue"}}});
    eventually("the role counts", || {
        merge::<NodeTunnel>(&writer, "guarded", &labels).ok()
    });
    let words =
        "only the keyd of node guarded writes its keys and status; writer would need the verb override";
    refused(&apply::<NodeTunnel>(&writer, &changed), 403, words);

    grant(admin, "writer", &["create", "patch", "update", "override"]);
    eventually("the larger role counts", || {
        apply::<NodeTunnel>(&writer, &changed).ok()
    });
}

/// Gives a user verbs on NodeTunnels.
fn grant(admin: &Identity, user: &str, verbs: &[&str]) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": user},
        "rules": [{"apiGroups": ["hauberk.dev"], "resources": ["nodetunnels"], "verbs": verbs}],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    apply::<ClusterRole>(admin, &role).unwrap();
    apply::<ClusterRoleBinding>(admin, &binding).unwrap();
}

#[test]
fn a_tunnel_goes_with_its_node_and_stays_where_the_administrator_says_so() {
    let control_plane = control_plane();
    let admin = control_plane.admin();
    for (node, policy) in [
        ("leaving", PropagationPolicy::Background),
        ("leaving-slowly", PropagationPolicy::Foreground),
        ("leaving-orphan", PropagationPolicy::Orphan),
    ] {
        let (keyd, tunnel) = keyd_of(&control_plane, node);
        apply::<NodeTunnel>(&keyd, &tunnel).unwrap();
        let parameters = DeleteParams {
            propagation_policy: Some(policy.clone()),
            ..DeleteParams::default()
        };
        delete::<Node>(admin, node, &parameters).unwrap();
        eventually("the Node is gone", || {
            stored::<Node>(admin, node).is_none().then_some(())
        });
        if matches!(policy, PropagationPolicy::Orphan) {
            let orphan = stored::<NodeTunnel>(admin, node).unwrap();
            assert_eq!(orphan["metadata"].get("ownerReferences"), None);
            // The controller clears it away.
            let controller = controller(&control_plane, "a");
            delete::<NodeTunnel>(&controller, node, &DeleteParams::default()).unwrap();
        } else {
            eventually("the tunnel is gone", || {
                stored::<NodeTunnel>(admin, node).is_none().then_some(())
            });
        }
    }
}

/// A CertificateSigningRequest. The API server reads that it is PKCS#10, and no more.
fn request(signer: &str, usages: &[&str]) -> Value {
    let pem = include_str!("request.pem");
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "hauberk-a-"},
        "spec": {
            "request": k8s_openapi::ByteString(pem.as_bytes().to_vec()),
            "signerName": signer,
            "usages": usages,
        },
    })
}

#[test]
fn keyd_asks_for_certificates_of_our_signer_only() {
    let control_plane = control_plane();
    let keyd = keyd(&control_plane, "a");
    let ask = |signer: &str, usages: &[&str]| -> Answer {
        try_to_create::<CertificateSigningRequest>(&keyd, &request(signer, usages))
    };
    ask(SIGNER, USAGES).unwrap();
    ask(SIGNER, &["server auth", "client auth", "digital signature"]).unwrap();
    for signer in ["example.com/other", "kubernetes.io/kube-apiserver-client"] {
        let words = format!("hauberk.dev/node only, not of {signer}");
        refused(&ask(signer, USAGES), 403, &words);
    }
    for usages in [
        &["client auth", "digital signature"][..],
        &["client auth", "server auth", "cert sign"],
    ] {
        refused(&ask(SIGNER, usages), 422, "and nothing else");
    }
}

#[test]
fn the_controller_takes_the_startup_taint_off_and_touches_nothing_else_of_a_node() {
    let control_plane = control_plane();
    let (admin, controller) = (control_plane.admin(), controller(&control_plane, "tainted"));
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    let theirs = taint("example.com/theirs");
    let taints = json!({"spec": {"taints": [theirs, taint(STARTUP_TAINT)]}});
    merge::<Node>(admin, "tainted", &taints).unwrap();
    let words = "of a Node, Hauberk's controller may only take the taint hauberk.dev/agent-not-ready off";
    for patch in [
        json!({"spec": {"taints": [taint(STARTUP_TAINT)]}}),
        json!({"spec": {"taints": []}}),
        json!({"spec": {"taints": [theirs, taint("example.com/new")]}}),
        json!({"spec": {"taints": [theirs], "unschedulable": true}}),
        json!({"spec": {"taints": [theirs]}, "metadata": {"labels": {"zone": "x"}}}),
        json!({"spec": {"taints": [theirs]}, "metadata": {"annotations": {"x": "y"}}}),
        json!({"metadata": {"labels": {"zone": "x"}}}),
    ] {
        refused(&merge::<Node>(&controller, "tainted", &patch), 403, words);
    }
    // kube-controller-manager adds taints of its own, so that a first try may come too late.
    eventually("the taint is off", || {
        let node = stored::<Node>(admin, "tainted").unwrap();
        let mut taints = node["spec"]["taints"].as_array().unwrap().clone();
        taints.retain(|taint| taint["key"] != STARTUP_TAINT);
        let patch = json!({
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": taints},
        });
        merge::<Node>(&controller, "tainted", &patch).ok()
    });
    let left = stored::<Node>(admin, "tainted").unwrap()["spec"]["taints"].to_string();
    assert!(
        left.contains("example.com/theirs") && !left.contains(STARTUP_TAINT),
        "{left}"
    );
}

/// Kubernetes checks what a policy refers to against the schemas; it warns, and does not refuse.
#[test]
fn the_policies_are_free_of_warnings() {
    let control_plane = control_plane();
    for name in [
        "nodetunnels.hauberk.dev",
        "certificates.hauberk.dev",
        "nodes.hauberk.dev",
    ] {
        let checked = eventually("the policy was checked", || {
            let policy = stored::<ValidatingAdmissionPolicy>(control_plane.admin(), name).unwrap();
            policy["status"].get("typeChecking").cloned()
        });
        assert_eq!(checked, json!({}), "{name}");
    }
}
