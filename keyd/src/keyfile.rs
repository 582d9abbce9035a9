//! The key file: the private keys of this node's generation, so that a restart resumes what is published.
//!
//! It lives on tmpfs, belongs to keyd's user, has mode 0600 and an exact size. A file that is not so is
//! refused and left as it is: replacing it would silently throw away a published generation, and using
//! it would trust keys that somebody else could read. Keys are wiped from memory and never printed.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The file's name in the state directory.
pub const FILE_NAME: &str = "keys";

/// Keys of one generation.
pub struct KeyFile {
    /// The generation's number.
    pub generation: u64,
    /// Port of the first lane; the others follow.
    pub first_port: u16,
    /// Private keys, one a lane.
    pub private_keys: Vec<Zeroizing<[u8; 32]>>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Refused.
    #[error("key file {} refused: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

impl KeyFile {
    /// Reads the key file of this state directory; `None` if there is none.
    pub fn load(_state_dir: &Path) -> Result<Option<Self>, KeyFileError> {
        todo!()
    }

    /// New random keys.
    pub fn generate(_generation: u64, _first_port: u16, _lanes: usize) -> Result<Self, KeyFileError> {
        todo!()
    }

    /// Writes it where [`KeyFile::load`] finds it.
    pub fn store(&self, _state_dir: &Path) -> Result<(), KeyFileError> {
        todo!()
    }

    /// Wipes and removes the key file, when its generation is no longer needed.
    pub fn remove(_state_dir: &Path) -> Result<(), KeyFileError> {
        todo!()
    }

    /// From the file's bytes.
    pub fn parse(_bytes: &[u8]) -> Result<Self, String> {
        todo!()
    }
}
