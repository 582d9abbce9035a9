//! Whether a cluster's wiring is one that Hauberk was proved on, by what its objects say.
//!
//! Refused is what forwards packets past the hooks that the guard is attached to, or attaches programs to them that
//! were never tried together with ours: there covered packets might leave in clear and nobody would count them.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::InstallError;
use crate::cluster::request;

const OVS: &str =
    "Open vSwitch forwards packets past the devices' hooks, so that the guard would not see them";
const CILIUM: &str = "its eBPF programs hand packets from device to device past the guard, on netkit devices even \
                      without the hooks, and were not tried together with Hauberk's";
const CALICO: &str = "its eBPF programs stand on the same hooks and hand packets past the guard; Calico's iptables or \
                      nftables data plane is fine";
const IPVLAN: &str = "an ipvlan pod has no device on the host that a guard could be attached to";

/// DaemonSets by which a wiring is known, whatever namespace they are in.
const KNOWN: [(&str, &str, &str); 8] = [
    ("cilium", "Cilium", CILIUM),
    ("antrea-agent", "Antrea", OVS),
    ("ovnkube-node", "OVN-Kubernetes", OVS),
    ("ovnkube-node-dpu-host", "OVN-Kubernetes", OVS),
    ("kube-ovn-cni", "Kube-OVN", OVS),
    ("ovs-ovn", "Kube-OVN", OVS),
    ("ovs", "Open vSwitch", OVS),
    ("openvswitch-switch", "Open vSwitch", OVS),
];

/// What of a cluster tells its wiring.
#[derive(Default)]
struct Signs {
    daemon_sets: Vec<DaemonSet>,
    definitions: Vec<String>,
    felix: Vec<Value>,
    tigera: Vec<Value>,
    /// Terway's, where there is one.
    terway: Option<ConfigMap>,
}

/// Each wiring that was not proved, and why; empty where Hauberk may be installed.
pub async fn look(client: &Client) -> Result<Vec<String>, InstallError> {
    let all = ListParams::default();
    let daemon_sets: Api<DaemonSet> = Api::all(client.clone());
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions = definitions
        .list_metadata(&all)
        .await
        .map_err(request("list definitions"))?;
    let definitions: Vec<_> = definitions.iter().map(ResourceExt::name_any).collect();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let signs = Signs {
        daemon_sets: daemon_sets
            .list(&all)
            .await
            .map_err(request("list DaemonSets"))?
            .items,
        felix: dynamic(
            client,
            &definitions,
            "crd.projectcalico.org",
            "FelixConfiguration",
        )
        .await?,
        tigera: dynamic(client, &definitions, "operator.tigera.io", "Installation").await?,
        terway: maps
            .get_opt("eni-config")
            .await
            .map_err(request("read kube-system/eni-config"))?,
        definitions,
    };
    Ok(signs.refusals())
}

/// Objects of a kind that need not be there; all that are asked for have `v1`.
async fn dynamic(
    client: &Client,
    definitions: &[String],
    group: &str,
    kind: &str,
) -> Result<Vec<Value>, InstallError> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    if !definitions.contains(&format!("{}.{group}", resource.plural)) {
        return Ok(Vec::new());
    }
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let objects = objects.list(&ListParams::default()).await;
    let objects = objects.map_err(request("read the CNI's configuration"))?;
    Ok(objects.items.into_iter().map(|object| object.data).collect())
}

impl Signs {
    fn refusals(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        for (name, wiring, reason) in KNOWN {
            if let Some(set) = self.daemon_sets.iter().find(|set| set.name_any() == name) {
                let place = format!("{}/{name}", set.namespace().unwrap_or_default());
                refusals.push(format!("{wiring} (DaemonSet {place}) was not proved: {reason}"));
            }
        }
        let cilium_nodes = "ciliumnodes.cilium.io";
        if refusals.is_empty() && self.definitions.iter().any(|name| name == cilium_nodes) {
            refusals.push(format!(
                "Cilium (CustomResourceDefinition {cilium_nodes}) was not proved: {CILIUM}; if it is gone, delete \
                 what it left"
            ));
        }
        if let Some(sign) = self.calico_ebpf() {
            refusals.push(format!(
                "Calico's eBPF data plane ({sign}) was not proved: {CALICO}"
            ));
        }
        let terway = self
            .terway
            .iter()
            .flat_map(|map| map.data.iter().flat_map(|data| data.values()));
        if terway.into_iter().any(|text| is_ipvlan(text)) {
            refusals.push(format!(
                "ipvlan (ConfigMap kube-system/eni-config) was not proved: {IPVLAN}"
            ));
        }
        refusals
    }

