//! A tar in memory, whose bytes follow from its content alone: all is root's, from the year 1970.

use std::io;

use tar::{Builder, EntryType, Header};

/// Writing into memory fails only where a name does not fit the format, and names are the callers' own.
const WRITTEN: &str = "a name that a tar can hold, written into memory";

/// A tar in the making.
pub(super) struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(super) fn directory(&mut self, path: &str, mode: u32) {
        let mut header = header(EntryType::Directory, mode, 0);
        let added = self.0.append_data(&mut header, format!("{path}/"), io::empty());
        added.expect(WRITTEN);
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut header = header(EntryType::Regular, mode, content.len() as u64);
        self.0.append_data(&mut header, path, content).expect(WRITTEN);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).expect(WRITTEN);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect(WRITTEN)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}
