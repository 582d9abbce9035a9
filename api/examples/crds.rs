//! Writes the CustomResourceDefinitions into a folder: `cargo run -p hauberk-api --example crds -- deploy/crds`

use std::{env, fs, io, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [folder] = &arguments[..] else {
        eprintln!("usage: crds FOLDER");
        return ExitCode::from(2);
    };
    match write(folder.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("crds: cannot write into {}: {e}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: PathBuf) -> io::Result<()> {
    for (name, text) in hauberk_api::crd_manifests() {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
