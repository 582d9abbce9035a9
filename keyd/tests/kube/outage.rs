//! An API server, a controller or a node that goes away: traffic flows on, and what comes back is taken up.

use std::time::Duration;

use hauberk_api::NodeTunnel;
use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::conversation::Conversation;
use crate::stage::{SYSTEM, Stage};

const PATIENCE: Duration = Duration::from_secs(60);
/// The API server is away so long.
const OUTAGE: Duration = Duration::from_secs(8);

#[test]
fn while_the_api_server_is_away_traffic_flows_on_and_a_killed_keyd_stays_closed_until_it_is_back() {
    let mut stage = Stage::encrypted(
        LabSpec::three_nodes("kube-away", Wiring::Routed),
        ManifestSpec::default(),
    );
    let talk = Conversation::start(&stage.lab, "a1", "b1", stage.lab.pod("b1").v4().into());
    let c1 = stage.lab.pod("c1").v4();
    assert_eq!(stage.pings("a1", c1, 2), 2);

    stage.cluster.kill_api_server().expect("the API server is killed");
    stage.kill_node("c");
    stage.start_node_again("c");
    std::thread::sleep(OUTAGE);
    talk.goes_on(Duration::from_secs(1));
    assert!(
        talk.longest_wait() < Duration::from_secs(1),
        "an API server that is away holds no connection up"
    );
    // c has read nothing yet; what it pinned before stays in force.
    assert_eq!(stage.pings("c1", stage.lab.pod("a1").v4(), 2), 0);
    stage.assert_no_clear();
    assert!(
        stage.state("a")["problems"]
            .to_string()
            .contains("SourceUnreachable"),
        "a says so"
    );

    stage
        .cluster
        .start_api_server()
        .expect("the API server comes back");
    stage.wait("c is back", PATIENCE, async |_| Ok(stage.pings("a1", c1, 1) == 1));
    stage.wait("a watches again", PATIENCE, async |_| {
        Ok(!stage.state("a")["problems"]
            .to_string()
            .contains("SourceUnreachable"))
    });
    stage.assert_no_clear();
    talk.goes_on(Duration::from_secs(1));
}

#[test]
fn of_two_controllers_the_other_takes_over_when_the_leader_dies() {
    let mut stage = Stage::clear(
        LabSpec::three_nodes("kube-leader", Wiring::Routed),
        ManifestSpec::default(),
    );
    stage.start_controller("controller-2");
    stage.kill_controller("controller-1");
    stage.wait("controller-2 leads", PATIENCE, async |client| {
        let lease = Api::<Lease>::namespaced(client, SYSTEM)
            .get("hauberk-controller")
            .await?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity).as_deref() == Some("controller-2"))
    });
    stage.encrypt();
    assert_eq!(stage.pings("a1", stage.lab.pod("b1").v4(), 2), 2);
    stage.assert_no_clear();
}

#[test]
fn a_deleted_node_takes_its_tunnel_along_and_a_new_node_loses_its_taint_once_it_is_ready() {
    let mut stage = Stage::clear(
        LabSpec::three_nodes("kube-nodes", Wiring::Routed),
        ManifestSpec::default(),
    );
    stage.run(async |client| {
        let nodes = Api::<Node>::all(client);
        let taint = json!({"spec": {"taints": [
            {"key": "hauberk.dev/agent-not-ready", "effect": "NoSchedule"},
            {"key": "dedicated", "value": "db", "effect": "NoSchedule"},
        ]}});
        let tainted = nodes
            .patch("a", &PatchParams::default(), &Patch::Merge(taint))
            .await;
        tainted.expect("the node is tainted");
    });
    stage.wait("only the startup taint is gone", PATIENCE, async |client| {
        let node = Api::<Node>::all(client).get("a").await?;
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        Ok(taints.iter().map(|taint| taint.key.as_str()).eq(["dedicated"]))
    });

    stage.kill_node("c");
    stage.run(async |client| {
        let nodes = Api::<Node>::all(client);
        nodes
            .delete("c", &DeleteParams::default())
            .await
            .expect("the node is deleted");
    });
    stage.wait("c's tunnel is gone", PATIENCE, async |client| {
        Ok(Api::<NodeTunnel>::all(client).get_opt("c").await?.is_none())
    });
}
