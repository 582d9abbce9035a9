//! Writes a folder of static programs as an image, without a container engine: `image NAME FOLDER ENTRYPOINT FILE`.
//! `make image` is how to call it.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use hauberk_netlab::kubernetes::Image;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [name, folder, entrypoint, file] = arguments.as_slice() else {
        eprintln!("usage: image NAME FOLDER ENTRYPOINT FILE");
        return ExitCode::from(2);
    };
    match write(name, Path::new(folder), entrypoint, Path::new(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(name: &str, folder: &Path, entrypoint: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let mut programs = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    // The same programs give the same image.
    programs.sort();
    let mut image = Image::new(name, &[entrypoint]).directory("tmp", 0o1777);
    for program in &programs {
        let base = program.file_name().unwrap_or_default().to_string_lossy();
        image = image.file(&format!("usr/bin/{base}"), 0o755, &fs::read(program)?);
    }
    Ok(image.write(file)?)
}
