//! This node's key and certificate: kept in the state directory, asked for by a CertificateSigningRequest.
//!
//! Stages: 1. wait until the node's UID and the trust bundle are known, 2. give the certificate that an earlier process
//! left to those who sign, if peers would believe it, 3. where there is none, or it is due, make a key, ask, and wait
//! for the controller's answer, 4. give that one, 5. sleep until it is time to renew. The key stays on this node and is
//! never printed.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use hauberk_certs::{Credential, NodeIdentity, NodeKey, UnixTime, request};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::told;
use super::trust::Anchors;
use crate::durable;
use crate::source::Update;

/// Files in the state directory.
const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.crt";
/// A request that has no answer after this long is complained of.
const PATIENCE: Duration = Duration::from_secs(120);
/// After this long another one is made; Kubernetes keeps them for a day.
const LONG_PATIENCE: Duration = Duration::from_secs(12 * 3600);
/// Between two looks at a request; they grow up to the second.
const LOOK: Duration = Duration::from_millis(250);
const SLOW_LOOK: Duration = Duration::from_secs(30);

/// What a certificate is asked for by.
pub(super) struct Inputs {
    pub(super) node: String,
    pub(super) state_dir: PathBuf,
    pub(super) updates: watch::Receiver<Update>,
    pub(super) anchors: watch::Receiver<Option<Anchors>>,
}

/// What a node signs with.
pub(super) struct Signer {
    pub(super) credential: Credential,
    pub(super) cluster: String,
}

/// Keeps a certificate that peers believe, until nobody wants it any more.
pub(super) async fn run(
    client: Client,
    mut inputs: Inputs,
    credentials: watch::Sender<Option<Arc<Signer>>>,
    trouble: watch::Sender<Option<String>>,
) {
    let requests: Api<CertificateSigningRequest> = Api::all(client);
    let mut backoff = DefaultBackoff::default();
    // As whom, and for whom, this node signs now.
    let mut signing = None;
    loop {
        let Some(known) = inputs.known() else {
            if !inputs.changed().await {
                return;
            }
            continue;
        };
        let (identity, anchors) = &known;
        let signs = |credential| {
            let cluster = anchors.cluster.clone();
            credentials.send_replace(Some(Arc::new(Signer { credential, cluster })));
        };
        let lacks = |error: anyhow::Error| {
            let error = format!("no new certificate for this node; asked again: {}", told(&error));
            if trouble.send_if_modified(|known| known.replace(error.clone()).is_none()) {
                tracing::warn!(
                    error,
                    "peers accept this node's keys only while it has a certificate"
                );
            }
        };
        let stored = resume(&inputs.state_dir, identity, anchors).unwrap_or_else(|error| {
            tracing::info!(
                error = format!("{error:#}"),
                "the stored certificate is of no use"
            );
            None
        });
        let mut renewal = Duration::ZERO;
        // One that is due is better than none while another is asked for.
        if let Some(credential) = stored {
            renewal = until(credential.renew_at());
            if signing.as_ref() != Some(&known) {
                signs(credential);
                signing = Some(known.clone());
            }
        }
        if renewal.is_zero() {
            let state_dir = inputs.state_dir.clone();
            let obtained = tokio::select! {
                obtained = obtain(&requests, &state_dir, identity, anchors, lacks) => obtained,
                () = inputs.until_other(identity, anchors, LONG_PATIENCE) => continue,
            };
            match obtained {
                Ok(credential) => {
                    renewal = until(credential.renew_at());
                    signs(credential);
                    signing = Some(known.clone());
                }
                Err(error) => {
                    lacks(error);
                    sleep(backoff.next().unwrap_or(SLOW_LOOK)).await;
                    continue;
                }
            }
        }
        kube::runtime::utils::Backoff::reset(&mut backoff);
        trouble.send_if_modified(|known| known.take().is_some());
        inputs.until_other(identity, anchors, renewal).await;
    }
}

