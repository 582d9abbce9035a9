//! Requests to the API server with JSON in and out: objects are neither typed nor kept, so that the bench itself
//! costs little beside what it measures.

use kube::{
    Client,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde_json::Value;

use super::error::{ScaleError, api};

/// Paths of what is asked for.
pub const NODES: &str = "/api/v1/nodes";
pub const PODS: &str = "/api/v1/namespaces/scale/pods";
pub const ALL_PODS: &str = "/api/v1/pods";
pub const MESHES: &str = "/apis/hauberk.dev/v1alpha1/meshes";
pub const TUNNELS: &str = "/apis/hauberk.dev/v1alpha1/nodetunnels";
pub const EXTERNAL_PEERS: &str = "/apis/hauberk.dev/v1alpha1/externalpeers";
pub const NAMESPACES: &str = "/api/v1/namespaces";
pub const SYSTEM_CONFIG_MAPS: &str = "/api/v1/namespaces/hauberk-system/configmaps";
pub const SYSTEM_SECRETS: &str = "/api/v1/namespaces/hauberk-system/secrets";

/// keyd's field manager: managed fields are part of an object's size.
const FIELD_MANAGER: &str = "hauberk-keyd";
/// Objects on a page of a list, as clients commonly ask for.
const PAGE: u32 = 500;
/// Why a request can be built: only parameters that contradict each other keep it from that.
const VALID: &str = "the parameters are valid";

/// A client that knows nothing of kinds.
#[derive(Clone)]
pub struct Requests(pub Client);

impl Requests {
    /// Makes an object; returns it as stored.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, ScaleError> {
        let bytes = object.to_string().into_bytes();
        let request = Request::new(path).create(&PostParams::default(), bytes);
        let made = self.0.request(request.expect(VALID)).await;
        made.map_err(api(format!("make {} in {path}", object["metadata"]["name"])))
    }

    /// Writes an object's status.
    pub async fn put_status(&self, path: &str, name: &str, status: &Value) -> Result<Value, ScaleError> {
        let patch = Patch::Merge(status);
        let request = Request::new(path).patch_subresource("status", name, &PatchParams::default(), &patch);
        let written = self.0.request(request.expect(VALID)).await;
        written.map_err(api(format!("write the status of {path}/{name}")))
    }

    /// Applies an object as keyd does.
    pub async fn apply(&self, path: &str, name: &str, object: &Value) -> Result<Value, ScaleError> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let request = Request::new(path).patch(name, &parameters, &Patch::Apply(object));
        let applied = self.0.request(request.expect(VALID)).await;
        applied.map_err(api(format!("apply {path}/{name}")))
    }

    /// Applies an object's status as keyd does.
    pub async fn apply_status(&self, path: &str, name: &str, object: &Value) -> Result<Value, ScaleError> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
        let request = Request::new(path).patch_subresource("status", name, &parameters, &patch);
        let applied = self.0.request(request.expect(VALID)).await;
        applied.map_err(api(format!("apply the status of {path}/{name}")))
    }

    /// Removes an object at once; one that is gone already, as the controller removes what belongs to a gone node, is
    /// as good.
    pub async fn remove(&self, path: &str, name: &str) -> Result<(), ScaleError> {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        let request = Request::new(path).delete(name, &parameters);
        match self.0.request::<Value>(request.expect(VALID)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(api(format!("remove {path}/{name}"))(error)),
        }
    }

    /// An object, if there is one.
    pub async fn find(&self, path: &str, name: &str) -> Result<Option<Value>, ScaleError> {
        let request = Request::new(path).get(name, &GetParams::default());
        match self.0.request(request.expect(VALID)).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(api(format!("read {path}/{name}"))(error)),
        }
    }

    /// All objects, or those with these labels, page by page; each is given to `see` and forgotten.
    pub async fn each(
        &self,
        path: &str,
        labels: Option<&str>,
        mut see: impl FnMut(Value),
    ) -> Result<(), ScaleError> {
        let mut parameters = match labels {
            None => ListParams::default().limit(PAGE),
            // In one piece, which the API server answers from its memory: a page it takes from etcd, and looks
            // through everything for it.
            Some(labels) => ListParams::default().labels(labels),
        };
        loop {
            let request = Request::new(path).list(&parameters);
            let page = self.0.request::<Value>(request.expect(VALID)).await;
            let mut page = page.map_err(api(format!("list {path}")))?;
            if let Value::Array(items) = page["items"].take() {
                items.into_iter().for_each(&mut see);
            }
            match page["metadata"]["continue"].as_str() {
                None | Some("") => return Ok(()),
                Some(next) => parameters = parameters.continue_token(next),
            }
        }
    }

    /// The version of a list as it is now.
    pub async fn version(&self, path: &str) -> Result<String, ScaleError> {
        let request = Request::new(path).list(&ListParams::default().limit(1));
        let page = self.0.request::<Value>(request.expect(VALID)).await;
        let page = page.map_err(api(format!("list {path}")))?;
        let version = page["metadata"]["resourceVersion"].as_str();
        Ok(version.unwrap_or_default().to_owned())
    }
}
