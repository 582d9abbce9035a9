//! `hauberk demo`: three nodes on this machine, and how their pods' traffic becomes ciphertext.

use std::process::ExitCode;

use crate::args::Output;

/// Runs every step and prints what held.
pub fn run(_: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo has no steps yet")
}