impl Inputs {
    /// Who this node is and whom it trusts, once both are known.
    fn known(&self) -> Option<(NodeIdentity, Anchors)> {
        let anchors = self.anchors.borrow().clone()?;
        let snapshot = self.updates.borrow().snapshot.clone();
        let uid = snapshot.nodes.get(&self.node)?.origin.uid.clone()?;
        let identity = NodeIdentity::new(anchors.trust_domain.clone(), &self.node, &uid).ok()?;
        Some((identity, anchors))
    }

    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.updates.changed() => changed.is_ok(),
            changed = self.anchors.changed() => changed.is_ok(),
        }
    }

    /// Waits until it is time to renew, or until the node or those it trusts are others.
    async fn until_other(&mut self, identity: &NodeIdentity, anchors: &Anchors, renewal: Duration) {
        let due = Instant::now() + renewal;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                open = self.changed() => if !open { return },
            }
            match self.known() {
                Some((now, trusted)) if now == *identity && trusted == *anchors => {}
                // What is gone for a moment takes nothing away.
                None => {}
                Some(_) => return,
            }
        }
    }
}

/// A new certificate. A request that is not answered soon `lacks` it, and stays as it is: a controller that was away
/// finds one of each node.
async fn obtain(
    requests: &Api<CertificateSigningRequest>,
    state_dir: &Path,
    identity: &NodeIdentity,
    anchors: &Anchors,
    lacks: impl Fn(anyhow::Error),
) -> anyhow::Result<Credential> {
    let key = NodeKey::generate()?;
    let name = ask(requests, &key.request(identity)?, identity).await?;
    let late = || anyhow!("CertificateSigningRequest {name} is not answered; does the controller run?");
    let mut answered = pin!(answer(requests, &name));
    let chain = match timeout(PATIENCE, &mut answered).await {
        Ok(chain) => chain?,
        Err(_) => {
            lacks(late());
            // Whoever waits for this has [`LONG_PATIENCE`].
            answered.await?
        }
    };
    let credential = Credential::new(key, &chain, identity, &anchors.bundle, UnixTime::now())?;
    store(&state_dir.join(KEY), credential.key().to_pem().as_bytes(), 0o600)?;
    store(&state_dir.join(CERTIFICATE), chain.as_bytes(), 0o644)?;
    tracing::info!(identity = %identity, request = name, "has a certificate");
    Ok(credential)
}

fn resume(
    state_dir: &Path,
    identity: &NodeIdentity,
    anchors: &Anchors,
) -> anyhow::Result<Option<Credential>> {
    let (key, chain) = (state_dir.join(KEY), state_dir.join(CERTIFICATE));
    if !key.exists() || !chain.exists() {
        return Ok(None);
    }
    let key = NodeKey::from_pem(&zeroize::Zeroizing::new(std::fs::read_to_string(key)?))?;
    let chain = std::fs::read_to_string(chain)?;
    let credential = Credential::new(key, &chain, identity, &anchors.bundle, UnixTime::now())?;
    Ok(Some(credential))
}

fn store(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    durable::write(path, bytes, mode).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the request; its name.
async fn ask(
    requests: &Api<CertificateSigningRequest>,
    pem: &str,
    identity: &NodeIdentity,
) -> kube::Result<String> {
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(format!("hauberk-{}-", identity.name())),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.as_bytes().to_vec()),
            signer_name: request::SIGNER.to_owned(),
            usages: Some(request::USAGES.iter().map(|usage| (*usage).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let created = requests.create(&PostParams::default(), &request).await?;
    Ok(created.name_any())
}

/// Waits until the request is answered; the certificates in PEM.
async fn answer(requests: &Api<CertificateSigningRequest>, name: &str) -> anyhow::Result<String> {
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(SLOW_LOOK);
        let found = match requests.get_opt(name).await {
            Ok(found) => found.with_context(|| format!("CertificateSigningRequest {name} was deleted"))?,
            // It is still there when the API server is back.
            Err(error) => {
                tracing::debug!(%error, "no look at the certificate request");
                continue;
            }
        };
        let status = found.status.unwrap_or_default();
        if let Some(ByteString(pem)) = status.certificate {
            return String::from_utf8(pem).context("the certificate is not PEM");
        }
        let refused = |kind: &str| kind == "Denied" || kind == "Failed";
        let conditions = status.conditions.into_iter().flatten();
        if let Some(refusal) = conditions.into_iter().find(|condition| refused(&condition.type_)) {
            bail!(
                "CertificateSigningRequest {name} is {}: {}",
                refusal.type_,
                refusal.message.unwrap_or_default()
            );
        }
    }
}

fn until(time: UnixTime) -> Duration {
    Duration::from_secs(time.as_secs().saturating_sub(UnixTime::now().as_secs()))
}
