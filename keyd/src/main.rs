//! The daemon's binary: flags, logging to stderr, and one line and an exit code when it cannot go on.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use keyd::options::{Options, Role};
use keyd::{controller, node, uninstall};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .init();
    // One thread: lanes have their own, and all that is left to do is wait.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match options.role {
            Role::Node(options) => node::run(*options).await,
            Role::Controller(options) => controller::run(options).await,
            Role::Uninstall(options) => uninstall::run(&options).map_err(Into::into),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("keyd: {error:#}");
    ExitCode::FAILURE
}
