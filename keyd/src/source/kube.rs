//! The Kubernetes API as the source.
//!
//! Stages: 1. follow every kind that is needed (`watches`), 2. gather what comes in a short while, 3. take it in
//! (`objects`) and keep of the other nodes' tunnels what their bindings prove (`trust`), 4. publish an
//! [`Update`] where it differs. Beside them this node's certificate is asked for (`credentials`) and its
//! NodeTunnel is applied (`publish`). While the API server is away everything stays as it was last seen.

mod bindings;
mod credentials;
mod objects;
mod publish;
pub(crate) mod trust;
mod watches;

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use hauberk_api::NodeTunnel;
use hauberk_certs::UnixTime;
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{SourceError, Update};
use crate::options::NodeOptions;
use objects::Objects;
use trust::Trust;
use watches::Event;

/// Changes come in swarms; so long they are gathered before all is computed anew.
const GATHER: Duration = Duration::from_millis(20);
/// Bindings expire without any news; so often at least they are looked at.
const SLOW_LOOK: Duration = Duration::from_secs(60);
/// A connection on which nothing came for so long is given up, lest one that is half open be waited for for ever. A
/// watch without news ends after 290 s (kube-runtime's default).
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// The API server, followed. Dropping it ends all its tasks.
pub struct Cluster {
    wanted: watch::Sender<Option<NodeTunnel>>,
    troubles: Vec<watch::Receiver<Option<String>>>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// Follows what `keyd node` needs. Nothing has been read yet when this returns. The node's key and
    /// certificate are kept in the state directory.
    pub async fn of_node(options: &NodeOptions) -> Result<(Self, watch::Receiver<Update>), SourceError> {
        let node = options.node.as_str();
        let (client, namespace) = connect(options.namespace.as_deref()).await?;
        let (kinds, events) = watches::of_node(&client, &namespace);
        let (updates, receiver) = watch::channel(Update::default());
        let (wanted, wishes) = watch::channel(None);
        let (own, published) = watch::channel(None);
        let (trust_told, anchors) = watch::channel(None);
        let (credentials, signs) = watch::channel(None);
        let (certificate_trouble, no_certificate) = watch::channel(None);
        let (publish_trouble, not_published) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let collector = Collector {
            objects: Objects::new(&kinds, Some(Trust::new(node, trust_told))),
            updates,
            own: Some((node.to_owned(), own)),
        };
        tasks.spawn(collector.run(events));
        tasks.spawn(credentials::run(
            client.clone(),
            credentials::Inputs {
                node: node.to_owned(),
                state_dir: options.state_dir.clone(),
                updates: receiver.clone(),
                anchors,
            },
            credentials,
            certificate_trouble,
        ));
        let inputs = publish::Inputs {
            wanted: wishes,
            published,
            signer: signs,
        };
        tasks.spawn(publish::run(client, node.to_owned(), inputs, publish_trouble));
        Ok((
            Self {
                wanted,
                troubles: vec![no_certificate, not_published],
                _tasks: tasks,
            },
            receiver,
        ))
    }

    /// Follows what `keyd controller` sums up; what nodes say counts without its proof, which only peers need.
    pub fn of_controller(client: Client) -> (Self, watch::Receiver<Update>) {
        let (kinds, events) = watches::of_controller(&client);
        let (updates, receiver) = watch::channel(Update::default());
        let collector = Collector {
            objects: Objects::new(&kinds, None),
            updates,
            own: None,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(collector.run(events));
        let cluster = Self {
            wanted: watch::Sender::new(None),
            troubles: Vec::new(),
            _tasks: tasks,
        };
        (cluster, receiver)
    }

    /// Has this node's NodeTunnel published where it differs from what is.
    pub fn publish_tunnel(&self, tunnel: &NodeTunnel) {
        self.wanted.send_if_modified(|wanted| {
            let differs = wanted.as_ref() != Some(tunnel);
            if differs {
                *wanted = Some(tunnel.clone());
            }
            differs
        });
    }

    /// What keeps this node's own objects from being as they should be, if anything does.
    pub fn trouble(&self) -> Option<String> {
        self.troubles.iter().find_map(|trouble| trouble.borrow().clone())
    }
}

/// A client, and the namespace of the installation: the one given, or the client's own. Nothing is sent yet.
pub async fn connect(namespace: Option<&str>) -> Result<(Client, String), SourceError> {
    let mut config = Config::infer().await.map_err(SourceError::Kubeconfig)?;
    config.read_timeout = Some(READ_TIMEOUT);
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|source| SourceError::Client { url, source })?;
    Ok((client, namespace))
}

/// An error and its causes on one line, of a refusal only what the API server says.
pub fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref() {
        Some(kube::Error::Api(status)) => status.message.clone(),
        _ => cause.to_string(),
    });
    let mut texts: Vec<String> = Vec::new();
    for cause in causes {
        // Many errors repeat their cause in their own text.
        if !texts.last().is_some_and(|text| text.contains(&cause)) {
            texts.push(cause);
        }
    }
    texts.join(": ")
}

struct Collector {
    objects: Objects,
    updates: watch::Sender<Update>,
    /// A node's name, and who wants to know its NodeTunnel as the API has it.
    own: Option<(String, watch::Sender<Option<NodeTunnel>>)>,
}

impl Collector {
    async fn run(mut self, mut events: BoxStream<'static, Event>) {
        let mut slow = Instant::now() + SLOW_LOOK;
        loop {
            let event = timeout_at(slow, events.next()).await;
            let mut differs = false;
            // Also where news never stop coming.
            if Instant::now() >= slow {
                slow = Instant::now() + SLOW_LOOK;
                self.objects.judge_again();
                differs = true;
            }
            match event {
                Ok(Some(event)) => differs |= self.objects.take_in(event),
                Ok(None) => return,
                Err(_) => {}
            }
            let enough = Instant::now() + GATHER;
            while let Ok(Some(event)) = timeout_at(enough, events.next()).await {
                differs |= self.objects.take_in(event);
            }
            if differs {
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        if let Some((node, told)) = &self.own {
            let seen = self.objects.tunnel(node);
            told.send_if_modified(|known| {
                let differs = known.as_ref() != seen;
                if differs {
                    *known = seen.cloned();
                }
                differs
            });
        }
        let update = self.objects.update(UnixTime::now());
        self.updates.send_if_modified(|known| {
            let differs = *known != update;
            *known = update;
            differs
        });
    }
}
