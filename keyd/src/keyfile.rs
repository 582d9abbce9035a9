//! The key file: the private keys of this node's generation, so that a restart resumes what is published.
//!
//! It lives on tmpfs, belongs to keyd's user, has mode 0600 and an exact size. A file that is not so is
//! refused and left as it is: replacing it would silently throw away a published generation, and using
//! it would trust keys that somebody else could read. Keys are wiped from memory and never printed.
//!
//! Layout, numbers in little-endian byte order: magic `HBKEYS`, version (2 bytes), generation (8), first
//! port (2), number of lanes (2), then 32 bytes of private key a lane, and nothing more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The file's name in the state directory.
pub const FILE_NAME: &str = "keys";

const MAGIC: [u8; 6] = *b"HBKEYS";
const VERSION: u16 = 1;
const HEADER: usize = 20;
const KEY: usize = 32;
/// As many lanes as a generation can have.
const MAX_LANES: usize = 16;

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
    #[error(
        "key file {} refused: {reason}; it is left as it is, remove it to start a new generation",
        path.display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not readable, writable or removable.
    #[error("cannot {what} key file {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no random bytes.
    #[error("no random bytes for new keys")]
    Random(#[source] getrandom::Error),
}

/// Why bytes are not a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// Not ours.
    #[error("it is not a key file of keyd")]
    Magic,
    /// Another version.
    #[error("it has version {0}, this keyd knows {VERSION}")]
    Version(u16),
    /// More or fewer bytes than the header says.
    #[error("it has {found} bytes where {expected} are needed")]
    Size {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// Lanes or ports that cannot be.
    #[error("its header is damaged: {0} is out of range")]
    Range(&'static str),
}

impl KeyFile {
    /// Reads the key file of this state directory; `None` if there is none.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, KeyFileError> {
        let path = state_dir.join(FILE_NAME);
        let io = |source| KeyFileError::Io {
            what: "read",
            path: path.clone(),
            source,
        };
        // A link would let whoever can write the directory point keyd at another's file.
        let no_follow = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        let mut file = match OpenOptions::new().read(true).custom_flags(no_follow).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let refused = |reason: String| KeyFileError::Refused {
            path: path.clone(),
            reason,
        };
        check_owner(&file.metadata().map_err(io)?).map_err(refused)?;
        // One byte more than the largest file, so that a longer one is seen to be longer.
        let mut bytes = Zeroizing::new([0; HEADER + KEY * MAX_LANES + 1]);
        let mut length = 0;
        loop {
            match file.read(&mut bytes[length..]).map_err(io)? {
                0 => break,
                read => length += read,
            }
        }
        Self::parse(&bytes[..length])
            .map(Some)
            .map_err(|error| refused(error.to_string()))
    }

    /// New random keys, clamped as X25519 wants them.
    pub fn generate(generation: u64, first_port: u16, lanes: usize) -> Result<Self, KeyFileError> {
        let mut private_keys = Vec::with_capacity(lanes);
        for _ in 0..lanes {
            let mut key = Zeroizing::new([0; KEY]);
            getrandom::getrandom(key.as_mut()).map_err(KeyFileError::Random)?;
            // RFC 7748 §5
            key[0] &= 248;
            key[31] = key[31] & 127 | 64;
            private_keys.push(key);
        }
        Ok(Self {
            generation,
            first_port,
            private_keys,
        })
    }

    /// Writes it where [`KeyFile::load`] finds it, in place of an older generation's.
    pub fn store(&self, state_dir: &Path) -> Result<(), KeyFileError> {
        let path = state_dir.join(FILE_NAME);
        let aside = state_dir.join(".keys.new");
        let write = || {
            // What a killed keyd left there may have any mode.
            match fs::remove_file(&aside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(&self.encode())?;
            file.sync_all()?;
            let old = open_to_wipe(&path)?;
            fs::rename(&aside, &path)?;
            wipe(old)?;
            File::open(state_dir)?.sync_all()
        };
        write().map_err(|source| KeyFileError::Io {
            what: "write",
            path: path.clone(),
            source,
        })
    }

    /// Wipes and removes the key file, when its generation is no longer needed.
    pub fn remove(state_dir: &Path) -> Result<(), KeyFileError> {
        let path = state_dir.join(FILE_NAME);
        let remove = || match open_to_wipe(&path)? {
            Some(old) => {
                fs::remove_file(&path)?;
                wipe(Some(old))
            }
            None => Ok(()),
        };
        remove().map_err(|source| KeyFileError::Io {
            what: "remove",
            path: path.clone(),
            source,
        })
    }

    /// From the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFormatError> {
        if bytes.len() < HEADER {
            return Err(KeyFormatError::Size {
                found: bytes.len(),
                expected: HEADER + KEY,
            });
        }
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if bytes[..6] != MAGIC {
            return Err(KeyFormatError::Magic);
        }
        if short(6) != VERSION {
            return Err(KeyFormatError::Version(short(6)));
        }
        let generation = u64::from_le_bytes(bytes[8..16].try_into().expect("the slice has eight bytes"));
        let (first_port, lanes) = (short(16), usize::from(short(18)));
        if lanes == 0 || lanes > MAX_LANES {
            return Err(KeyFormatError::Range("the number of lanes"));
        }
        if first_port == 0 || usize::from(first_port) + lanes - 1 > usize::from(u16::MAX) {
            return Err(KeyFormatError::Range("the first port"));
        }
        let expected = HEADER + KEY * lanes;
        if bytes.len() != expected {
            return Err(KeyFormatError::Size {
                found: bytes.len(),
                expected,
            });
        }
        let private_keys = bytes[HEADER..].chunks_exact(KEY).map(|chunk| {
            let mut key = Zeroizing::new([0; KEY]);
            key.copy_from_slice(chunk);
            key
        });
        Ok(Self {
            generation,
            first_port,
            private_keys: private_keys.collect(),
        })
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Of the final size from the start: a vector that grows leaves copies of the keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + KEY * self.private_keys.len()));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.first_port.to_le_bytes());
        bytes.extend_from_slice(&(self.private_keys.len() as u16).to_le_bytes());
        for key in &self.private_keys {
            bytes.extend_from_slice(key.as_ref());
        }
        bytes
    }
}

