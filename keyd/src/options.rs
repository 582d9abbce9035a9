//! keyd's flags, parsed into values that cannot be wrong.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use hauberk_ebpf_redirect::AttachMode;

use crate::cni::{self, install::Directories};

/// Hauberk's daemon.
#[derive(Debug, Parser)]
#[command(name = "keyd", version, about)]
pub struct Options {
    /// What this process does.
    #[command(subcommand)]
    pub role: Role,
}

/// The two roles of one binary.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Run on a node: keep its kernel and its tunnels as the cluster's objects say.
    Node(Box<NodeOptions>),
    /// Run once in the cluster: sum up the flip in the Mesh's status.
    Controller(ControllerOptions),
    /// Take away what keyd left on this node: hauberk-cni, keys and phases. keyd must not run, and encryption be off.
    Uninstall(UninstallOptions),
}

/// Flags of `keyd node`.
#[derive(Clone, Debug, Args)]
pub struct NodeOptions {
    /// Where the cluster's objects come from: kube, the API server (in a pod by its ServiceAccount, elsewhere
    /// by KUBECONFIG); or dir:PATH, a directory of manifests.
    #[arg(long, env = "KEYD_SOURCE", value_name = "SOURCE")]
    pub source: SourceSpec,
    /// This node's name, as its Node object says.
    #[arg(long, env = "KEYD_NODE", value_name = "NAME")]
    pub node: String,
    /// Namespace of the installation, for the source kube. [default: as kubectl's, in a pod the pod's]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Where keys are kept, and what a reboot undoes anyway; on tmpfs, so that keys never reach a disk.
    #[arg(
        long,
        env = "KEYD_STATE_DIR",
        value_name = "DIR",
        default_value = "/run/hauberk"
    )]
    pub state_dir: PathBuf,
    /// Where phases of pairs, numbers of peers and what was covered are kept; on a disk, so that a rebooted node sends nothing in clear to a peer
    /// that it sent ciphertext to.
    #[arg(
        long,
        env = "KEYD_MEMORY_DIR",
        value_name = "DIR",
        default_value = "/var/lib/hauberk"
    )]
    pub memory_dir: PathBuf,
    /// Where programs and maps are pinned; on a bpf filesystem.
    #[arg(
        long,
        env = "KEYD_PIN_DIR",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/hauberk"
    )]
    pub pin_dir: PathBuf,
    /// The kernel's settings, as sysctl sees them; in a container, whose own can only be read, the host's.
    #[arg(
        long,
        env = "KEYD_SYSCTL_DIR",
        value_name = "DIR",
        default_value = "/proc/sys"
    )]
    pub sysctl_dir: PathBuf,
    /// The cgroup whose processes belong to this node; reserved for Service translation.
    #[arg(
        long,
        env = "KEYD_CGROUP",
        value_name = "DIR",
        default_value = "/sys/fs/cgroup"
    )]
    pub cgroup: PathBuf,
    /// Where lanes put their sockets for `wg show`.
    #[arg(
        long,
        env = "KEYD_UAPI_DIR",
        value_name = "DIR",
        default_value = "/var/run/wireguard"
    )]
    pub uapi_dir: PathBuf,
    /// Health, metrics and state: unix:PATH, or a loopback address and port. [default: unix:STATE_DIR/keyd.sock]
    #[arg(long, env = "KEYD_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Listen>,
    /// Directory of CNI configurations, into which hauberk-cni is chained; without it, it is not.
    #[arg(long, env = "KEYD_CNI_CONF_DIR", value_name = "DIR", requires = "cni_bin_dir")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Directory of CNI plugins, into which hauberk-cni is copied.
    #[arg(long, env = "KEYD_CNI_BIN_DIR", value_name = "DIR", requires = "cni_conf_dir")]
    pub cni_bin_dir: Option<PathBuf>,
    /// How programs are attached: auto, tcx or clsact; for tests of each.
    #[arg(long, env = "HAUBERK_ATTACH", value_parser = parse_attach, default_value = "auto", hide = true)]
    pub attach: AttachMode,
}

fn parse_attach(text: &str) -> Result<AttachMode, &'static str> {
    match text {
        "auto" => Ok(AttachMode::Auto),
        "tcx" => Ok(AttachMode::Tcx),
        "clsact" => Ok(AttachMode::Clsact),
        _ => Err("expected auto, tcx or clsact"),
    }
}

impl NodeOptions {
    /// Where to serve.
    pub fn listen(&self) -> Listen {
        self.listen
            .clone()
            .unwrap_or_else(|| Listen::Unix(self.state_dir.join("keyd.sock")))
    }

    /// keyd's socket for hauberk-cni. It lies where the container runtime sees it: on the host by the same path.
    pub fn cni_socket(&self) -> PathBuf {
        self.state_dir.join(cni::SOCKET)
    }

    /// Where hauberk-cni is installed, if it is.
    pub fn cni(&self) -> Option<Directories> {
        Some(Directories {
            conf: self.cni_conf_dir.clone()?,
            bin: self.cni_bin_dir.clone()?,
        })
    }
}

