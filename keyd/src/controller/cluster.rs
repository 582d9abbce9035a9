//! The controller of a cluster: of its replicas the one that holds the Lease works, the others wait.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use kube::runtime::watcher::DefaultBackoff;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;

use super::authority::Authority;
use super::{signer, upkeep};
use crate::options::ControllerOptions;
use crate::source::kube::{Cluster, connect, told};

/// The Lease's name.
const LEASE: &str = "hauberk-controller";
/// A leader that does not renew its Lease for so long has lost it, seconds.
const LEASE_SECONDS: u64 = 15;
/// Between two attempts, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between two looks at the certificate authority.
const RELOAD: Duration = Duration::from_secs(60);
/// It renews the Lease so long before, seconds.
const GRACE_SECONDS: u64 = 5;

/// Works while this replica is the leader. What fails is tried again with growing, random pauses: an API server that
/// is away, an authority that cannot be read.
pub(super) async fn run(options: &ControllerOptions) -> anyhow::Result<()> {
    let (client, namespace) = connect(options.namespace.as_deref()).await?;
    let mut backoff = DefaultBackoff::default();
    loop {
        let Err(error) = stand(&client, &namespace, options).await;
        let pause = backoff.next().unwrap_or(LONGEST_PAUSE);
        let error = told(&error);
        tracing::error!(
            error,
            "the controller cannot work; tried again in {} s",
            pause.as_secs()
        );
        tokio::time::sleep(pause).await;
    }
}

/// Stands for election, and leads when elected, until something fails.
async fn stand(client: &Client, namespace: &str, options: &ControllerOptions) -> anyhow::Result<Infallible> {
    let lease = LeaseManagerBuilder::new(client.clone(), LEASE)
        .with_namespace(namespace)
        .with_identity(&options.identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await
        .context("cannot use the Lease; is the installation's RBAC there?")?;
    let (mut leads, _renewal) = lease.watch().await;
    loop {
        wait_for(&mut leads, true).await?;
        tracing::info!(identity = options.identity, "leads");
        tokio::select! {
            outcome = lead(client, namespace, &options.trust_domain) => outcome?,
            lost = wait_for(&mut leads, false) => {
                lost?;
                tracing::warn!("the Lease is somebody else's now");
            }
        }
    }
}

async fn wait_for(leads: &mut watch::Receiver<bool>, wanted: bool) -> anyhow::Result<()> {
    leads
        .wait_for(|leads| *leads == wanted)
        .await
        .map(drop)
        .context("the election has ended")
}

async fn lead(client: &Client, namespace: &str, trust_domain: &str) -> anyhow::Result<()> {
    let authority = Authority::load(client, namespace, trust_domain).await?;
    let (_cluster, updates) = Cluster::of_controller(client.clone());
    tokio::select! {
        outcome = signer::run(client, namespace, &authority) => outcome,
        outcome = upkeep::run(client, updates) => outcome,
        () = replaced(client, namespace, trust_domain, &authority) => Ok(()),
    }
}

/// Waits until the Secret holds another authority, as after cert-manager has renewed it. Restores the trust bundle.
async fn replaced(client: &Client, namespace: &str, trust_domain: &str, authority: &Authority) {
    loop {
        tokio::time::sleep(RELOAD).await;
        match Authority::load(client, namespace, trust_domain).await {
            Ok(now) if now.ca.certificate_pem() != authority.ca.certificate_pem() => {
                tracing::info!("the certificate authority is another one now");
                return;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                error = told(&error),
                "the certificate authority cannot be read again"
            ),
        }
    }
}
