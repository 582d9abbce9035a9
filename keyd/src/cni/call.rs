//! A call of the container runtime: environment and standard input, parsed.
//!
//! Stages: 1. the command, 2. the configuration and its version, 3. what the command needs of the rest. Nothing is
//! asked of the system here. The specification is <https://www.cni.dev/docs/spec/>, versions 0.3.1 to 1.1.0.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ask::{Attachment, HostSide, Key, PodName, Request};
use super::{SOCKET, TIMEOUT_SECONDS, VERSIONS};

/// keyd's socket where the configuration names none.
const DEFAULT_DIR: &str = "/run/hauberk";
/// What the specification calls the version of a configuration that names none.
const UNVERSIONED: &str = "0.1.0";

/// The variables of the call.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
}

impl Environment {
    /// Those of this process; what is not UTF-8 is as if absent.
    pub fn of_process() -> Self {
        let read = |name| std::env::var(name).unwrap_or_default();
        Self {
            command: read("CNI_COMMAND"),
            container: read("CNI_CONTAINERID"),
            netns: read("CNI_NETNS"),
            ifname: read("CNI_IFNAME"),
            args: read("CNI_ARGS"),
        }
    }
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The configuration's version, in which to answer.
    pub version: String,
    /// What to do.
    pub action: Action<'a>,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Action<'a> {
    /// Say which versions there are.
    Version,
    /// Say whether ADD could be served.
    Status,
    /// Ask keyd.
    Ask(Box<Asking<'a>>),
}

/// What to ask keyd, and how.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    /// What; of an ADD or CHECK the peer is still to be found.
    pub request: Request,
    /// The container's network namespace, for ADD and CHECK.
    pub netns: Option<PathBuf>,
    /// The previous result, which ADD passes on.
    pub previous: Option<&'a RawValue>,
    /// keyd's socket.
    pub socket: PathBuf,
    /// How long to wait for keyd.
    pub patience: Duration,
}

/// Why a call cannot be served. The runtime shows the text in the pod's events.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A variable is missing or makes no sense.
    #[error("{name} is missing or not as CNI wants it")]
    Environment {
        /// Its name.
        name: &'static str,
    },
    /// Standard input is not a configuration.
    #[error("the network configuration cannot be read: {0}")]
    Decode(#[source] serde_json::Error),
    /// A version that is not known.
    #[error("CNI version {0} is not supported")]
    Version(String),
    /// Not chained.
    #[error("there is no prevResult: {plugin} stands after another plugin in a chain", plugin = super::PLUGIN)]
    NoPrevious,
    /// The plugins before gave no address.
    #[error("prevResult has no address for {0}")]
    NoAddress(String),
    /// Something of the system.
    #[error("{what}: {source}")]
    System {
        /// What failed.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answered.
    #[error("keyd does not answer on {}: {source}", socket.display())]
    NoKeyd {
        /// keyd's socket.
        socket: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// keyd has not come so far.
    #[error("keyd has not put the pod in force yet: {0}")]
    NotYet(String),
    /// keyd says that waiting is no use.
    #[error("keyd refuses the pod: {0}")]
    Refused(String),
}

/// An error as the specification wants it on standard output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorResult {
    cni_version: String,
    code: u32,
    msg: String,
    details: &'static str,
}

impl CallError {
    /// For standard output; `version` is the configuration's.
    pub fn result(&self, version: &str) -> ErrorResult {
        ErrorResult {
            cni_version: version.to_owned(),
            code: self.code(),
            msg: self.to_string(),
            details: self.hint(),
        }
    }

    /// Codes below 100 are the specification's, "Error"; those from 100 are the plugin's own.
    fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment { .. } => 4,
            Self::System { .. } => 5,
            Self::Decode(_) => 6,
            Self::NoPrevious | Self::NoAddress(_) => 7,
            Self::NoKeyd { .. } | Self::NotYet(_) => 11,
            Self::Refused(_) => 100,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Version(_) => "supported are 0.3.0 to 1.1.0: set cniVersion of the network's configuration",
            Self::Environment { .. } => "a container runtime sets it; by hand use cnitool",
            Self::Decode(_) => "look at the first file in the directory of CNI configurations",
            Self::NoPrevious | Self::NoAddress(_) => {
                "put hauberk-cni at the end of `plugins`, after the plugin that gives pods their addresses"
            }
            Self::System { .. } => "look at the container runtime's log",
            Self::NoKeyd { .. } => {
                "is Hauberk's pod of this node running? pods queue until it is; to take the plugin out of the \
                 chain use `keyd uninstall`"
            }
            Self::NotYet(_) => "the kubelet tries again; `hauberk status` and keyd's log say more",
            Self::Refused(_) => "`hauberk status` and keyd's log say more",
        }
    }
}