/// Flags of `keyd uninstall`.
#[derive(Clone, Debug, Args)]
pub struct UninstallOptions {
    /// What keyd was started with. Everything in it is removed.
    #[arg(
        long,
        env = "KEYD_STATE_DIR",
        value_name = "DIR",
        default_value = "/run/hauberk"
    )]
    pub state_dir: PathBuf,
    /// What keyd was started with. Everything in it is removed.
    #[arg(
        long,
        env = "KEYD_MEMORY_DIR",
        value_name = "DIR",
        default_value = "/var/lib/hauberk"
    )]
    pub memory_dir: PathBuf,
    /// What keyd was started with. It has to be empty, as it is while encryption is off.
    #[arg(
        long,
        env = "KEYD_PIN_DIR",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/hauberk"
    )]
    pub pin_dir: PathBuf,
    /// Directory of CNI configurations.
    #[arg(
        long,
        env = "KEYD_CNI_CONF_DIR",
        value_name = "DIR",
        default_value = "/etc/cni/net.d"
    )]
    pub cni_conf_dir: PathBuf,
    /// Directory of CNI plugins.
    #[arg(
        long,
        env = "KEYD_CNI_BIN_DIR",
        value_name = "DIR",
        default_value = "/opt/cni/bin"
    )]
    pub cni_bin_dir: PathBuf,
}

impl UninstallOptions {
    /// Where hauberk-cni may be.
    pub fn cni(&self) -> Directories {
        Directories {
            conf: self.cni_conf_dir.clone(),
            bin: self.cni_bin_dir.clone(),
        }
    }
}

/// Flags of `keyd controller`.
#[derive(Clone, Debug, Args)]
pub struct ControllerOptions {
    /// Namespace of the installation, for the source kube. [default: as kubectl's, in a pod the pod's]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The trust domain of the nodes' certificates (SPIFFE); it cannot be changed while nodes are Strict.
    #[arg(
        long,
        env = "KEYD_TRUST_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local"
    )]
    pub trust_domain: String,
    /// Who this replica is in the election; its pod's name.
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NAME",
        default_value = "hauberk-controller"
    )]
    pub identity: String,
    /// Where the cluster's objects come from: kube, the API server (in a pod by its ServiceAccount, elsewhere
    /// by KUBECONFIG); or dir:PATH, a directory of manifests.
    #[arg(long, env = "KEYD_SOURCE", value_name = "SOURCE")]
    pub source: SourceSpec,
}

/// A source of cluster objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// The Kubernetes API.
    Kube,
    /// A directory of manifests; whoever can write it is trusted.
    Dir(PathBuf),
}

impl FromStr for SourceSpec {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Dir(path.into())),
            _ if text == "kube" => Ok(Self::Kube),
            _ => Err("expected kube or dir:PATH"),
        }
    }
}

/// Where health, metrics and state are served: nothing that another machine could reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Loopback(SocketAddr),
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(_) => Err("only a loopback address or unix:PATH: what is served is not for other machines"),
            Err(_) => Err("expected unix:PATH or a loopback address with a port, such as 127.0.0.1:9240"),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_the_api_or_a_directory() {
        assert_eq!(SourceSpec::from_str("kube"), Ok(SourceSpec::Kube));
        assert_eq!(SourceSpec::from_str("dir:/x"), Ok(SourceSpec::Dir("/x".into())));
        assert!(SourceSpec::from_str("dir:").is_err());
    }

    #[test]
    fn an_address_that_others_could_reach_is_refused() {
        assert!(Listen::from_str("0.0.0.0:9240").is_err());
        assert!(Listen::from_str("127.0.0.1:9240").is_ok());
        assert!(Listen::from_str("[::1]:9240").is_ok());
        assert!(Listen::from_str("unix:").is_err());
    }

    #[test]
    fn the_plugin_is_installed_into_both_directories_or_not_at_all() {
        let parse = |more: &[&str]| {
            let flags = ["keyd", "node", "--source", "kube", "--node", "a"];
            Options::try_parse_from(flags.iter().chain(more)).map(|options| match options.role {
                Role::Node(node) => node.cni(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(parse(&[]).expect("valid"), None);
        assert!(parse(&["--cni-conf-dir", "/c"]).is_err());
        let both = parse(&["--cni-conf-dir", "/c", "--cni-bin-dir", "/b"]).expect("valid");
        assert_eq!(both.expect("given").bin, PathBuf::from("/b"));
    }

    #[test]
    fn every_flag_of_the_node_parses() {
        let options = Options::try_parse_from([
            "keyd",
            "node",
            "--source",
            "dir:/m",
            "--node",
            "a",
            "--state-dir",
            "/s",
            "--memory-dir",
            "/m",
            "--pin-dir",
            "/p",
            "--cgroup",
            "/c",
            "--uapi-dir",
            "/u",
            "--listen",
            "unix:/s/x.sock",
        ])
        .expect("valid flags");
        assert!(
            matches!(options.role, Role::Node(node) if node.listen() == Listen::Unix("/s/x.sock".into()))
        );
    }
}
