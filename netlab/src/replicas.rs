//! Each node's own replica of the directory of manifests, so that an object can be late at, or hidden
//! from, one node.
//!
//! A thread looks at the shared directory and at every replica each few milliseconds. What differs there from
//! what it last knew is a change by somebody, and becomes the truth; the truth is then written wherever it
//! is due. Which change is due where is decided in [`truth`], without any file.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{LabError, error::file};

mod truth;

use truth::{Rule, Stamp, Truth, Write};

/// Between two looks at the directories.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// A shared directory, and a replica of it for each node; kept equal until dropped.
///
/// A manifest written in any of them appears in all others, as do changes and removals. `*.json` files (keyd's
/// state) go from replicas to the shared directory only. Files whose names begin with a dot, and those that are
/// neither `*.yaml`, `*.yml` nor `*.json`, are nobody's business.
#[derive(Debug)]
pub struct Replicas {
    shared: PathBuf,
    places: BTreeMap<String, PathBuf>,
    rules: Arc<Mutex<Vec<Rule>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Replicas {
    /// Makes a replica of `shared` for each of `nodes`, below `parent`, and keeps them equal. All have what
    /// `shared` has when this returns.
    ///
    /// # Errors
    /// A directory cannot be made or read.
    pub fn start(shared: &Path, parent: &Path, nodes: &[&str]) -> Result<Self, LabError> {
        let mut places = BTreeMap::new();
        for node in nodes {
            let dir = parent.join(node);
            fs::create_dir_all(&dir).map_err(file("cannot make", &dir))?;
            places.insert((*node).to_owned(), dir);
        }
        let rules = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut keeper = Keeper {
            dirs: places
                .iter()
                .map(|(node, dir)| (Some(node.clone()), dir.clone()))
                .collect(),
            rules: rules.clone(),
            truth: Truth::default(),
        };
        keeper.dirs.insert(0, (None, shared.to_owned()));
        fs::read_dir(shared).map_err(file("cannot read", shared))?;
        keeper.round(Instant::now());
        let thread = thread::Builder::new()
            .name("replicas".into())
            .spawn({
                let stop = stop.clone();
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        keeper.round(Instant::now());
                        thread::sleep(LOOK_EVERY);
                    }
                }
            })
            .map_err(|source| LabError::System {
                what: "cannot start a thread".into(),
                source,
            })?;
        Ok(Self {
            shared: shared.to_owned(),
            places,
            rules,
            stop,
            thread: Some(thread),
        })
    }

    /// The shared directory.
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// The replica that `node` reads.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn dir(&self, node: &str) -> &Path {
        self.places
            .get(node)
            .unwrap_or_else(|| panic!("there is no replica for node {node}"))
    }

    /// From now on changes of files that match `pattern` (with `*`) reach `node` late by `delay`; a delay of zero
    /// lifts it, also for changes under way. A change keeps the delay that was in force when it was noticed,
    /// or any shorter one since.
    pub fn delay(&self, node: &str, pattern: &str, delay: Duration) {
        self.set(Rule {
            node: node.into(),
            pattern: pattern.into(),
            delay: Some(delay),
        });
    }

    /// Takes files that match `pattern` out of `node`'s replica until [`Replicas::unhide`].
    pub fn hide(&self, node: &str, pattern: &str) {
        self.set(Rule {
            node: node.into(),
            pattern: pattern.into(),
            delay: None,
        });
    }

    /// Gives them back.
    pub fn unhide(&self, node: &str, pattern: &str) {
        self.set(Rule {
            node: node.into(),
            pattern: pattern.into(),
            delay: Some(Duration::ZERO),
        });
    }

    fn set(&self, rule: Rule) {
        assert!(
            self.places.contains_key(&rule.node),
            "there is no replica for node {}",
            rule.node
        );
        let mut rules = locked(&self.rules);
        rules.retain(|other| (&other.node, &other.pattern) != (&rule.node, &rule.pattern));
        if rule.delay != Some(Duration::ZERO) {
            rules.push(rule);
        }
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(rules: &Mutex<Vec<Rule>>) -> MutexGuard<'_, Vec<Rule>> {
    rules.lock().expect("nothing panics while it holds the rules")
}

/// The thread's own: the directories, by node, the shared one first and without.
struct Keeper {
    dirs: Vec<(Option<String>, PathBuf)>,
    rules: Arc<Mutex<Vec<Rule>>>,
    truth: Truth,
}

impl Keeper {
    fn round(&mut self, now: Instant) {
        let rules = locked(&self.rules).clone();
        for (place, dir) in &self.dirs {
            // A directory that is gone has lost nothing that the others should lose.
            let Ok(found) = look(dir) else { continue };
            self.truth
                .found(place, &found, |name| fs::read(dir.join(name)).ok(), now);
        }
        for (place, dir) in &self.dirs {
            for write in self.truth.due(place, &rules, now) {
                if let Some(stamp) = carry_out(dir, &write) {
                    self.truth.wrote(place, &write, stamp);
                }
            }
        }
    }
}

/// What `write` made of the file: `None` when it failed, to be tried again in the next round.
fn carry_out(dir: &Path, write: &Write) -> Option<Option<Stamp>> {
    let path = dir.join(&write.name);
    match &write.content {
        Some(content) => {
            let hidden = dir.join(format!(".replica-{}", write.name));
            fs::write(&hidden, content.as_slice())
                .and_then(|()| fs::rename(&hidden, &path))
                .ok()?;
            Some(Some(stamp(&fs::metadata(&path).ok()?)))
        }
        None => {
            let _ = fs::remove_file(&path);
            Some(None)
        }
    }
}

fn look(dir: &Path) -> std::io::Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let ours = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if !ours || name.starts_with('.') {
            continue;
        }
        // Removed since it was listed: the next round will notice.
        let Ok(metadata) = entry.metadata() else { continue };
        found.insert(name, stamp(&metadata));
    }
    Ok(found)
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        len: metadata.len(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
    }
}
