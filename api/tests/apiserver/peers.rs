//! The ExternalPeer: what the API server lets pass, what it refuses and in which words, what kubectl shows.

use hauberk_api::ExternalPeer;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{KEY, apply, control_plane, delete, is_refused, is_taken, kubectl, read, try_to_create, with};

fn peer() -> Value {
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "ExternalPeer",
        "metadata": {"name": "tried"},
        "spec": {
            "publicKey": KEY,
            "presharedKeySecretRef": {"namespace": "hauberk-system", "name": "office", "key": "psk"},
            "endpoint": "192.0.2.1:51820",
            "allowedIPs": ["198.51.100.0/24", "2001:db8:5::/48"],
            "persistentKeepalive": 25,
        },
    })
}

#[test]
fn an_external_peer_of_sense_is_taken_and_comes_back_as_the_type_reads_it() {
    let endpoints = [
        "192.0.2.1:1",
        "192.0.2.1:65535",
        "[2001:db8::1]:51820",
        "[2001:DB8:0:0:0:0:0:1]:51820",
    ];
    let changes: Vec<_> = endpoints
        .iter()
        .map(|endpoint| ("/spec/endpoint", json!(endpoint)))
        .chain([
            (
                "/spec",
                json!({"publicKey": KEY, "allowedIPs": ["198.51.100.7/32"]}),
            ),
            ("/spec/persistentKeepalive", json!(1)),
            ("/spec/persistentKeepalive", json!(65535)),
            ("/spec/presharedKeySecretRef/key", json!("tls.key_1")),
        ])
        .collect();
    is_taken::<ExternalPeer>(&peer(), &changes);
    let control_plane = control_plane();
    for endpoint in endpoints {
        let object = with(&peer(), "/spec/endpoint", json!(endpoint));
        let made: ExternalPeer =
            read(&try_to_create::<ExternalPeer>(control_plane.admin(), &object).unwrap());
        assert_eq!(made.spec.endpoint, Some(endpoint.parse().unwrap()));
    }
}

#[test]
fn an_external_peer_of_nonsense_is_refused_and_told_why() {
    let no_key = "is no WireGuard key: it has to be base64 of 32 bytes";
    let no_endpoint =
        "is no ADDRESS:PORT, such as 192.0.2.1:51820 or [2001:db8::1]:51820; host names are not looked up";
    is_refused::<ExternalPeer>(
        &peer(),
        &[
            ("/spec/publicKey", json!("AAAA"), no_key),
            (
                "/spec/publicKey",
                json!(format!("{}=", "A".repeat(43))),
                "all zero",
            ),
            ("/spec/endpoint", json!("vpn.example.org:51820"), no_endpoint),
            ("/spec/endpoint", json!("192.0.2.1"), no_endpoint),
            ("/spec/endpoint", json!("192.0.2.256:51820"), no_endpoint),
            ("/spec/endpoint", json!("2001:db8::1:51820"), no_endpoint),
            ("/spec/endpoint", json!("[192.0.2.1]:51820"), no_endpoint),
            ("/spec/endpoint", json!("[2001:db8::1]"), no_endpoint),
            (
                "/spec/endpoint",
                json!("192.0.2.1:0"),
                "its port has to be between 1 and 65535",
            ),
            (
                "/spec/endpoint",
                json!("[2001:db8::1]:65536"),
                "its port has to be between 1 and 65535",
            ),
            ("/spec/allowedIPs", json!([]), "should have at least 1 items"),
            ("/spec/allowedIPs", json!(["198.51.100.7"]), "is no prefix"),
            (
                "/spec/allowedIPs",
                json!(["198.51.100.7/24"]),
                "has bits set behind its length",
            ),
            (
                "/spec/allowedIPs",
                json!(["0.0.0.0/0"]),
                "is no prefix of unicast addresses",
            ),
            (
                "/spec/persistentKeepalive",
                json!(0),
                "greater than or equal to 1",
            ),
            (
                "/spec/persistentKeepalive",
                json!(65536),
                "less than or equal to 65535",
            ),
            (
                "/spec/presharedKeySecretRef/namespace",
                json!("Hauberk"),
                "is no name of a namespace",
            ),
            (
                "/spec/presharedKeySecretRef/name",
                json!("a/b"),
                "is no name of a Secret",
            ),
            (
                "/spec/presharedKeySecretRef/key",
                json!(""),
                "is no name of a Secret's entry",
            ),
            (
                "/spec/presharedKeySecretRef",
                json!({"name": "office", "key": "psk"}),
                "namespace: Required value",
            ),
        ],
    );
}

#[test]
fn kubectl_shows_where_a_peer_is_and_what_is_behind_it() {
    let control_plane = control_plane();
    let mut object = peer();
    object["metadata"]["name"] = json!("shown");
    apply::<ExternalPeer>(control_plane.admin(), &object).unwrap();
    let (table, _) = kubectl(&control_plane, &["get", "xp", "--no-headers"]);
    let columns: Vec<_> = table.split_whitespace().collect();
    let prefixes = r#"["198.51.100.0/24","2001:db8:5::/48"]"#;
    assert_eq!(columns[..3], ["shown", "192.0.2.1:51820", prefixes]);
    let (all, _) = kubectl(&control_plane, &["get", "hauberk", "-o", "name"]);
    assert!(all.contains("externalpeer.hauberk.dev/shown"), "{all}");
    delete::<ExternalPeer>(control_plane.admin(), "shown", &DeleteParams::default()).unwrap();
}
