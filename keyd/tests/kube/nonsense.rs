//! Objects that pass their schema and still make no sense: conditions and Events, and everything else goes on.

use std::time::Duration;

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::stage::{PODS, Stage};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn nonsense_ends_as_conditions_and_events_and_nothing_is_let_through_for_it() {
    let stage = Stage::encrypted(
        LabSpec::three_nodes("kube-nonsense", Wiring::Routed),
        ManifestSpec::default(),
    );
    let (a1, b1) = (stage.lab.pod("a1").v4(), stage.lab.pod("b1").v4());
    stage.run(async |client| {
        // A Node without addresses and prefixes, which can be no peer.
        let nodes = Api::<Node>::all(client.clone());
        let bare = serde_json::from_value(json!({"metadata": {"name": "bare"}})).expect("a Node");
        nodes
            .create(&PostParams::default(), &bare)
            .await
            .expect("created");
        // a2 says that it has a1's address, and b2 that it has one of a's.
        let pods = Api::<Pod>::namespaced(client, PODS);
        for (pod, address) in [("a2", a1.to_string()), ("b2", "10.77.1.77".to_owned())] {
            let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
            let parameters = PatchParams::default();
            let patched = pods.patch_status(pod, &parameters, &Patch::Merge(status)).await;
            patched.expect("the API server takes it");
        }
    });
    let degraded = "every node says which addresses are not used";
    stage.wait(degraded, PATIENCE, async |_| {
        let says = |node: &String| {
            let problems = stage.degraded(node);
            problems.contains(&a1.to_string()) && problems.contains("10.77.1.77")
        };
        Ok(stage.members().iter().all(says))
    });
    stage.wait("an Event tells people", PATIENCE, async |client| {
        let events = Api::<Event>::namespaced(client, "default")
            .list(&ListParams::default())
            .await?;
        let of_tunnel = |event: &Event| {
            let regarding = event
                .regarding
                .as_ref()
                .and_then(|regarding| regarding.kind.as_deref());
            let note = event.note.as_deref().unwrap_or_default();
            regarding == Some("NodeTunnel") && note.starts_with("Degraded is True")
        };
        Ok(events.items.iter().any(of_tunnel))
    });
    // The older claim counts, and nobody is cut off by somebody else's nonsense.
    assert_eq!(stage.pings("b1", a1, 2), 2);
    assert_eq!(stage.pings("a1", b1, 2), 2);
    stage.assert_no_clear();
}
