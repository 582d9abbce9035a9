//! A directory of manifests, watched.
//!
//! Stages: 1. wait for a change of the directory (inotify) or for the time of a slow look, 2. let the dust
//! settle, 3. list it and parse what changed, 4. merge all files, in the order of their names. The last
//! good version of a file stays in force while it cannot be read; a file that is gone takes its objects
//! with it. Files that start with a dot, and all that don't end in `.yaml` or `.yml`, are not looked at.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use hauberk_api::{MeshStatus, NodeTunnel};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::merge::merge;
use super::{SourceError, Update, publish};
use crate::manifest::{self, MAX_BYTES, Notice, Object, Problem};
use crate::version::Version;

/// So long nothing may happen before the files are read.
const QUIET: Duration = Duration::from_millis(20);
/// So long at most a busy directory puts reading off.
const PATIENCE: Duration = Duration::from_millis(200);
/// Without any event the directory is listed this often: events can be lost, and not every file system has them.
const SLOW_LOOK: Duration = Duration::from_secs(5);
/// A file younger than this without a newline at its end may be half written.
const YOUNG: Duration = Duration::from_millis(500);

enum Signal {
    Changed,
    Stop,
}

/// A running watch; dropping it ends its thread.
pub struct Watch {
    path: PathBuf,
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Reads everything, then watches.
    pub fn start(path: &Path) -> Result<(Self, watch::Receiver<Update>), SourceError> {
        let (signals, wait) = channel();
        let changed = signals.clone();
        let notify_error = |source| SourceError::Watch {
            path: path.to_owned(),
            source,
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| concerns_manifests(&event)) {
                // Fails only once the watch has ended.
                let _ = changed.send(Signal::Changed);
            }
        })
        .map_err(notify_error)?;
        // Watching comes before reading, so that no change falls between the two.
        fs::read_dir(path).map_err(|source| SourceError::Read {
            path: path.to_owned(),
            source,
        })?;
        watcher
            .watch(path, RecursiveMode::NonRecursive)
            .map_err(notify_error)?;
        let mut directory = Directory::new(path);
        directory.look();
        let first = directory.update();
        tell_problems(&first, &[]);
        let (updates, receiver) = watch::channel(first);
        let thread = std::thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || follow(directory, &wait, &updates))
            .map_err(|source| SourceError::Read {
                path: path.to_owned(),
                source,
            })?;
        Ok((
            Self {
                path: path.to_owned(),
                signals,
                thread: Some(thread),
                _watcher: watcher,
            },
            receiver,
        ))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes a node's tunnel if it differs from what is published; says whether it did.
    pub fn publish_tunnel(&self, tunnel: &NodeTunnel) -> Result<bool, SourceError> {
        publish::tunnel(&self.path, tunnel)
    }

    /// Publishes the Mesh's status if it differs from what is published; says whether it did.
    pub fn publish_mesh_status(&self, status: &MeshStatus) -> Result<bool, SourceError> {
        publish::mesh_status(&self.path, status)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have ended already; then there is nobody to tell.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(mut directory: Directory, wait: &Receiver<Signal>, updates: &watch::Sender<Update>) {
    loop {
        let next = if directory.unsettled { YOUNG } else { SLOW_LOOK };
        match wait.recv_timeout(next) {
            Ok(Signal::Changed) => {
                if let Settled::Stopped = settle(wait) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        if directory.look() {
            let update = directory.update();
            tell_problems(&update, &updates.borrow().problems);
            updates.send_replace(update);
        }
    }
}

fn tell_problems(update: &Update, told: &[Problem]) {
    for problem in update.problems.iter().filter(|problem| !told.contains(problem)) {
        tracing::warn!(%problem, "manifest not used; a version of it that was good before stays in force");
    }
}

enum Settled {
    Quiet,
    Stopped,
}

/// Waits until nothing has happened for a while.
fn settle(wait: &Receiver<Signal>) -> Settled {
    let began = std::time::Instant::now();
    loop {
        match wait.recv_timeout(QUIET) {
            Ok(Signal::Changed) if began.elapsed() < PATIENCE => {}
            Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => return Settled::Quiet,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return Settled::Stopped,
        }
    }
}

/// Reading a file is an event too, which must not lead to the next reading.
fn concerns_manifests(event: &Event) -> bool {
    let reads = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    !reads
        && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| is_manifest(path)))
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden
        && path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// What is known of a file.
#[derive(Default)]
struct Known {
    /// `None`: to be read again at the next look.
    version: Option<Version>,
    good: Arc<Vec<Object>>,
    notices: Vec<Notice>,
    problems: Vec<Problem>,
}

struct Directory {
    path: PathBuf,
    files: BTreeMap<String, Known>,
    problem: Option<Problem>,
    /// Some file may be half written and is to be looked at again soon.
    unsettled: bool,
}

impl Directory {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            problem: None,
            unsettled: false,
        }
    }

    /// Reads what changed; says whether anything did.
    fn look(&mut self) -> bool {
        self.unsettled = false;
        let listed = match self.list() {
            Ok(listed) => listed,
            Err(error) => {
                // Everything stays in force: a directory that is away for a moment switches nothing off.
                let name = self.path.display().to_string();
                let problem = Some(Problem::of_file(&name, format!("cannot be listed: {error}")));
                return std::mem::replace(&mut self.problem, problem.clone()) != problem;
            }
        };
        let mut differs = self.problem.take().is_some();
        let before = self.files.len();
        self.files.retain(|name, _| listed.contains_key(name));
        differs |= self.files.len() != before;
        for (name, metadata) in listed {
            let version = Version::of(&metadata);
            let known = self.files.entry(name.clone()).or_default();
            if known.version == Some(version) {
                continue;
            }
            match known.read(&name, &self.path.join(&name), &metadata) {
                Outcome::Read => {
                    known.version = Some(version);
                    differs = true;
                }
                Outcome::TooYoung => self.unsettled = true,
                Outcome::Gone => {}
            }
        }
        differs
    }

    fn list(&self) -> std::io::Result<BTreeMap<String, Metadata>> {
        let mut listed = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !is_manifest(&path) {
                continue;
            }
            // Follows links, as ConfigMap volumes have them; what is gone by now is not there.
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => drop(listed.insert(name.to_owned(), metadata)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(listed)
    }

    fn update(&self) -> Update {
        let files = self
            .files
            .iter()
            .map(|(name, known)| (name.as_str(), &known.good[..]));
        let (snapshot, doubles) = merge(files);
        let problems = self.files.values().flat_map(|known| &known.problems).cloned();
        Update {
            in_sync: true,
            unreachable: None,
            keys_published: snapshot.has_keys(),
            snapshot: Arc::new(snapshot),
            problems: Arc::new(
                self.problem
                    .iter()
                    .cloned()
                    .chain(problems)
                    .chain(doubles)
                    .collect(),
            ),
            notices: Arc::new(
                self.files
                    .values()
                    .flat_map(|known| &known.notices)
                    .cloned()
                    .collect(),
            ),
        }
    }
}

enum Outcome {
    Read,
    TooYoung,
    Gone,
}

impl Known {
    /// Reads the file; what is wrong with it leaves the last good version in force.
    fn read(&mut self, name: &str, path: &Path, metadata: &Metadata) -> Outcome {
        let bytes = if metadata.len() > MAX_BYTES {
            self.problems = vec![Problem::of_file(name, format!("larger than {MAX_BYTES} bytes"))];
            return Outcome::Read;
        } else {
            match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::Gone,
                Err(error) => {
                    self.problems = vec![Problem::of_file(name, format!("cannot be read: {error}"))];
                    return Outcome::Read;
                }
            }
        };
        if !bytes.ends_with(b"\n") && is_young(metadata) {
            return Outcome::TooYoung;
        }
        if bytes.iter().all(u8::is_ascii_whitespace) && !self.good.is_empty() {
            self.problems = vec![Problem::of_file(
                name,
                "empty; remove the file to remove its objects",
            )];
            return Outcome::Read;
        }
        match manifest::parse(name, &bytes) {
            Ok(parsed) => {
                self.good = Arc::new(parsed.objects);
                self.notices = parsed.notices;
                self.problems.clear();
            }
            Err(problems) => self.problems = problems,
        }
        Outcome::Read
    }
}

fn is_young(metadata: &Metadata) -> bool {
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age < YOUNG)
}
