//! Answers the nodes' CertificateSigningRequests: checks all that would be signed, approves, signs.
//!
//! The claims of who asks are the API server's: the requester cannot write them. A request that does not agree in
//! every point is denied with the reason. What fails for another cause is tried again and denies nobody.

use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use hauberk_certs::request::{self, Applicant, Expected};
use hauberk_certs::{NodeIdentity, UnixTime};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::authority::Authority;
use crate::source::kube::told;

/// keyd's ServiceAccount on nodes.
const SERVICE_ACCOUNT: &str = "hauberk-keyd";
/// A request that could not be answered is looked at again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// So many are answered side by side.
const AT_ONCE: usize = 8;
/// So often at most; then only with the next list.
const ATTEMPTS: u32 = 5;

/// Answers requests until the watch ends.
pub(super) async fn run(client: &Client, namespace: &str, authority: &Authority) -> anyhow::Result<()> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let ours = watcher::Config::default().fields(&format!("spec.signerName={}", request::SIGNER));
    let signer = Signer {
        nodes: Api::all(client.clone()),
        requests: requests.clone(),
        namespace,
        authority,
    };
    let seen = watcher(requests, ours).default_backoff().applied_objects();
    seen.for_each_concurrent(AT_ONCE, async |seen| match seen {
        Ok(request) => signer.answer(&request).await,
        Err(error) => tracing::warn!(%error, "cannot watch CertificateSigningRequests; tried again"),
    })
    .await;
    anyhow::bail!("the watch of CertificateSigningRequests has ended")
}

struct Signer<'a> {
    nodes: Api<Node>,
    requests: Api<CertificateSigningRequest>,
    namespace: &'a str,
    authority: &'a Authority,
}

impl Signer<'_> {
    async fn answer(&self, request: &CertificateSigningRequest) {
        if is_answered(request) {
            return;
        }
        let name = request.name_any();
        for _ in 0..ATTEMPTS {
            match self.try_answer(&name, request).await {
                Ok(()) => return,
                // It has changed since, and the watch shows how.
                Err(error) if is_conflict(&error) => return,
                Err(error) => {
                    tracing::warn!(request = name, error = told(&error), "not answered; tried again")
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_answer(&self, name: &str, request: &CertificateSigningRequest) -> anyhow::Result<()> {
        let version = request.metadata.resource_version.as_deref();
        let certificate = match self.judge(request).await? {
            Ok(certificate) => certificate,
            Err(refusal) => {
                tracing::warn!(request = name, user = request.spec.username, refusal, "denied");
                self.decide(name, version, ["Denied", "NotThisNode", &refusal])
                    .await?;
                return Ok(());
            }
        };
        let approval = [
            "Approved",
            "NodeIdentityChecked",
            "the token is bound to this node",
        ];
        let version = self.decide(name, version, approval).await?;
        let patch = json!({
            "metadata": { "resourceVersion": version },
            "status": { "certificate": ByteString(certificate.into_bytes()) },
        });
        self.requests
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("cannot write the certificate")?;
        tracing::info!(request = name, "signed");
        Ok(())
    }

    /// The certificate, or why there is none.
    async fn judge(&self, request: &CertificateSigningRequest) -> anyhow::Result<Result<String, String>> {
        let spec = &request.spec;
        let extra = spec.extra.clone().unwrap_or_default();
        let applicant = Applicant {
            signer: &spec.signer_name,
            username: spec.username.as_deref().unwrap_or_default(),
            extra: &extra,
            usages: spec.usages.as_deref().unwrap_or_default(),
            expiration_seconds: spec.expiration_seconds,
        };
        let node = match applicant.node_name() {
            Ok(name) => name,
            Err(refusal) => return Ok(Err(refusal.to_string())),
        };
        let Some(live) = self.nodes.get_opt(node).await.context("cannot read the Node")? else {
            return Ok(Err(format!("there is no Node {node}")));
        };
        let trust_domain = self.authority.ca.trust_domain().clone();
        let node = NodeIdentity::new(
            trust_domain,
            node,
            live.metadata.uid.as_deref().unwrap_or_default(),
        )?;
        let expected = Expected {
            namespace: self.namespace,
            service_account: SERVICE_ACCOUNT,
            node: &node,
        };
        let pem = String::from_utf8_lossy(&spec.request.0);
        let approved = match request::check(&pem, &applicant, &expected) {
            Ok(approved) => approved,
            Err(refusal) => return Ok(Err(refusal.to_string())),
        };
        Ok(Ok(self.authority.ca.sign(&approved, UnixTime::now())?))
    }

    /// Writes a condition (type, reason, message) to the request as it was at `version`; its version after that.
    async fn decide(
        &self,
        name: &str,
        version: Option<&str>,
        [kind, reason, message]: [&str; 3],
    ) -> anyhow::Result<Option<String>> {
        let condition = json!({ "type": kind, "status": "True", "reason": reason, "message": message });
        let patch = json!({
            "metadata": { "resourceVersion": version },
            "status": { "conditions": [condition] },
        });
        let decided = self
            .requests
            .patch_approval(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("cannot write the condition {kind}"))?;
        Ok(decided.metadata.resource_version)
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 409)
}

fn is_answered(request: &CertificateSigningRequest) -> bool {
    let Some(status) = &request.status else {
        return false;
    };
    let refused = |kind: &str| kind == "Denied" || kind == "Failed";
    let mut conditions = status.conditions.iter().flatten();
    status.certificate.is_some() || conditions.any(|condition| refused(&condition.type_))
}
