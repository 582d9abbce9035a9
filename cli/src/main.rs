//! `hauberk`, the user's command; also `kubectl hauberk`, when it is installed as `kubectl-hauberk`.
//!
//! Exit codes: 0 done; 1 it failed, with one line on standard error that says what, where and what to do
//! (the demo: a step did not hold); 2 wrong usage.

use std::{io::Write, process::ExitCode};

use anstream::eprintln;
use owo_colors::OwoColorize;

mod args;
mod cluster;
mod demo;
mod encryption;
mod install;
mod policy;
mod source;
mod status;
mod uninstall;

use args::{Cli, Command, Output, Part, SwitchArgs};
use encryption::Outcome;
use source::Source;

fn main() -> ExitCode {
    match run(Cli::from_process().command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {}", "hauberk:".red().bold(), one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => return demo::run(args.output.output),
        Command::Install(args) => install::run(&args)?,
        Command::Uninstall(args) => uninstall::run(&args)?,
        Command::Status(args) => {
            let status = match args.source.source {
                Source::Kube => cluster::status()?,
                Source::Dir(dir) => status::read(&dir)?,
            };
            print(&match args.output.output {
                Output::Table => status::table::render(&status),
                Output::Json => serde_json::to_string(&status)? + "\n",
            })?;
        }
        Command::Enable(args) => switch(args, true)?,
        Command::Disable(args) => switch(args, false)?,
        Command::Policy(command) => policy::run(&command)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::named(false), "hauberk", &mut script);
            std::io::stdout().write_all(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn switch(args: SwitchArgs, enabled: bool) -> anyhow::Result<()> {
    let Part::Encryption = args.part;
    let (outcome, watch) = match args.source.source {
        Source::Kube => (cluster::set_enabled(enabled)?, String::new()),
        Source::Dir(dir) => (
            encryption::set_enabled(&dir, enabled)?,
            format!(" --source dir:{}", dir.display()),
        ),
    };
    let word = if enabled { "enabled" } else { "disabled" };
    let text = match outcome {
        Outcome::Changed(place) => {
            format!("encryption {word} in {place}; watch it take effect with: hauberk status{watch}\n")
        }
        Outcome::Unchanged(place) => format!("encryption was {word} already in {place}\n"),
    };
    print(&text)?;
    Ok(())
}

/// Prints on standard output, where colours stay only on a terminal. Unlike `print!` it does not panic when the
/// reader has gone.
fn print(text: &str) -> std::io::Result<()> {
    anstream::stdout().write_all(text.as_bytes())
}

/// What is wrong on one line: of a longer text (a program's log, the kernel's verifier) the first and the last.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first} … {last}"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

/// Whether the reader of our output has gone, as `| head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_to_its_first_and_last_line() {
        assert_eq!(one_line("no mesh"), "no mesh");
        assert_eq!(one_line("late: a\nlog 1\nlog 2\n\n"), "late: a … log 2");
        assert_eq!(one_line(""), "");
    }
}
