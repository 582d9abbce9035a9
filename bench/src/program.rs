//! Where our other programs are: beside this one.

use std::path::PathBuf;

use thiserror::Error;

/// One of our programs is not where it should be.
#[derive(Debug, Error)]
#[error("{program} is not beside {}; build it with `make build`", dir.display())]
pub struct NoProgram {
    program: &'static str,
    dir: PathBuf,
}

/// The program of ours of this name, which is installed beside this one.
pub fn own(program: &'static str) -> Result<PathBuf, NoProgram> {
    let own = std::env::current_exe().unwrap_or_default();
    let path = own.with_file_name(program);
    if path.is_file() {
        Ok(path)
    } else {
        Err(NoProgram { program, dir: own })
    }
}
