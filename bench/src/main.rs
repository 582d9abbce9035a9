//! `hauberk-bench`: how fast Hauberk is on this machine, beside plain networking and other WireGuard programs.
//!
//! Exit codes: 0 measured; 1 something failed, with one line on standard error; 2 wrong usage.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Parser;

mod args;
mod cpu;
mod iperf;
mod local;
mod report;
mod rtt;
mod table;

use args::{Cli, Command, LocalArgs, Output};

fn main() -> ExitCode {
    let Command::Local(args) = Cli::parse().command;
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hauberk-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &LocalArgs) -> anyhow::Result<()> {
    hauberk_netlab::clean_up_on_signals()?;
    let measured = local::run(args)?;
    let text = match args.output {
        Output::Table => table::render(&measured.report, &measured.setting),
        Output::Json => serde_json::to_string(&measured.report)? + "\n",
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print the result")
}
