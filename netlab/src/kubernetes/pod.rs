//! Pods as objects, and tokens that are bound to them: how a daemon under test gets the identity that it
//! has in a cluster. No process belongs to them; the test starts the daemon itself.

use std::fmt::Debug;

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, Node, Pod, ServiceAccount},
};
use kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{ControlPlane, Identity, KubernetesError, error::api};

/// The least that the API server issues is 10 minutes.
const TOKEN_SECONDS: i64 = 3600;

/// A pod that is on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedPod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its ServiceAccount.
    pub service_account: &'a str,
    /// Its node.
    pub node: &'a str,
}

impl ControlPlane {
    /// Makes the pod, and of its namespace, ServiceAccount and node what is not there yet; the node is
    /// bare.
    ///
    /// # Errors
    /// The API server refuses; that the pod is there already is no error.
    pub fn place(&self, pod: PlacedPod<'_>) -> Result<(), KubernetesError> {
        self.run(async |client| {
            let named = |name: &str| json!({"metadata": {"name": name}});
            make::<Namespace>(Api::all(client.clone()), named(pod.namespace)).await?;
            make::<Node>(Api::all(client.clone()), named(pod.node)).await?;
            make::<ServiceAccount>(namespaced(&client, pod), named(pod.service_account)).await?;
            let object = json!({
                "metadata": {"name": pod.name},
                "spec": {
                    "serviceAccountName": pod.service_account,
                    "nodeName": pod.node,
                    "hostNetwork": true,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "daemon", "image": "daemon"}],
                },
            });
            make::<Pod>(namespaced(&client, pod), object).await
        })?
    }

    /// A token of the pod's ServiceAccount, bound to the pod, as a kubelet asks for it: valid for an hour
    /// and as long as the pod is there, and it names the pod's node.
    ///
    /// # Errors
    /// There is no such pod, or no such ServiceAccount.
    pub fn pod_token(&self, namespace: &str, pod: &str) -> Result<String, KubernetesError> {
        self.run(async |client| token(client, namespace, pod).await)?
    }

    /// The pod as a client of the API server, with a new token. Its files are called `NAMESPACE-POD`.
    ///
    /// # Errors
    /// As [`ControlPlane::pod_token`]; a file cannot be written.
    pub fn pod(&self, namespace: &str, pod: &str) -> Result<Identity, KubernetesError> {
        let token = self.pod_token(namespace, pod)?;
        self.bearer(&format!("{namespace}-{pod}"), &token)
    }
}

async fn token(client: Client, namespace: &str, name: &str) -> Result<String, KubernetesError> {
    let failed = || api(format!("get a token for pod {namespace}/{name}"));
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).get(name).await;
    let pod = pod.map_err(failed())?;
    let spec = pod.spec.unwrap_or_default();
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            // None means the API server's own.
            audiences: Vec::new(),
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(name.into()),
                uid: pod.metadata.uid,
            }),
        },
        ..TokenRequest::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(client, namespace);
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await;
    let status = answer.map_err(failed())?.status;
    Ok(status.expect("the answer to a TokenRequest has a status").token)
}

fn namespaced<K>(client: &Client, pod: PlacedPod<'_>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), pod.namespace)
}

/// Makes an object, unless there is one of its name.
async fn make<K>(objects: Api<K>, object: Value) -> Result<(), KubernetesError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let what = format!("make {} {}", K::kind(&()), object["metadata"]["name"]);
    let object = serde_json::from_value(object).expect("the object is of its kind");
    match objects.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(e) => Err(api(what)(e)),
    }
}
