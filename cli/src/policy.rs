//! `hauberk policy`: what network policy allows, of the live cluster or of manifests that nobody has applied yet.
//!
//! Stages: 1. the objects (`objects`), 2. who and what is asked about (`ask`), 3. the engine's answer, as a text or as
//! JSON (`check`, `table`). What of the objects means nothing is said on standard error; it never opens anything.

mod ask;
mod check;
mod objects;
mod table;

use anstream::eprintln;
use hauberk_policy::cluster::Cluster;
use hauberk_policy::read::Clock;
use jiff::Timestamp;
use owo_colors::OwoColorize;

use crate::args::{ManifestArgs, Output, PolicyCommand};
use crate::print;

pub use ask::{End, Port};

/// Runs one of the commands.
pub fn run(command: &PolicyCommand) -> anyhow::Result<()> {
    let text = match command {
        PolicyCommand::Check(args) => {
            let cluster = cluster(&args.manifests)?;
            let answer = check::Answer::of(
                &cluster,
                &args.from.0,
                &args.to.0,
                args.port.0,
                args.manifests.staged,
            )?;
            match args.output.output {
                Output::Table => answer.in_words(),
                Output::Json => serde_json::to_string(&answer)? + "\n",
            }
        }
        PolicyCommand::Table(args) => {
            let cluster = cluster(&args.manifests)?;
            let ports: Vec<_> = args.ports.iter().map(|port| port.0).collect();
            let reach = table::Reach::of(&cluster, &ports, args.manifests.staged);
            match args.output.output {
                Output::Table => reach.as_table(&ports),
                Output::Json => serde_json::to_string(&reach)? + "\n",
            }
        }
    };
    Ok(print(&text)?)
}

fn cluster(args: &ManifestArgs) -> anyhow::Result<Cluster> {
    let found = match args.paths.is_empty() {
        true => objects::of_cluster()?,
        false => objects::of_files(&args.paths)?,
    };
    let cluster = Cluster::read(&found.objects, Clock::Says(Timestamp::now()));
    let problems = cluster.problems.iter().map(ToString::to_string);
    for warning in found.warnings.into_iter().chain(problems) {
        eprintln!("{} {warning}", "hauberk:".yellow().bold());
    }
    Ok(cluster)
}
