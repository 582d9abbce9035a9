//! What a node remembers over restarts and reboots, in `phases.json` in its memory directory.
//!
//! Without it a restarted node would start every pair in clear. It holds no secret. The numbers of
//! peers, and of what policies are compiled to, are kept as well, because pinned maps of the kernel refer to them: a
//! number is never given to anything else. Identities come and go with pods, so the file is not written for each: it says
//! up to where numbers may have been given, and what it does not know gets one beyond that after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hauberk_api::MeshSpec;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::pair::Phase;
use crate::snapshot::Digest;

/// The file's name in the memory directory.
pub const FILE_NAME: &str = "phases.json";
/// Raised when an older keyd could not make sense of the file.
const VERSION: u32 = 1;
/// For so many new numbers the file is written once.
const RESERVED: u32 = 1024;

/// What a node remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub(crate) version: u32,
    /// Phase of the pair with each node, as last applied.
    pub phases: BTreeMap<String, Phase>,
    /// The Mesh's settings as last seen: deleting the Mesh object switches nothing off.
    pub mesh: Option<MeshSpec>,
    /// Nodes as last seen while lanes are up. One that is gone is not forgotten: what was encrypted for it is
    /// not sent in clear because its object is deleted, or cannot be read at a start.
    pub nodes: BTreeMap<String, KnownNode>,
    /// The same of ExternalPeers: their prefixes.
    pub external: BTreeMap<String, BTreeSet<IpNet>>,
    /// Covered addresses of unknown nodes are dropped: every pair has once been Sending since the flag was
    /// turned on.
    pub drop_unknown: bool,
    /// The highest generation this node has used.
    pub generation: u64,
    /// The numbers that the kernel's maps know things by.
    pub numbers: Numbers,
}

/// What is remembered of a Node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownNode {
    /// Its pods' prefixes.
    pub prefixes: Vec<IpNet>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// Numbers given to peers by name, and to identities, sets of policies and programs by content; each is given once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbers {
    peers: BTreeMap<String, u32>,
    last_peer: u32,
    contents: Arc<HashMap<Digest, u32>>,
    /// No content has a higher number, of this process or one before it.
    last_content: u32,
    /// The last number that this process has given to a content.
    #[serde(skip)]
    given: Option<u32>,
}

/// What has to be noted on disk before a number is used; which content has which is not worth a write.
impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        (&self.peers, self.last_peer, self.last_content)
            == (&other.peers, other.last_peer, other.last_content)
    }
}

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Not what this program writes.
    #[error(
        "{} is damaged; without the phases in it this node could send in clear to peers that refuse that. \
         Restore it, or remove it to start with what the Mesh's status says",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer keyd.
    #[error("{} has version {version}, this keyd knows {VERSION}: use the newer keyd", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Not writable.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Memory {
    /// What is remembered in this directory; empty if there is no file yet.
    pub fn load(memory_dir: &Path) -> Result<Self, MemoryError> {
        let path = memory_dir.join(FILE_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(MemoryError::Read { path, source }),
        };
        let memory: Self = match serde_json::from_slice(&bytes) {
            Ok(memory) => memory,
            Err(source) => return Err(MemoryError::Damaged { path, source }),
        };
        if memory.version > VERSION {
            return Err(MemoryError::Version {
                path,
                version: memory.version,
            });
        }
        Ok(memory)
    }

    /// Writes it, so that a power cut leaves the old or the new.
    pub fn save(&self, memory_dir: &Path) -> Result<(), MemoryError> {
        let path = memory_dir.join(FILE_NAME);
        let current = Self {
            version: VERSION,
            ..self.clone()
        };
        let bytes = serde_json::to_vec_pretty(&current).expect("maps with text keys are JSON");
        durable::write(&path, &bytes, 0o600).map_err(|source| MemoryError::Write { path, source })
    }
}

/// What is covered, as far as this node remembers; for closing it before it knows anything else.
impl Memory {
    /// The prefixes that the Mesh names, else those of all Nodes.
    pub fn mesh_prefixes(&self) -> BTreeSet<IpNet> {
        let named = self.mesh.iter().flat_map(|mesh| &mesh.encryption.pod_cidrs);
        let mut prefixes: BTreeSet<IpNet> = named.map(IpNet::trunc).collect();
        if prefixes.is_empty() {
            prefixes.extend(self.nodes.values().flat_map(|node| &node.prefixes));
        }
        prefixes
    }

