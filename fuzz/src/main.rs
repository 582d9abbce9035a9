//! Fuzzes every parser of bytes, on stable Rust and for a bounded time.
//!
//! `cargo run -p hauberk-fuzz -- TARGET... --seconds 30` (all targets when none is named; `--list` names
//! them). A build without `--release` is slower and also finds overflows, so CI uses that. Inputs are
//! valid samples, changed at random; an input that makes a target do something new joins the samples. A
//! run is repeatable by its `--seed`. A failing input is written to a file, and `--replay FILE` runs it.

mod mutate;
mod random;
mod runner;
mod targets;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Parser;

use runner::Settings;
use targets::{TARGETS, Target};

/// Fuzzes every parser of bytes.
#[derive(Parser)]
struct Args {
    /// The targets to run; all of them when none is named.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Start of the random numbers; the same seed tries the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where a failing input is written.
    #[arg(long, default_value = "target/fuzz", value_name = "DIR")]
    failures: PathBuf,
    /// Run one target on the bytes of this file, once.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Print the targets' names and end.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        for target in TARGETS {
            println!("{:<20} {}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let targets = choose(&args.targets)?;
    if let Some(file) = &args.replay {
        let [target] = targets[..] else {
            bail!("--replay needs exactly one target")
        };
        let input = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        (target.run)(&input);
        println!("{}: passed", target.name);
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings {
        time: Duration::from_secs(args.seconds),
        seed: args.seed,
        failures: args.failures,
    };
    let mut all_passed = true;
    for target in targets {
        all_passed &= runner::run(target, &settings)?;
    }
    Ok(if all_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| {
        TARGETS
            .iter()
            .find(|target| target.name == name)
            .with_context(|| format!("no target '{name}'; --list names them"))
    };
    names.iter().map(find).collect()
}
