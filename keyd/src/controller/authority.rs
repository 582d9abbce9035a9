//! The mesh's certificate authority: its Secret, and the trust bundle that tells nodes whom to trust.
//!
//! The Secret is in cert-manager's format (`tls.crt`, `tls.key`). Where there is none the controller makes one. A new
//! authority is added to the bundle beside the old, which stays until it expires, so that nodes with certificates of
//! either trust each other. A Secret or bundle that cannot be read is never overwritten.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use hauberk_certs::{MeshCa, TrustBundle, TrustDomain, UnixTime};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use zeroize::Zeroizing;

use crate::source::kube::trust::{BUNDLE, BUNDLE_PEM, CLUSTER, TRUST_DOMAIN};

/// The Secret with the authority, in the controller's namespace.
const SECRET: &str = "hauberk-ca";
/// Its UID is the cluster's id: it is there as long as the cluster is.
const CLUSTER_NAMESPACE: &str = "kube-system";

/// The authority, published.
pub(super) struct Authority {
    pub(super) ca: MeshCa,
}

impl Authority {
    /// Reads the authority, or makes it, and publishes the trust bundle.
    pub(super) async fn load(client: &Client, namespace: &str, trust_domain: &str) -> anyhow::Result<Self> {
        let trust_domain: TrustDomain = trust_domain.parse().context("--trust-domain")?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let ca = match read(&secrets, &trust_domain).await? {
            Some(ca) => ca,
            None => make(&secrets, &trust_domain).await?,
        };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let cluster = namespaces
            .get(CLUSTER_NAMESPACE)
            .await
            .with_context(|| format!("cannot read Namespace {CLUSTER_NAMESPACE}"))?;
        let cluster = cluster.metadata.uid.context("a Namespace has a UID")?;
        publish(client, namespace, &ca, &cluster).await?;
        Ok(Self { ca })
    }
}

async fn read(secrets: &Api<Secret>, trust_domain: &TrustDomain) -> anyhow::Result<Option<MeshCa>> {
    let found = secrets
        .get_opt(SECRET)
        .await
        .with_context(|| format!("cannot read Secret {SECRET}"))?;
    let Some(secret) = found else { return Ok(None) };
    let mut data = secret.data.unwrap_or_default();
    let mut entry = |name: &str| {
        let bytes = data
            .remove(name)
            .with_context(|| format!("Secret {SECRET} has no {name}"))?
            .0;
        let text =
            String::from_utf8(bytes).with_context(|| format!("{name} of Secret {SECRET} is not PEM"))?;
        anyhow::Ok(Zeroizing::new(text))
    };
    let (certificate, key) = (entry("tls.crt")?, entry("tls.key")?);
    let ca = MeshCa::load(&certificate, &key, trust_domain)
        .with_context(|| format!("Secret {SECRET} holds no authority that can be used"))?;
    Ok(Some(ca))
}

/// Makes an authority; where somebody else was faster, theirs counts.
async fn make(secrets: &Api<Secret>, trust_domain: &TrustDomain) -> anyhow::Result<MeshCa> {
    let ca = MeshCa::generate(trust_domain, UnixTime::now())?;
    let key = ca.key_pem();
    let entries = [
        ("tls.crt", ca.certificate_pem().into_bytes()),
        ("tls.key", key.as_bytes().to_vec()),
    ];
    let secret = Secret {
        metadata: named(SECRET),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            entries
                .map(|(name, bytes)| (name.to_owned(), ByteString(bytes)))
                .into(),
        ),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!(secret = SECRET, %trust_domain, "made a certificate authority");
            Ok(ca)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => read(secrets, trust_domain)
            .await?
            .with_context(|| format!("Secret {SECRET} was made and deleted by somebody")),
        Err(error) => Err(error).with_context(|| format!("cannot make Secret {SECRET}")),
    }
}

/// Writes the trust bundle, if it is not as it should be.
async fn publish(client: &Client, namespace: &str, ca: &MeshCa, cluster: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = maps
        .get_opt(BUNDLE)
        .await
        .with_context(|| format!("cannot read ConfigMap {BUNDLE}"))?;
    let before = found.as_ref().and_then(|map| map.data.as_ref());
    let entry = |name: &str| before.and_then(|data| data.get(name));
    let trust_domain = ca.trust_domain().as_str();
    for (name, now) in [(TRUST_DOMAIN, trust_domain), (CLUSTER, cluster)] {
        if entry(name).is_some_and(|then| then != now) {
            bail!(
                "ConfigMap {BUNDLE} was made for another {name} than {now}; nodes would refuse each other. Delete \
                 it if that is wanted"
            );
        }
    }
    let mut bundle = match entry(BUNDLE_PEM) {
        Some(pem) => TrustBundle::from_pem(pem).with_context(|| format!("ConfigMap {BUNDLE} is damaged"))?,
        None => TrustBundle::from(ca),
    };
    bundle.drop_expired(UnixTime::now());
    bundle.insert(ca);
    let data: BTreeMap<_, _> = [
        (BUNDLE_PEM, bundle.to_pem()),
        (TRUST_DOMAIN, trust_domain.to_owned()),
        (CLUSTER, cluster.to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into();
    if before == Some(&data) {
        return Ok(());
    }
    let mut map = found.clone().unwrap_or_else(|| ConfigMap {
        metadata: named(BUNDLE),
        ..ConfigMap::default()
    });
    map.data = Some(data);
    let written = match found {
        // With its resourceVersion: what somebody else writes in between refuses this write.
        Some(_) => maps.replace(BUNDLE, &PostParams::default(), &map).await,
        None => maps.create(&PostParams::default(), &map).await,
    };
    written.with_context(|| format!("cannot write ConfigMap {BUNDLE}"))?;
    Ok(())
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}
