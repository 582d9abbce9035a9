//! The NodeTunnel: what the API server lets pass, what it refuses and in which words, how large it is, what kubectl
//! shows.

use hauberk_api::NodeTunnel;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    KEY,
    admission::{owned_tunnel, tunnel_status},
    apply, apply_status, control_plane, delete, is_refused, is_taken, keyd, kubectl, refused, stored, with,
};

const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn tunnel() -> Value {
    json!({
        "apiVersion": "hauberk.dev/v1alpha1",
        "kind": "NodeTunnel",
        "metadata": {"name": "tried"},
        "spec": {
            "generations": [
                {"id": 4, "lanes": [{"publicKey": KEY, "port": 23400}, {"publicKey": OTHER_KEY, "port": 23401}]},
                {"id": 5, "lanes": [{"publicKey": KEY, "port": 23404}], "binding": "AQ=="},
            ],
            "addresses": ["192.168.77.1", "fd77::1"],
        },
    })
}

#[test]
fn a_node_tunnel_of_sense_is_taken() {
    let lane = |number: u16| json!({"publicKey": key(number), "port": number});
    let lanes: Vec<_> = (1..=64).map(lane).collect();
    is_taken::<NodeTunnel>(
        &tunnel(),
        &[
            ("/spec", json!({})),
            ("/spec/generations", json!([])),
            ("/spec/generations/1/lanes", json!(lanes)),
            ("/spec/generations/1/id", json!((1_u64 << 53) - 1)),
            ("/spec/addresses", json!([])),
        ],
    );
}

#[test]
fn a_node_tunnel_of_nonsense_is_refused_and_told_why() {
    let no_key = "is no WireGuard key: it has to be base64 of 32 bytes";
    let lane = json!({"publicKey": KEY, "port": 1});
    let generation = |id: u64| json!({"id": id, "lanes": [lane]});
    let lane_key = "/spec/generations/0/lanes/0/publicKey";
    let lane_port = "/spec/generations/0/lanes/0/port";
    is_refused::<NodeTunnel>(
        &tunnel(),
        &[
            (
                "/spec/generations",
                json!([generation(1), generation(2), generation(3)]),
                "must have at most 2 items",
            ),
            (
                "/spec/generations",
                json!([generation(2), generation(1)]),
                "generations stand oldest first",
            ),
            (
                "/spec/generations",
                json!([generation(2), generation(2)]),
                "each with a higher id",
            ),
            ("/spec/generations/0/id", json!(0), "greater than or equal to 1"),
            (
                "/spec/generations/1/id",
                json!(1_u64 << 54),
                "less than or equal to",
            ),
            (
                "/spec/generations/0/lanes",
                json!([]),
                "should have at least 1 items",
            ),
            (
                "/spec/generations/0/lanes",
                json!(vec![lane.clone(); 65]),
                "must have at most 64 items",
            ),
            (lane_port, json!(23401), "each lane has a port of its own"),
            (lane_port, json!(0), "greater than or equal to 1"),
            (lane_port, json!(65536), "less than or equal to 65535"),
            (lane_key, json!(OTHER_KEY), "each lane has a key of its own"),
            (lane_key, json!("no key"), no_key),
            (lane_key, json!(KEY.trim_end_matches('=')), no_key),
            (lane_key, json!("c5320103".repeat(8)), no_key),
            (
                lane_key,
                json!("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh="),
                no_key,
            ),
            (
                lane_key,
                json!(format!("{}=", "A".repeat(43))),
                "is no WireGuard key: all zero",
            ),
            (
                "/spec/generations/0/binding",
                json!(""),
                "should be at least 1 chars long",
            ),
            (
                "/spec/generations/0/binding",
                json!("A".repeat(2561)),
                "may not be more than 2560",
            ),
            (
                "/spec/addresses",
                json!(["node-a"]),
                "is no IP address, such as 192.0.2.1 or 2001:db8::1",
            ),
            ("/spec/addresses", json!(["10.0.0.1/8"]), "is no IP address"),
            ("/spec/addresses", json!(["127.0.0.1"]), "no peer can reach it"),
            ("/spec/addresses", json!(["fe80::1"]), "no peer can reach it"),
            ("/spec/addresses", json!(["::"]), "no peer can reach it"),
            (
                "/spec/addresses",
                json!(vec!["192.0.2.1"; 17]),
                "must have at most 16 items",
            ),
        ],
    );
}

