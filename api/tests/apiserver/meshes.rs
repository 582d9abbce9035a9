//! The Mesh: what the API server lets pass, what it refuses and in which words, what kubectl shows.

use hauberk_api::Mesh;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    apply, apply_status, control_plane, delete, is_refused, is_taken, kubectl, merge, read, refused, stored,
    try_to_create, with,
};

fn mesh() -> Value {
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "Mesh",
        "metadata": {"name": "default"},
        "spec": {"encryption": {"enabled": true}, "keys": {}, "policy": {}, "services": {}},
    })
}

#[test]
fn a_mesh_of_sense_is_taken_and_comes_back_as_the_type_reads_it() {
    is_taken::<Mesh>(
        &mesh(),
        &[
            ("/spec", json!({})),
            (
                "/spec/encryption/podCIDRs",
                json!(["10.77.0.0/16", "fd77::/16", "10.8.0.1/32"]),
            ),
            ("/spec/encryption/lanes", json!(1)),
            ("/spec/encryption/lanes", json!(16)),
            ("/spec/encryption/listenPort", json!(1024)),
            ("/spec/encryption/listenPort", json!(29992)),
            (
                "/spec/encryption",
                json!({"enabled": true, "listenPort": 29968, "lanes": 16}),
            ),
            ("/spec/encryption/listenPort", json!(32768)),
            ("/spec/encryption/listenPort", json!(65500)),
            ("/spec/encryption/unreachableNodes", json!("Exempt")),
            ("/spec/policy/enforcer", json!("Hauberk")),
            ("/spec/policy/mode", json!("Audit")),
            ("/spec/keys/rotationInterval", json!("1h")),
            ("/spec/keys/rotationInterval", json!("90m")),
            ("/spec/keys/rotationInterval", json!("720h30m")),
        ],
    );
    let control_plane = control_plane();
    let object = with(
        &mesh(),
        "/spec",
        json!({"encryption": {"podCIDRs": ["10.77.0.0/16"]}}),
    );
    let made = try_to_create::<Mesh>(control_plane.admin(), &object).unwrap();
    assert_eq!(
        made["spec"]["encryption"]["enabled"], false,
        "the default is shown"
    );
    let made: Mesh = read(&made);
    assert_eq!(made.spec.encryption.pod_cidrs, ["10.77.0.0/16".parse().unwrap()]);
    assert_eq!(made.spec.encryption.listen_port(), 23400);
}

#[test]
fn a_mesh_of_nonsense_is_refused_and_told_why() {
    let no_prefix = "is no prefix, such as 10.77.1.0/24 or fd77:1::/64";
    let no_unicast = "is no prefix of unicast addresses";
    let many: Vec<_> = (0..65).map(|i| format!("10.{i}.0.0/16")).collect();
    is_refused::<Mesh>(
        &mesh(),
        &[
            ("/metadata/name", json!("other"), "the only Mesh is named default"),
            ("/spec/encryption/podCIDRs", json!(["10.77.0.0"]), no_prefix),
            ("/spec/encryption/podCIDRs", json!(["10.77.0.0/33"]), no_prefix),
            ("/spec/encryption/podCIDRs", json!(["pods"]), no_prefix),
            (
                "/spec/encryption/podCIDRs",
                json!(["::ffff:10.0.0.0/104"]),
                no_prefix,
            ),
            (
                "/spec/encryption/podCIDRs",
                json!(["10.77.1.0/16"]),
                "has bits set behind its length",
            ),
            (
                "/spec/encryption/podCIDRs",
                json!(["fd77::1/64"]),
                "has bits set behind its length",
            ),
            ("/spec/encryption/podCIDRs", json!(["0.0.0.0/0"]), no_unicast),
            ("/spec/encryption/podCIDRs", json!(["::/0"]), no_unicast),
            ("/spec/encryption/podCIDRs", json!(["127.0.0.0/8"]), no_unicast),
            ("/spec/encryption/podCIDRs", json!(["169.254.0.0/16"]), no_unicast),
            ("/spec/encryption/podCIDRs", json!(["ff00::/8"]), no_unicast),
            (
                "/spec/encryption/podCIDRs",
                json!(["10.0.0.0/8", "10.0.0.0/8"]),
                "Duplicate value",
            ),
            (
                "/spec/encryption/podCIDRs",
                json!(many),
                "must have at most 64 items",
            ),
            ("/spec/encryption/lanes", json!(0), "greater than or equal to 1"),
            ("/spec/encryption/lanes", json!(17), "less than or equal to 16"),
            (
                "/spec/encryption/listenPort",
                json!(1023),
                "greater than or equal to 1024",
            ),
            (
                "/spec/encryption/listenPort",
                json!(65501),
                "less than or equal to 65500",
            ),
            (
                "/spec/encryption/listenPort",
                json!(29993),
                "would take the tunnel's packets",
            ),
            (
                "/spec/encryption/listenPort",
                json!(32767),
                "may not touch 30000-32767",
            ),
            (
                "/spec/encryption",
                json!({"enabled": true, "listenPort": 29969, "lanes": 16}),
                "spec.encryption.listenPort: Invalid value",
            ),
            (
                "/spec/encryption/unreachableNodes",
                json!("Ignore"),
                "supported values: \"Drop\", \"Exempt\"",
            ),
            (
                "/spec/policy/enforcer",
                json!("Cni"),
                "supported values: \"CNI\", \"Hauberk\"",
            ),
            (
                "/spec/policy/mode",
                json!("Off"),
                "supported values: \"Enforce\", \"Audit\"",
            ),
            (
                "/spec/keys/rotationInterval",
                json!("30 days"),
                "is no duration in hours and minutes, such as 720h or 1h30m",
            ),
            ("/spec/keys/rotationInterval", json!(""), "is no duration"),
            (
                "/spec/keys/rotationInterval",
                json!("10m"),
                "has to be between 1h and 8760h",
            ),
            (
                "/spec/keys/rotationInterval",
                json!("99999h"),
                "has to be between 1h and 8760h",
            ),
        ],
    );
}

