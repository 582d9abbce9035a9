//! The command line of `hauberk`, which is also `kubectl hauberk` when it runs under that name.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::install::{Address, Namespace};
use crate::policy::{End, Port};
use crate::source::Source;

/// Transparent pod-to-pod encryption for Kubernetes: try it, switch it on and off, see its state.
#[derive(Debug, Parser)]
#[command(name = "hauberk", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show on this machine, in network namespaces, how pod traffic becomes ciphertext (as root).
    Demo(DemoArgs),
    /// Put Hauberk into the cluster that kubectl talks to, or upgrade it; encryption stays as it is.
    Install(InstallArgs),
    /// Take Hauberk out of the cluster: encryption off, every node clean, then all its objects.
    Uninstall(UninstallArgs),
    /// Show the mesh: its phase, its nodes, each pair of nodes, and what was dropped.
    Status(StatusArgs),
    /// Switch a part of the mesh on.
    Enable(SwitchArgs),
    /// Switch a part of the mesh off.
    Disable(SwitchArgs),
    /// Ask what network policy allows, of a cluster or of manifests.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print a completion script for a shell.
    Completions {
        /// The shell that will read it.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Namespace of the installation; made if it is not there.
    #[arg(long, value_name = "NAMESPACE", default_value = Namespace::DEFAULT)]
    pub namespace: Namespace,
    /// Image of all containers, for a registry of one's own. [default: this version's]
    #[arg(long, value_name = "IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub image: Option<String>,
    /// Where nodes reach the API server directly, HOST or HOST:PORT. [default: found in the cluster]
    #[arg(long, value_name = "ADDRESS")]
    pub api_server: Option<Address>,
    /// Print what would be applied, and apply nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// So long every node may take to be ready, as 90s or 5m; 0s does not wait.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Namespace of the installation.
    #[arg(long, value_name = "NAMESPACE", default_value = Namespace::DEFAULT)]
    pub namespace: Namespace,
    /// Leave the kinds, and with them the Mesh and ExternalPeers.
    #[arg(long)]
    pub keep_crds: bool,
    /// Switch off and clean the nodes, and leave all objects but the DaemonSet to who made them, such as Helm.
    #[arg(long)]
    pub nodes_only: bool,
    /// So long each stage may take, as 90s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// A whole number of seconds or minutes.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => number.parse().ok(),
        (_, Some(number)) => number
            .parse::<u64>()
            .ok()
            .and_then(|minutes| minutes.checked_mul(60)),
        (None, None) => None,
    };
    seconds
        .map(Duration::from_secs)
        .ok_or("write seconds or minutes, as 90s or 5m")
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// Which part.
    pub part: Part,
    #[command(flatten)]
    pub source: SourceArgs,
}

/// A part of the mesh with a switch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// `spec.encryption.enabled` of the Mesh.
    Encryption,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether a connection is let through, and which rules decide that.
    Check(CheckArgs),
    /// Say of all pairs of pods which connections are let through.
    Table(TableArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Who begins it: a pod, NAMESPACE/NAME, or an address.
    #[arg(long, value_name = "NS/POD|IP")]
    pub from: End,
    /// Whom it goes to: a pod, NAMESPACE/NAME, an address, or a DNS name.
    #[arg(long, value_name = "NS/POD|IP|NAME")]
    pub to: End,
    /// The destination's port and the protocol, as 80/TCP.
    #[arg(long, value_name = "PORT/PROTO")]
    pub port: Port,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct TableArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Ports and protocols, as 80/TCP,81/UDP.
    #[arg(long, value_name = "PORT/PROTO", value_delimiter = ',', required = true)]
    pub ports: Vec<Port>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// A file of manifests or a directory of them. [default: the cluster that kubectl talks to]
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Take staged policies as in force.
    #[arg(long)]
    pub staged: bool,
}

#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Where the mesh's objects are: kube, the cluster that kubectl talks to; or dir:PATH, a directory of manifests.
    #[arg(long, env = "HAUBERK_SOURCE", value_name = "SOURCE", default_value = "kube")]
    pub source: Source,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The name under which kubectl finds the plugin `kubectl hauberk`.
const PLUGIN: &str = "kubectl-hauberk";

impl Cli {
    /// Parses the process's own arguments; usage errors and `--help` end the process as clap does.
    pub fn from_process() -> Self {
        let argv0 = std::env::args_os().next().map(PathBuf::from);
        let matches = named(is_plugin(argv0.as_deref())).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The command as help and completions spell it.
pub fn named(plugin: bool) -> clap::Command {
    let command = Cli::command();
    if plugin {
        command.bin_name("kubectl hauberk").display_name(PLUGIN)
    } else {
        command
    }
}

fn is_plugin(argv0: Option<&std::path::Path>) -> bool {
    argv0
        .and_then(|path| path.file_name())
        .is_some_and(|name| name == PLUGIN)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        named(false).debug_assert();
        named(true).debug_assert();
    }

    #[test]
    fn enable_and_disable_take_the_part_and_the_source() {
        let cli = Cli::try_parse_from(["hauberk", "enable", "encryption", "--source", "dir:/m"]).unwrap();
        let Command::Enable(args) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(args.part, Part::Encryption);
        assert_eq!(args.source.source, Source::Dir("/m".into()));
        assert!(Cli::try_parse_from(["hauberk", "enable", "--source", "dir:/m"]).is_err());
    }

    #[test]
    fn install_and_uninstall_parse_what_can_be_wrong() {
        let cli = [
            "hauberk",
            "install",
            "--api-server",
            "[fd00::1]:7443",
            "--timeout",
            "2m",
        ];
        let Command::Install(args) = Cli::try_parse_from(cli).unwrap().command else {
            panic!()
        };
        assert_eq!(args.timeout, Duration::from_secs(120));
        assert_eq!(args.api_server.unwrap().to_string(), "[fd00::1]:7443");
        for wrong in [
            &["install", "--namespace", "Not_One"][..],
            &["install", "--api-server", "https://a:1"],
            &["install", "--image", ""],
            &["uninstall", "--timeout", "5"],
        ] {
            assert!(
                Cli::try_parse_from([&["hauberk"], wrong].concat()).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn status_prints_a_table_unless_told_otherwise() {
        let output = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["hauberk", "status", "--source", "dir:/m"], args].concat());
            let Command::Status(status) = cli.unwrap().command else {
                panic!()
            };
            status.output.output
        };
        assert_eq!(output(&[]), Output::Table);
        assert_eq!(output(&["-o", "json"]), Output::Json);
    }

    #[test]
    fn argv0_decides_whether_kubectl_started_it() {
        assert!(is_plugin(Some(Path::new("/usr/local/bin/kubectl-hauberk"))));
        assert!(!is_plugin(Some(Path::new("/usr/bin/hauberk"))));
        assert!(!is_plugin(None));
        assert!(named(true).render_usage().to_string().contains("kubectl hauberk"));
    }
}
