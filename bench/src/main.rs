//! `hauberk-bench`: how fast Hauberk is on this machine, beside plain networking and other WireGuard programs;
//! and what a large cluster costs a node.
//!
//! Exit codes: 0 measured, and no bar missed; 1 something failed, with one line on standard error; 2 wrong usage.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Parser;

mod args;
mod cpu;
mod local;
mod program;
mod report;
mod rtt;
mod scale;
mod table;

use args::{Cli, Command, LocalArgs, Output, ScaleArgs};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Local(args) => run_local(&args),
        Command::Scale(args) => run_scale(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hauberk-bench: {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run_local(args: &LocalArgs) -> anyhow::Result<()> {
    hauberk_netlab::clean_up_on_signals()?;
    let measured = local::run(args)?;
    print(&match args.output {
        Output::Table => table::render(&measured.report, &measured.setting),
        Output::Json => serde_json::to_string(&measured.report)? + "\n",
    })?;
    match measured.broke_off {
        Some(error) => Err(error).context("broke off after what is printed"),
        None => Ok(()),
    }
}

fn run_scale(args: &ScaleArgs) -> anyhow::Result<()> {
    hauberk_netlab::clean_up_on_signals()?;
    let report = scale::run(args)?;
    print(&match args.output {
        Output::Table => report.render(),
        Output::Json => serde_json::to_string(&report)? + "\n",
    })?;
    match report.missed().as_slice() {
        [] => Ok(()),
        missed => Err(anyhow::anyhow!("beyond its bar: {}", missed.join(", "))),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    stdout
        .write_all(text.as_bytes())
        .context("cannot print the result")
}

/// What is wrong on one line: of a longer text (a program's log, the kernel's verifier) the first and the last.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first} … {last}"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_to_its_first_and_last_line() {
        assert_eq!(one_line("no program"), "no program");
        assert_eq!(one_line("late: a\nlog 1\nlog 2\n\n"), "late: a … log 2");
    }
}
