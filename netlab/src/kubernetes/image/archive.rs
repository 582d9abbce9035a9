//! The tar format of POSIX.1-1988 (ustar), as far as images need it: directories, files and symbolic links
//! of root's, from the year 1970, with paths of up to 100 bytes.

/// Everything in the format comes in blocks of so many bytes.
const BLOCK: usize = 512;
/// Two blocks of zeros end an archive.
const END: usize = 2 * BLOCK;
/// Where fields begin in a header, in bytes.
const NAME: usize = 0;
const MODE: usize = 100;
const OWNER: usize = 108;
const GROUP: usize = 116;
const SIZE: usize = 124;
const TIME: usize = 136;
const CHECKSUM: usize = 148;
const KIND: usize = 156;
const TARGET: usize = 157;
const MAGIC: usize = 257;

/// A tar in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn directory(&mut self, path: &str, mode: u32) {
        self.header(b'5', &format!("{path}/"), mode, 0, "");
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.header(b'0', path, mode, content.len(), "");
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.header(b'2', path, 0o777, 0, target);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + END, 0);
        self.0
    }

    fn header(&mut self, kind: u8, path: &str, mode: u32, size: usize, target: &str) {
        assert!(
            path.len() <= MODE && target.len() <= MODE,
            "no room for {path} {target}"
        );
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(NAME, path);
        put(MODE, &format!("{mode:07o}"));
        put(OWNER, "0000000");
        put(GROUP, "0000000");
        put(SIZE, &format!("{size:011o}"));
        put(TIME, "00000000000");
        // The sum is made as if it were spaces itself.
        put(CHECKSUM, "        ");
        put(TARGET, target);
        put(MAGIC, "ustar\0");
        put(MAGIC + 6, "00");
        header[KIND] = kind;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[CHECKSUM..CHECKSUM + 7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&header);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn tar_reads_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        archive.directory("bin", 0o755);
        archive.file("bin/program", 0o700, &[7; BLOCK + 1]);
        archive.link("bin/other", "program");
        let path = dir.path().join("it.tar");
        fs::write(&path, archive.finish()).unwrap();
        let extract = Command::new("tar")
            .arg("xf")
            .arg(&path)
            .arg("-C")
            .arg(dir.path())
            .status();
        assert!(extract.unwrap().success());
        assert_eq!(fs::read(dir.path().join("bin/other")).unwrap(), [7; BLOCK + 1]);
    }
}