#[test]
fn the_newest_generation_may_not_go_down() {
    let control_plane = control_plane();
    let admin = control_plane.admin();
    let mut object = tunnel();
    object["metadata"]["name"] = json!("monotonic");
    let generation = |id: u64| json!({"id": id, "lanes": [{"publicKey": KEY, "port": 1}]});
    let at = |ids: &[u64]| {
        let generations: Vec<_> = ids.iter().map(|id| generation(*id)).collect();
        with(&object, "/spec/generations", json!(generations))
    };
    for ids in [&[7, 8][..], &[8], &[8, 9], &[9], &[], &[9]] {
        apply::<NodeTunnel>(admin, &at(ids)).unwrap_or_else(|status| panic!("{ids:?}: {status:?}"));
    }
    let words = "the newest generation's id may not go down: peers refuse keys older than they have seen";
    for ids in [&[8][..], &[7, 8]] {
        refused(&apply::<NodeTunnel>(admin, &at(ids)), 422, words);
    }
    delete::<NodeTunnel>(admin, "monotonic", &DeleteParams::default()).unwrap();
}

#[test]
fn kubectl_shows_how_a_tunnel_is() {
    let control_plane = control_plane();
    let keyd = keyd(&control_plane, "shown");
    let mut object = owned_tunnel(&control_plane, "shown");
    object["spec"] = tunnel()["spec"].clone();
    apply::<NodeTunnel>(&keyd, &object).unwrap();
    apply_status::<NodeTunnel>(&keyd, &tunnel_status("shown", "PairsLag")).unwrap();
    let (table, _) = kubectl(&control_plane, &["get", "nt", "shown", "--no-headers"]);
    let columns: Vec<_> = table.split_whitespace().collect();
    assert_eq!(columns[..5], ["shown", "True", "False", "PairsLag", "5"]);
}

/// What every node keeps in memory of every other, and etcd of each.
#[test]
fn a_tunnel_of_two_generations_of_64_lanes_is_under_16_kib_with_its_managed_fields() {
    let control_plane = control_plane();
    let keyd = keyd(&control_plane, "large");
    let lanes = |from: u16| -> Vec<_> {
        (from..from + 64)
            .map(|port| json!({"publicKey": key(port), "port": port}))
            .collect()
    };
    let mut object = owned_tunnel(&control_plane, "large");
    object["spec"] = json!({
        "generations": [
            {"id": 1_000_001, "lanes": lanes(23400), "binding": "A".repeat(2560)},
            {"id": 1_000_002, "lanes": lanes(23464), "binding": "A".repeat(2560)},
        ],
        "addresses": ["192.168.77.101", "fd77:aaaa:bbbb:cccc:dddd:eeee:ffff:101"],
    });
    apply::<NodeTunnel>(&keyd, &object).unwrap();
    apply_status::<NodeTunnel>(&keyd, &tunnel_status("large", "AllPairsStrict")).unwrap();
    let size = stored::<NodeTunnel>(control_plane.admin(), "large")
        .unwrap()
        .to_string()
        .len();
    eprintln!("two generations of 64 lanes: {size} bytes");
    assert!(size < 16 << 10, "{size} bytes");
}

/// Some key, another one for each number.
fn key(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    let mut bytes = [7; 32];
    (bytes[0], bytes[1]) = (high, low);
    hauberk_api::PublicKey::from_bytes(bytes).to_string()
}
