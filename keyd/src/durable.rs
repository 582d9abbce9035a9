//! Files that survive a power cut whole: written aside, synced, renamed, the directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `path` by `contents` with the permission bits `mode`; readers see the old or the new, never half.
pub fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A leading dot keeps a half-written file out of the eyes of whoever lists the directory.
    let aside = directory.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(&aside)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_file_has_its_contents_and_mode_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("phases.json");
        write(&path, b"one", 0o600).expect("written");
        write(&path, b"two", 0o600).expect("written again");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        assert_eq!(
            fs::metadata(&path).expect("metadata").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).expect("listable").count(), 1);
    }
}
