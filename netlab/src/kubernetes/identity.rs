//! Somebody whom the API server knows, with the files that prove it.

use std::{
    fs,
    net::SocketAddr,
    panic,
    path::{Path, PathBuf},
    thread,
};

use kube::{Client, Config, config::AuthInfo};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::{KubernetesError, certificates::CertificateFiles, error::api};
use crate::{LabError, error::file};

/// From where the API server is asked. It has another address on the machine than in a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// From the machine's own network namespace, as tests do.
    Machine,
    /// From the nodes, pods and hosts of the lab that the control plane has joined.
    Lab,
}

/// A user or a ServiceAccount, as a client of the API server.
#[derive(Clone, Debug)]
pub struct Identity {
    credential: Credential,
    authority: Vec<u8>,
    relay: SocketAddr,
    machine: PathBuf,
    lab: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) enum Credential {
    Certificate(CertificateFiles),
    /// A file with a bearer token, read again now and then by whoever uses it.
    Token(PathBuf),
}

/// What all identities of a control plane have in common.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) dir: PathBuf,
    pub(super) relay: SocketAddr,
    /// The API server's address in a lab.
    pub(super) lab: SocketAddr,
    pub(super) authority_file: PathBuf,
    pub(super) authority: Vec<u8>,
}

impl Identity {
    /// Writes the kubeconfigs; their files are named after `name`.
    pub(super) fn new(name: &str, credential: Credential, door: &Door) -> Result<Self, KubernetesError> {
        let identity = Self {
            credential,
            authority: door.authority.clone(),
            relay: door.relay,
            machine: door.dir.join(format!("{name}.machine.kubeconfig")),
            lab: door.dir.join(format!("{name}.lab.kubeconfig")),
        };
        let user = match &identity.credential {
            Credential::Certificate(files) => {
                json!({"client-certificate": files.certificate, "client-key": files.key})
            }
            Credential::Token(file) => json!({"tokenFile": file}),
        };
        for (path, address) in [(&identity.machine, door.relay), (&identity.lab, door.lab)] {
            // JSON is YAML as well.
            let text = kubeconfig(address, &door.authority_file, &user).to_string();
            fs::write(path, text).map_err(file("cannot write", path))?;
        }
        Ok(identity)
    }

    /// A kubeconfig file; the keys and tokens that it names are files beside it.
    pub fn kubeconfig(&self, from: Vantage) -> &Path {
        match from {
            Vantage::Machine => &self.machine,
            Vantage::Lab => &self.lab,
        }
    }

    /// A client's configuration for this process, that is [`Vantage::Machine`].
    pub fn config(&self) -> Config {
        let url = format!("https://{}", self.relay);
        let mut config = Config::new(url.parse().expect("an address and port make a URL"));
        config.root_cert = Some(vec![self.authority.clone()]);
        let text = |path: &Path| Some(path.display().to_string());
        config.auth_info = match &self.credential {
            Credential::Certificate(files) => AuthInfo {
                client_certificate: text(&files.certificate),
                client_key: text(&files.key),
                ..AuthInfo::default()
            },
            Credential::Token(file) => AuthInfo {
                token_file: text(file),
                ..AuthInfo::default()
            },
        };
        config
    }

    /// A client for this process.
    ///
    /// # Errors
    /// A file of the identity is gone.
    ///
    /// # Panics
    /// Outside of a tokio runtime, in which its connections live.
    pub fn client(&self) -> Result<Client, KubernetesError> {
        Client::try_from(self.config()).map_err(api("make a client of the API server"))
    }

    /// Runs `work` with such a client to its end, from wherever it is called: on a thread of its own,
    /// since a caller in a runtime must not block that one for another.
    ///
    /// # Errors
    /// As [`Identity::client`]; no thread or runtime is to be had.
    ///
    /// # Panics
    /// When `work` does, with its panic.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce(Client) -> T + Send) -> Result<T, KubernetesError> {
        let on_thread = || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|source| LabError::System {
                what: "cannot start a tokio runtime".into(),
                source,
            })?;
            runtime.block_on(async { Ok(work(self.client()?).await) })
        };
        thread::scope(|scope| {
            let result = scope.spawn(on_thread).join();
            result.unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }
}

pub(super) fn kubeconfig(server: SocketAddr, authority: &Path, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "netlab",
            "cluster": {"server": format!("https://{server}"), "certificate-authority": authority},
        }],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "netlab", "context": {"cluster": "netlab", "user": "user"}}],
        "current-context": "netlab",
    })
}