    fn calico_ebpf(&self) -> Option<&'static str> {
        let felix = self.felix.iter().any(|felix| felix["spec"]["bpfEnabled"] == true);
        let tigera = self
            .tigera
            .iter()
            .any(|installation| installation["spec"]["calicoNetwork"]["linuxDataplane"] == "BPF");
        match (felix, tigera, self.has_felix_variable()) {
            (true, ..) => Some("bpfEnabled of a FelixConfiguration"),
            (_, true, _) => Some("linuxDataplane of the Installation"),
            (.., true) => Some("FELIX_BPFENABLED of DaemonSet calico-node"),
            _ => None,
        }
    }

    fn has_felix_variable(&self) -> bool {
        let sets = self
            .daemon_sets
            .iter()
            .filter(|set| set.name_any() == "calico-node");
        let containers = sets
            .filter_map(|set| set.spec.as_ref()?.template.spec.as_ref())
            .flat_map(|spec| &spec.containers);
        containers
            .flat_map(|container| container.env.iter().flatten())
            .any(|variable| {
                let value = variable.value.as_deref().unwrap_or_default();
                variable.name == "FELIX_BPFENABLED"
                    && ["true", "1", "yes"].contains(&value.to_lowercase().as_str())
            })
    }
}

fn is_ipvlan(text: &str) -> bool {
    let config: Value = serde_json::from_str(text).unwrap_or_default();
    let kind = config["eniip_virtual_type"].as_str().unwrap_or_default();
    kind.eq_ignore_ascii_case("ipvlan")
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn set(namespace: &str, name: &str, env: Value) -> DaemonSet {
        from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "env": env}]}}},
        }))
        .expect("a DaemonSet")
    }

    fn only(signs: &Signs, words: &str) {
        let refusals = signs.refusals();
        assert!(refusals.len() == 1 && refusals[0].contains(words), "{refusals:?}");
    }

    #[test]
    fn what_was_proved_is_let_in() {
        let signs = Signs {
            daemon_sets: vec![
                set(
                    "kube-system",
                    "calico-node",
                    json!([{"name": "FELIX_BPFENABLED", "value": "false"}]),
                ),
                set("kube-flannel", "kube-flannel-ds", json!([])),
                set("kube-system", "aws-node", json!([])),
                set("kube-system", "kube-proxy", json!([])),
            ],
            definitions: vec!["felixconfigurations.crd.projectcalico.org".into()],
            felix: vec![json!({"spec": {"bpfEnabled": false}}), json!({})],
            tigera: vec![json!({"spec": {"calicoNetwork": {"linuxDataplane": "Iptables"}}})],
            terway: None,
        };
        assert_eq!(signs.refusals(), Vec::<String>::new());
    }

    #[test]
    fn each_wiring_that_was_not_proved_is_refused_with_its_sign_and_the_reason() {
        let of_sets = |daemon_sets| Signs {
            daemon_sets,
            ..Signs::default()
        };
        only(
            &of_sets(vec![set("kube-system", "cilium", json!([]))]),
            "Cilium (DaemonSet kube-system/cilium)",
        );
        only(
            &of_sets(vec![set("kube-system", "antrea-agent", json!([]))]),
            "Open vSwitch",
        );
        let definitions = vec!["ciliumnodes.cilium.io".to_owned()];
        only(
            &Signs {
                definitions,
                ..Signs::default()
            },
            "delete what it left",
        );
        let felix = vec![json!({"spec": {"bpfEnabled": true}})];
        only(
            &Signs {
                felix,
                ..Signs::default()
            },
            "bpfEnabled",
        );
        let tigera = vec![json!({"spec": {"calicoNetwork": {"linuxDataplane": "BPF"}}})];
        only(
            &Signs {
                tigera,
                ..Signs::default()
            },
            "linuxDataplane",
        );
        let variable = json!([{"name": "FELIX_BPFENABLED", "value": "true"}]);
        only(
            &of_sets(vec![set("kube-system", "calico-node", variable)]),
            "FELIX_BPFENABLED",
        );
        let terway = json!({"data": {"eni_conf": r#"{"eniip_virtual_type": "IPVlan"}"#}});
        let terway = from_value(terway).expect("a ConfigMap");
        only(
            &Signs {
                terway,
                ..Signs::default()
            },
            "ipvlan",
        );
    }
}
