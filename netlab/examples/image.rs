//! Writes a folder as an image, without a container engine: `image NAME FOLDER ENTRYPOINT FILE`. `make image` calls it.

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
    let mut image = Image::new(name, &[entrypoint]).directory("tmp", 0o1777);
    let mut folders = vec![folder.to_owned()];
    while let Some(found) = folders.pop() {
        let entries = fs::read_dir(found)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = entries.collect::<Result<Vec<_>, _>>()?;
        // The same files give the same image.
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(folder)?.to_string_lossy();
                image = image.file(&inside, 0o755, &fs::read(&path)?);
            }
        }
    }
    Ok(image.write(file)?)
}