fn check_owner(metadata: &fs::Metadata) -> Result<(), String> {
    let (mode, user) = (metadata.mode() & 0o7777, nix::unistd::geteuid().as_raw());
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.uid() != user {
        return Err(format!(
            "it belongs to user {}, not to keyd's user {user}",
            metadata.uid()
        ));
    }
    if mode != 0o600 {
        return Err(format!(
            "it has mode {mode:04o} where 0600 is needed: others may have read the keys"
        ));
    }
    Ok(())
}

/// The file, if there is one, to be wiped once its name is gone: a crash in between must not leave a
/// key file of zeros.
fn open_to_wipe(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Overwrites a file's bytes, so that they don't linger in freed pages.
fn wipe(file: Option<File>) -> io::Result<()> {
    let Some(mut file) = file else { return Ok(()) };
    let length = usize::try_from(file.metadata()?.len())
        .unwrap_or(usize::MAX)
        .min(HEADER + KEY * MAX_LANES);
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stored() -> (tempfile::TempDir, PathBuf, KeyFile) {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFile::generate(7, 23400, 2).unwrap();
        keys.store(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        (dir, path, keys)
    }

    fn refusal(dir: &Path) -> String {
        KeyFile::load(dir).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn keys_come_back_as_they_were_stored_in_a_file_of_their_owner_alone() {
        let (dir, path, keys) = stored();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let again = KeyFile::load(dir.path()).unwrap().unwrap();
        assert_eq!((again.generation, again.first_port), (7, 23400));
        assert!(again.private_keys == keys.private_keys);
        assert!(again.private_keys[0] != again.private_keys[1]);
        assert!(
            KeyFile::load(tempfile::tempdir().unwrap().path())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_not_replaced() {
        let (dir, path, _) = stored();
        let before = fs::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let text = refusal(dir.path());
        assert!(
            text.contains("0640") && text.contains("refused") && text.contains("keys"),
            "{text}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_file_of_another_size_is_refused_and_not_replaced() {
        let (dir, path, _) = stored();
        for change in [&b"x"[..], &[]] {
            let mut bytes = fs::read(&path).unwrap();
            if change.is_empty() {
                bytes.truncate(50);
            } else {
                bytes.extend_from_slice(change);
            }
            fs::write(&path, &bytes).unwrap();
            let text = refusal(dir.path());
            assert!(text.contains("bytes where 84 are needed"), "{text}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_link_or_a_directory_in_its_place_is_refused() {
        let (dir, path, _) = stored();
        let aside = dir.path().join("elsewhere");
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        assert!(KeyFile::load(dir.path()).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(refusal(dir.path()).contains("not a regular file"));
    }

    #[test]
    fn what_the_header_says_is_checked_before_it_is_used() {
        let good = KeyFile::generate(1, 23400, 1).unwrap().encode();
        let spoilt = |at: usize, value: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            KeyFile::parse(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(spoilt(0, 0), KeyFormatError::Magic);
        assert_eq!(spoilt(6, 2), KeyFormatError::Version(2));
        assert_eq!(spoilt(18, 0), KeyFormatError::Range("the number of lanes"));
        assert_eq!(spoilt(19, 255), KeyFormatError::Range("the number of lanes"));
        assert_eq!(
            spoilt(18, 3),
            KeyFormatError::Size {
                found: 52,
                expected: 116
            }
        );
        assert!(KeyFile::parse(&[]).is_err());
    }

    #[test]
    fn a_removed_key_file_was_wiped_first() {
        let (dir, path, _) = stored();
        let mut held = File::open(&path).unwrap();
        KeyFile::remove(dir.path()).unwrap();
        assert!(!path.exists());
        let mut left = Vec::new();
        held.read_to_end(&mut left).unwrap();
        assert!(left.iter().all(|byte| *byte == 0));
        KeyFile::remove(dir.path()).unwrap();
    }
}
