//! The CNI plugin's binary: environment and standard input in, a result on standard output, an exit code.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use keyd::cni::call::Environment;
use keyd::cni::plugin;

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut stdin) {
        eprintln!("hauberk-cni: cannot read standard input: {error}");
        return ExitCode::FAILURE;
    }
    let outcome = plugin::run(&Environment::of_process(), &stdin);
    // A runtime that does not listen any more has given the call up.
    let written = io::stdout().write_all(outcome.stdout.as_bytes());
    if outcome.success && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