    /// Covered prefixes: the mesh's, and those of ExternalPeers.
    pub fn covered_prefixes(&self) -> BTreeSet<IpNet> {
        let mut prefixes = self.mesh_prefixes();
        prefixes.extend(self.external.values().flatten());
        prefixes
    }

    /// Addresses of Nodes.
    pub fn node_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = self.nodes.values().flat_map(|node| &node.addresses);
        addresses.copied().collect()
    }
}

impl Numbers {
    /// The number of the peer with this name, given now if it has none; never 0.
    pub fn peer(&mut self, name: &str) -> u32 {
        if let Some(number) = self.peers.get(name) {
            return *number;
        }
        self.last_peer += 1;
        self.peers.insert(name.to_owned(), self.last_peer);
        self.last_peer
    }

    /// The number of a content, given now if it has none; never one that means something by itself
    /// ([`hauberk_abi::FIRST_PROGRAM`]).
    pub fn content(&mut self, digest: Digest) -> u32 {
        if let Some(number) = self.contents.get(&digest) {
            return *number;
        }
        let last = self.given.unwrap_or(self.last_content);
        let number = (last + 1).max(hauberk_abi::FIRST_PROGRAM);
        self.given = Some(number);
        if number > self.last_content {
            self.last_content = number + (RESERVED - 1);
        }
        Arc::make_mut(&mut self.contents).insert(digest, number);
        number
    }

    /// How many contents have a number.
    pub fn contents(&self) -> usize {
        self.contents.len()
    }

    /// Forgets all other peers; the numbers forgotten are not given again.
    pub fn retain_peers(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.peers.retain(|name, _| keep(name));
    }

    /// Forgets all other contents; the numbers forgotten are not given again.
    pub fn retain_contents(&mut self, keep: &HashSet<Digest>) {
        if self.contents.len() == keep.len() {
            return;
        }
        let contents = Arc::make_mut(&mut self.contents);
        contents.retain(|known, _| keep.contains(known));
        contents.shrink_to(2 * keep.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Digest {
        Digest::of(&text)
    }

    #[test]
    fn what_is_remembered_comes_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Memory::load(dir.path()).unwrap(), Memory::default());
        let mut memory = Memory {
            drop_unknown: true,
            generation: 3,
            ..Default::default()
        };
        memory.phases.insert("b".into(), Phase::Strict);
        let number = memory.numbers.peer("b");
        let number_of_web = memory.numbers.content(content("web"));
        memory.save(dir.path()).unwrap();
        let mut again = Memory::load(dir.path()).unwrap();
        assert_eq!(
            (again.phases["b"], again.drop_unknown, again.generation),
            (Phase::Strict, true, 3)
        );
        assert_eq!(again.numbers.peer("b"), number);
        assert_eq!(again.numbers.content(content("web")), number_of_web);
    }

    #[test]
    fn a_content_that_was_not_noted_gets_a_number_that_nobody_had() {
        let mut numbers = Numbers::default();
        let noted = numbers.content(content("a"));
        let text = serde_json::to_string(&numbers).unwrap();
        let on_disk = || serde_json::from_str::<Numbers>(&text).unwrap();
        let mut given: Vec<_> = (1..RESERVED)
            .map(|n| numbers.content(content(&n.to_string())))
            .collect();
        assert!(numbers == on_disk(), "what was reserved is noted");
        given.push(numbers.content(content("one more")));
        assert!(numbers != on_disk());
        given.pop();
        let mut again = on_disk();
        assert_eq!(again.content(content("a")), noted);
        assert!(!given.contains(&again.content(content("1"))));
    }

    #[test]
    fn a_number_is_never_given_to_somebody_else() {
        let mut numbers = Numbers::default();
        let gone = numbers.peer("gone");
        numbers.retain_peers(|_| false);
        assert_ne!(numbers.peer("new"), gone);
        assert_ne!(numbers.peer("gone"), gone);
        let first = numbers.content(content("z"));
        numbers.retain_contents(&HashSet::new());
        assert_ne!(numbers.content(content("a")), first);
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, r#"{"phases":{"b":"St"#).unwrap();
        assert!(matches!(
            Memory::load(dir.path()),
            Err(MemoryError::Damaged { .. })
        ));
        fs::write(&path, r#"{"version":9}"#).unwrap();
        assert!(matches!(
            Memory::load(dir.path()),
            Err(MemoryError::Version { version: 9, .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), br#"{"version":9}"#);
    }
}