#[test]
fn the_documented_command_turns_the_flag_on() {
    let control_plane = control_plane();
    let object = with(&mesh(), "/spec", json!({}));
    let made = apply::<Mesh>(control_plane.admin(), &object).unwrap();
    assert_eq!(made["spec"]["encryption"], json!({"enabled": false}));
    let patch = r#"{"spec":{"encryption":{"enabled":true}}}"#;
    let command = ["patch", "mesh", "default", "--type", "merge", "-p", patch];
    let (_, warnings) = kubectl(&control_plane, &command);
    assert_eq!(warnings, "");
    let found: Mesh = read(&stored::<Mesh>(control_plane.admin(), "default").unwrap());
    assert!(found.spec.encryption.enabled);
    delete::<Mesh>(control_plane.admin(), "default", &DeleteParams::default()).unwrap();
}

#[test]
fn a_condition_is_one_of_its_type_and_as_kubernetes_has_it() {
    let control_plane = control_plane();
    let admin = control_plane.admin();
    let mut object = mesh();
    apply::<Mesh>(admin, &object).unwrap();
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Because", "message": "",
            "lastTransitionTime": "2025-01-01T00:00:00Z",
        })
    };
    let mut told = |conditions: Value| {
        object["status"] =
            json!({"phase": "Enabling", "nodes": 2, "encryptedNodes": 1, "conditions": conditions});
        apply_status::<Mesh>(admin, &object)
    };
    told(json!([
        condition("Ready", "True"),
        condition("Degraded", "False")
    ]))
    .unwrap();
    for (conditions, words) in [
        (
            json!([condition("Ready", "Yes")]),
            "supported values: \"True\", \"False\", \"Unknown\"",
        ),
        (json!([condition("not a type", "True")]), "should match"),
    ] {
        refused(&told(conditions), 422, words);
    }
    let twice = merge::<Mesh>(admin, "default", &json!({"status": {"conditions": []}}));
    let conditions = &twice.unwrap()["status"]["conditions"];
    assert_eq!(
        conditions.as_array().unwrap().len(),
        2,
        "the status is a subresource of its own"
    );

    // As `kubectl get` shows it.
    let (table, _) = kubectl(&control_plane, &["get", "hmesh", "--no-headers"]);
    let columns: Vec<_> = table.split_whitespace().collect();
    assert_eq!(columns[..5], ["default", "true", "Enabling", "2", "1"]);
    let (wide, _) = kubectl(&control_plane, &["get", "meshes", "-o", "wide"]);
    assert!(wide.contains("DEGRADED") && wide.contains("Because"), "{wide}");
    delete::<Mesh>(admin, "default", &DeleteParams::default()).unwrap();
}

#[test]
fn kubectl_explains_what_the_values_mean() {
    let control_plane = control_plane();
    let (explained, _) = kubectl(
        &control_plane,
        &["explain", "mesh.spec.encryption.unreachableNodes"],
    );
    let explained: Vec<_> = explained.split_whitespace().collect();
    let wanted = "`Drop` (the default) drops and counts it, `Exempt` sends it in clear and counts it.";
    assert!(explained.join(" ").contains(wanted), "{explained:?}");
}