/// The network configuration, as far as this plugin reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    cni_version: Option<String>,
    #[serde(default)]
    name: String,
    socket: Option<PathBuf>,
    timeout_seconds: Option<u16>,
    #[serde(borrow)]
    prev_result: Option<&'a RawValue>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Vec<ValidAttachment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

#[derive(Deserialize)]
struct Previous {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: IpNet,
    interface: Option<usize>,
}

impl<'a> Call<'a> {
    /// Parses a call. Of an error the version to answer in is [`version_of`].
    pub fn parse(environment: &Environment, stdin: &'a [u8]) -> Result<Self, CallError> {
        let command = environment.command.as_str();
        if command == "VERSION" {
            return Ok(Self {
                version: version_of(stdin),
                action: Action::Version,
            });
        }
        let config: Config = serde_json::from_slice(stdin).map_err(CallError::Decode)?;
        let version = config.cni_version.unwrap_or_else(|| UNVERSIONED.to_owned());
        if !VERSIONS.contains(&version.as_str()) {
            return Err(CallError::Version(version));
        }
        let seconds = config.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
        let (mut netns, mut previous) = (None, None);
        let request = match command {
            "STATUS" => {
                let action = Action::Status;
                return Ok(Self { version, action });
            }
            "GC" => Request::Gc {
                network: config.name,
                valid: config.valid.into_iter().map(Key::from).collect(),
            },
            "DEL" => Request::Del(key(environment)?),
            "ADD" | "CHECK" => {
                let raw = config.prev_result.ok_or(CallError::NoPrevious)?;
                let attachment = attachment(environment, &config.name, raw)?;
                netns = Some(PathBuf::from(&environment.netns));
                previous = Some(raw);
                match command {
                    "ADD" => Request::Add(attachment),
                    _ => Request::Check(attachment),
                }
            }
            _ => return Err(CallError::Environment { name: "CNI_COMMAND" }),
        };
        let default_socket = || PathBuf::from(DEFAULT_DIR).join(SOCKET);
        let action = Action::Ask(Box::new(Asking {
            request,
            netns,
            previous,
            socket: config.socket.unwrap_or_else(default_socket),
            patience: Duration::from_secs(seconds.into()),
        }));
        Ok(Self { version, action })
    }
}

impl From<ValidAttachment> for Key {
    fn from(valid: ValidAttachment) -> Self {
        Self {
            container: valid.container,
            ifname: valid.ifname,
        }
    }
}

/// The version to answer in, whatever else is wrong with the configuration.
pub fn version_of(stdin: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        cni_version: String,
    }
    let version = serde_json::from_slice::<Version>(stdin).map(|config| config.cni_version);
    version.unwrap_or_else(|_| VERSIONS[VERSIONS.len() - 1].to_owned())
}

fn key(environment: &Environment) -> Result<Key, CallError> {
    let key = Key {
        container: environment.container.clone(),
        ifname: environment.ifname.clone(),
    };
    if key.is_valid() {
        return Ok(key);
    }
    let name = if environment.container.is_empty() {
        "CNI_CONTAINERID"
    } else {
        "CNI_CONTAINERID or CNI_IFNAME"
    };
    Err(CallError::Environment { name })
}

fn attachment(environment: &Environment, network: &str, raw: &RawValue) -> Result<Attachment, CallError> {
    if environment.netns.is_empty() {
        return Err(CallError::Environment { name: "CNI_NETNS" });
    }
    let key = key(environment)?;
    let previous: Previous = serde_json::from_str(raw.get()).map_err(CallError::Decode)?;
    let is_ours = |ip: &&Ip| {
        ip.interface.is_none_or(|index| {
            let of = previous.interfaces.get(index);
            of.is_some_and(|of| !of.sandbox.is_empty() && of.name == key.ifname)
        })
    };
    let addresses: Vec<IpAddr> = previous
        .ips
        .iter()
        .filter(is_ours)
        .map(|ip| ip.address.addr())
        .collect();
    if addresses.is_empty() {
        return Err(CallError::NoAddress(key.ifname));
    }
    let outside = previous
        .interfaces
        .iter()
        .filter(|interface| interface.sandbox.is_empty());
    let names = outside.map(|interface| interface.name.clone()).collect();
    Ok(Attachment {
        key,
        network: network.to_owned(),
        pod: pod(&environment.args),
        addresses,
        host_side: HostSide { peer: None, names },
    })
}

/// `CNI_ARGS` is `NAME=VALUE;NAME=VALUE`.
fn pod(args: &str) -> Option<PodName> {
    let find = |name| {
        let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(found, _)| *found == name)?.1;
        (!value.is_empty()).then(|| value.to_owned())
    };
    Some(PodName {
        namespace: find("K8S_POD_NAMESPACE")?,
        name: find("K8S_POD_NAME")?,
        uid: find("K8S_POD_UID"),
    })
}

#[cfg(test)]
mod tests;
