//! Least privilege, proved from the API server's audit log: nothing used that is not granted, nothing granted that
//! goes unused, nothing refused.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use hauberk_api::NodeTunnel;
use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::stage::{SYSTEM, Stage};

const PATIENCE: Duration = Duration::from_secs(30);
const ACCOUNTS: [&str; 2] = ["hauberk-keyd", "hauberk-controller"];

/// One verb on one resource, for one ServiceAccount. Empty namespace: all of them. Empty name: any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    account: String,
    namespace: String,
    group: String,
    resource: String,
    verb: String,
    name: String,
}

impl Grant {
    fn covers(&self, used: &Self) -> bool {
        let open = |granted: &str, used: &str| granted.is_empty() || granted == used;
        self.account == used.account
            && self.group == used.group
            && self.resource == used.resource
            && self.verb == used.verb
            && open(&self.namespace, &used.namespace)
            && open(&self.name, &used.name)
    }
}

#[test]
fn nothing_is_used_that_is_not_granted_and_nothing_granted_goes_unused() {
    let mut stage = Stage::bare(
        LabSpec::three_nodes("kube-rights", Wiring::Routed),
        ManifestSpec::default(),
    );
    let before = audit_log(&stage).len();
    live_through_everything(&mut stage);
    let log = audit_log(&stage).split_off(before);
    let granted = stage.run(async |client| granted(&client).await);

    let mut used = BTreeSet::new();
    let mut refused = Vec::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).expect("the audit log is lines of JSON");
        let Some(account) = account(&event) else { continue };
        if event["responseStatus"]["code"] == 403 {
            refused.push(line.to_owned());
        }
        used.extend(used_by(account, &event));
    }
    assert!(refused.is_empty(), "refused: {refused:#?}");
    assert!(used.len() > 20, "the log shows what was done: {used:#?}");
    let beyond: Vec<_> = used
        .iter()
        .filter(|used| !granted.iter().any(|grant| grant.covers(used)))
        .collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:#?}");
    // Whoever writes an approval or a certificate is asked for these by admission, not by a request.
    let unused: Vec<_> = granted
        .iter()
        .filter(|grant| grant.resource != "signers" && !used.iter().any(|used| grant.covers(used)))
        .collect();
    assert!(unused.is_empty(), "granted and not used: {unused:#?}");
}

/// Everything that keyd ever asks the API server for.
fn live_through_everything(stage: &mut Stage) {
    stage.start_controller("controller-1");
    for name in stage.members() {
        stage.start_node(&name);
    }
    stage.wait_conditions("every node is ready", "Ready", "True");
    // The second time the same is said, its Event is counted up.
    for _ in 0..2 {
        stage.encrypt();
        stage.set_encryption(false);
        stage.wait_phase("Off");
    }
    stage.run(async |client| {
        let nodes = Api::<Node>::all(client);
        let taints = json!([{"key": "hauberk.dev/agent-not-ready", "effect": "NoSchedule"}]);
        let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
        nodes
            .patch("a", &PatchParams::default(), &patch)
            .await
            .expect("tainted");
    });
    stage.wait("the startup taint is gone", PATIENCE, async |client| {
        let node = Api::<Node>::all(client).get("a").await?;
        Ok(node
            .spec
            .and_then(|spec| spec.taints)
            .is_none_or(|taints| taints.is_empty()))
    });
    stage.kill_node("c");
    stage.run(async |client| {
        let gone = Api::<Node>::all(client)
            .delete("c", &DeleteParams::default())
            .await;
        gone.expect("the node is deleted");
    });
    stage.wait("c's tunnel is gone", PATIENCE, async |client| {
        Ok(Api::<NodeTunnel>::all(client).get_opt("c").await?.is_none())
    });
    // A new authority is added to the trust bundle.
    stage.kill_controller("controller-1");
    stage.run(async |client| {
        let secrets = Api::<Secret>::namespaced(client, SYSTEM);
        let gone = secrets.delete("hauberk-ca", &DeleteParams::default()).await;
        gone.expect("the authority is deleted");
    });
    stage.start_controller("controller-1");
    stage.wait("both authorities are trusted", PATIENCE, async |client| {
        let bundle = Api::<ConfigMap>::namespaced(client, SYSTEM)
            .get("hauberk-trust-bundle")
            .await?;
        let pem = bundle
            .data
            .unwrap_or_default()
            .remove("trust-bundle.pem")
            .unwrap_or_default();
        Ok(pem.matches("BEGIN CERTIFICATE").count() == 2)
    });
}

fn audit_log(stage: &Stage) -> String {
    // Written a moment after the answer.
    std::thread::sleep(Duration::from_millis(500));
    fs::read_to_string(stage.cluster.audit_log()).expect("the audit log is there")
}

fn account(event: &Value) -> Option<&str> {
    let user = event["user"]["username"].as_str()?;
    let name = user.strip_prefix(&format!("system:serviceaccount:{SYSTEM}:"))?;
    ACCOUNTS.contains(&name).then_some(name)
}

/// What a request needed.
fn used_by(account: &str, event: &Value) -> Vec<Grant> {
    let object = &event["objectRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
        None => text(&object["resource"]),
    };
    let used = Grant {
        account: account.to_owned(),
        namespace: text(&object["namespace"]),
        group: text(&object["apiGroup"]),
        resource,
        verb: text(&event["verb"]),
        name: text(&object["name"]),
    };
    // An apply that makes its object needs both.
    let made = used.verb == "patch" && event["responseStatus"]["code"] == 201;
    let create = made.then(|| Grant {
        verb: "create".to_owned(),
        ..used.clone()
    });
    // What is made has its name in the body, which nobody can be limited to.
    let anonymous = |grant: Grant| match grant.verb.as_str() {
        "create" => Grant {
            name: String::new(),
            ..grant
        },
        _ => grant,
    };
    [Some(used), create]
        .into_iter()
        .flatten()
        .map(anonymous)
        .collect()
}

/// What the two ServiceAccounts' roles say; each role has the name of its account, or begins with it.
async fn granted(client: &Client) -> BTreeSet<Grant> {
    let all = ListParams::default();
    let cluster = Api::<ClusterRole>::all(client.clone())
        .list(&all)
        .await
        .expect("listed");
    let own = Api::<Role>::all(client.clone()).list(&all).await.expect("listed");
    let cluster = cluster
        .items
        .into_iter()
        .map(|role| (role.name_any(), String::new(), role.rules));
    let own = own.items.into_iter().map(|role| {
        let namespace = role.namespace().unwrap_or_default();
        (role.name_any(), namespace, role.rules)
    });
    let mut grants = BTreeSet::new();
    for (role, namespace, rules) in cluster.chain(own) {
        for account in ACCOUNTS.iter().filter(|account| role.starts_with(**account)) {
            for rule in rules.iter().flatten() {
                grants.extend(of_rule(account, &namespace, rule));
            }
        }
    }
    grants
}

fn of_rule(account: &str, namespace: &str, rule: &PolicyRule) -> Vec<Grant> {
    let any = vec![String::new()];
    let names = rule
        .resource_names
        .as_ref()
        .filter(|names| !names.is_empty())
        .unwrap_or(&any);
    let mut grants = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                for name in names {
                    grants.push(Grant {
                        account: account.to_owned(),
                        namespace: namespace.to_owned(),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    });
                }
            }
        }
    }
    grants
}
