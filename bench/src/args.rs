//! The command line of `hauberk-bench`, parsed into values that cannot be wrong.
//!
//! A peer's name and program are split here; cores are a pair of different numbers; what a run needs to
//! know later ([`Case`], systems) is an enum or a name that is known to be unique. Nothing is started here.

use std::{fmt, num::NonZeroU32, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

mod scale;

pub use scale::ScaleArgs;

/// Measure Hauberk against plain networking and against other WireGuard programs.
#[derive(Debug, Parser)]
#[command(name = "hauberk-bench", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Two nodes as network namespaces on this machine (as root; needs iperf3 and wireguard-tools).
    Local(LocalArgs),
    /// Real keyds in a large cluster: a real API server full of synthetic nodes and pods (as root; needs the
    /// control plane's programs, which it builds when they are not there).
    Scale(ScaleArgs),
}

/// What `hauberk-bench local` measures.
#[derive(Debug, Clone, Args)]
pub struct LocalArgs {
    /// Rounds per case and system; the systems of one round follow each other.
    #[arg(long, default_value = "11", value_name = "N")]
    pub rounds: NonZeroU32,
    /// Seconds of iperf3 load in each round.
    #[arg(long, default_value = "5", value_name = "SECONDS")]
    pub seconds: NonZeroU32,
    /// Cases to measure.
    #[arg(long, value_delimiter = ',', default_values_t = [Case::NodeTcp, Case::PodTcp], value_name = "CASE,…")]
    pub cases: Vec<Case>,
    /// Another WireGuard program for `node-tcp`, as NAME=COMMAND: shell words, `-f IFNAME` is appended.
    /// May be given more than once.
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    pub peers: Vec<Peer>,
    /// Leave out the rounds in which the scheduler places both nodes where it likes.
    #[arg(long)]
    pub no_unpinned: bool,
    /// The core of each node in the pinned rounds [default: the first two this process may use].
    #[arg(long, value_name = "A,B")]
    pub cores: Option<Cores>,
    /// Who enforces in `pod-tcp`: with Hauberk, packets skip the host's stack; with CNI they pass it.
    #[arg(long, value_enum, default_value_t = Enforcer::Hauberk)]
    pub enforcer: Enforcer,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What is measured between which two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// One TCP stream between the two ends of a tunnel, each in its node's namespace.
    NodeTcp,
    /// One TCP stream between two pods, through the whole path.
    PodTcp,
}

impl Case {
    /// The name used on the command line, in the table and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeTcp => "node-tcp",
            Self::PodTcp => "pod-tcp",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `spec.policy.enforcer` of the mesh that `pod-tcp` sets up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Enforcer {
    #[value(name = "hauberk", alias = "Hauberk")]
    Hauberk,
    #[value(name = "cni", alias = "CNI")]
    Cni,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// A WireGuard userspace program other than ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Names the system in the result.
    pub name: String,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
}

/// Names that the result already uses.
const OWN_SYSTEMS: [&str; 2] = ["plain", "hauberk"];

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` has no `=`; write it as NAME=COMMAND"))?;
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "`{name}` is not a usable name; use letters, digits, `-`, `.`"
            ));
        }
        if OWN_SYSTEMS.contains(&name) {
            return Err(format!(
                "`{name}` is the name of a built-in system; choose another"
            ));
        }
        let command = shlex::split(command).ok_or_else(|| {
            format!("the command of `{name}` has an unclosed quote or a trailing backslash")
        })?;
        if command.is_empty() {
            return Err(format!("the command of `{name}` is empty"));
        }
        Ok(Self {
            name: name.to_owned(),
            command,
        })
    }
}

/// One core per node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    pub a: usize,
    pub b: usize,
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |n: &str| {
            n.trim()
                .parse()
                .map_err(|_| format!("`{n}` is not a core's number"))
        };
        let (a, b) = text
            .split_once(',')
            .ok_or_else(|| format!("`{text}`: give two cores, such as 0,1"))?;
        let cores = Self {
            a: number(a)?,
            b: number(b)?,
        };
        if cores.a == cores.b {
            return Err(format!("both nodes on core {}; each needs its own", cores.a));
        }
        Ok(cores)
    }
}

impl LocalArgs {
    /// The first name given to two peers, if any.
    pub fn duplicate_peer(&self) -> Option<&str> {
        self.peers.iter().enumerate().find_map(|(i, peer)| {
            self.peers[..i]
                .iter()
                .any(|other| other.name == peer.name)
                .then_some(peer.name.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(args: &[&str]) -> Result<LocalArgs, clap::Error> {
        match Cli::try_parse_from([&["hauberk-bench", "local"], args].concat())?.command {
            Command::Local(local) => Ok(local),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_eleven_rounds_of_both_cases_pinned_and_unpinned() {
        let args = local(&[]).unwrap();
        assert_eq!(args.rounds.get(), 11);
        assert_eq!(args.cases, [Case::NodeTcp, Case::PodTcp]);
        assert!(!args.no_unpinned);
        assert_eq!(args.enforcer, Enforcer::Hauberk);
    }

    #[test]
    fn peer_commands_are_split_as_a_shell_would() {
        let args = local(&[
            "--peer",
            "go=env 'A=b c' /opt/wireguard-go",
            "--peer",
            "bt=boringtun-cli",
        ])
        .unwrap();
        assert_eq!(args.peers[0].name, "go");
        assert_eq!(args.peers[0].command, ["env", "A=b c", "/opt/wireguard-go"]);
        assert_eq!(args.peers[1].command, ["boringtun-cli"]);
    }

    #[test]
    fn peers_without_name_or_command_or_with_a_taken_name_are_refused() {
        for bad in [
            "wireguard-go",
            "=x",
            "x=",
            "x=   ",
            "plain=x",
            "hauberk=x",
            "x='open",
            "a b=c",
        ] {
            assert!(bad.parse::<Peer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_peers_of_one_name_are_noticed() {
        let args = local(&["--peer", "x=a", "--peer", "y=a", "--peer", "x=b"]).unwrap();
        assert_eq!(args.duplicate_peer(), Some("x"));
        assert_eq!(local(&["--peer", "x=a"]).unwrap().duplicate_peer(), None);
    }

    #[test]
    fn cores_must_be_two_different_numbers() {
        assert_eq!("0,3".parse(), Ok(Cores { a: 0, b: 3 }));
        for bad in ["1", "1,1", "a,b", "", "1,2,3"] {
            assert!(bad.parse::<Cores>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rounds_and_seconds_of_zero_are_refused() {
        assert!(local(&["--rounds", "0"]).is_err());
        assert!(local(&["--seconds", "0"]).is_err());
    }

    #[test]
    fn cases_are_a_comma_separated_list() {
        assert_eq!(local(&["--cases", "pod-tcp"]).unwrap().cases, [Case::PodTcp]);
        assert!(local(&["--cases", "pod-udp"]).is_err());
    }
}
