//! The daemon's binary: flags, logging to stderr, and one line and an exit code when it cannot go on.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use keyd::cni::{self, install::Directories};
use keyd::options::{CniOptions, Options, Role};
use keyd::{controller, node};
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
            Role::Node(options) => node::run(options).await,
            Role::Controller(options) => controller::run(options).await,
            Role::CniUninstall(options) => cni_uninstall(options),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn cni_uninstall(options: CniOptions) -> anyhow::Result<()> {
    let directories = Directories {
        conf: options.cni_conf_dir,
        bin: options.cni_bin_dir,
    };
    let failed = cni::install::uninstall(&directories);
    let texts = failed
        .into_iter()
        .map(|error| format!("{:#}", anyhow::Error::from(error)));
    let text = texts.collect::<Vec<_>>().join("; ");
    anyhow::ensure!(text.is_empty(), "{text}");
    Ok(())
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("keyd: {error:#}");
    ExitCode::FAILURE
}
