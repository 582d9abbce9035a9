//! Whose keys count: what another node, or an administrator with another node's keys, cannot do.

use std::fs;
use std::time::Duration;

use hauberk_api::NodeTunnel;
use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn another_nodes_keys_are_not_accepted_as_this_nodes_even_when_an_administrator_writes_them() {
    let mut stage = Stage::encrypted(
        LabSpec::three_nodes("kube-trust", Wiring::Routed),
        ManifestSpec::default(),
    );
    let (b1, c1) = (stage.lab.pod("b1").v4(), stage.lab.pod("c1").v4());
    assert_eq!(stage.pings("a1", b1, 3), 3, "before, b is b");

    // b's object with c's keys, c's own and valid binding, and where c is. Nobody puts it right again.
    stage.kill_node("b");
    stage.run(async |client| {
        let tunnels = Api::<NodeTunnel>::all(client);
        let stolen = tunnels.get("c").await.expect("c has a tunnel").spec;
        let wrote = tunnels
            .patch(
                "b",
                &PatchParams::default(),
                &Patch::Merge(json!({"spec": stolen})),
            )
            .await;
        wrote.expect("an administrator may write it");
    });
    stage.wait("a says what is wrong with b's tunnel", PATIENCE, async |_| {
        Ok(stage.state("a")["problems"].to_string().contains("NodeTunnel b"))
    });
    assert_eq!(stage.pings("a1", b1, 3), 0);
    assert!(
        stage.state("a")["dropped"]["PeerKeyMissing"].as_u64() > Some(0),
        "something was sent by c's keys: {}",
        stage.state("a")["dropped"]
    );
    assert_eq!(stage.pings("a1", c1, 3), 3, "c is not touched by it");
    stage.start_node("b");
    stage.wait("b's own keys are back", PATIENCE, async |_| {
        Ok(stage.pings("a1", b1, 1) == 1)
    });
    stage.assert_no_clear();
}

#[test]
fn keys_without_a_binding_are_not_used_and_what_they_are_for_is_dropped() {
    let mut stage = Stage::encrypted(
        LabSpec::three_nodes("kube-unsigned", Wiring::Routed),
        ManifestSpec::default(),
    );
    let b1 = stage.lab.pod("b1").v4();
    assert_eq!(stage.pings("a1", b1, 3), 3);
    // Nobody puts b's object right again.
    stage.kill_node("b");
    stage.run(async |client| {
        let tunnels = Api::<NodeTunnel>::all(client);
        let mut generations = tunnels.get("b").await.expect("b has a tunnel").spec.generations;
        for generation in &mut generations {
            generation.binding = None;
        }
        let patch = json!({"spec": {"generations": generations}});
        let wrote = tunnels
            .patch("b", &PatchParams::default(), &Patch::Merge(patch))
            .await;
        wrote.expect("an administrator may write it");
    });
    stage.wait("a says that nothing vouches for b's keys", PATIENCE, async |_| {
        Ok(stage.state("a")["problems"].to_string().contains("no binding"))
    });
    assert_eq!(stage.pings("a1", b1, 3), 0);
    stage.assert_no_clear();
    assert!(
        stage.state("a")["dropped"]["PeerKeyMissing"].as_u64() > Some(0),
        "{}",
        stage.state("a")["dropped"]
    );
}

#[test]
fn a_node_that_lost_its_disk_does_not_use_an_old_number_for_new_keys() {
    let mut stage = Stage::encrypted(
        LabSpec::three_nodes("kube-disk", Wiring::Routed),
        ManifestSpec::default(),
    );
    stage.kill_node("b");
    let node = stage.lab.node("b");
    fs::remove_dir_all(node.memory_dir()).expect("its disk is lost");
    fs::remove_file(node.state_dir().join("keys")).expect("and its keys");
    stage.start_node("b");
    let b1 = stage.lab.pod("b1").v4();
    stage.wait("traffic is back", PATIENCE, async |_| {
        Ok(stage.pings("a1", b1, 1) == 1)
    });
    let newest = stage.run(async |client| {
        let tunnel = Api::<NodeTunnel>::all(client)
            .get("b")
            .await
            .expect("b has a tunnel");
        tunnel.newest_generation().expect("a generation").id
    });
    assert_eq!(newest, 2);
    stage.assert_no_clear();
}
