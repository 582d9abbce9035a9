//! Puts the plugin into the node's CNI configuration, keeps it there, and takes it out.
//!
//! Stages: 1. copy the program from beside keyd's own, 2. find the configuration in force: the first in the order of
//! file names, as container runtimes choose, 3. edit a list where it is; for a plain configuration write a list of
//! its own that comes before it. CNIs write their file anew, so the directory is watched. What is malformed is left
//! alone and said: somebody has to mend it anyway.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::{Event, RecursiveMode, Watcher};

use super::conflist::{self, ConflistError};
use super::{PLUGIN, TIMEOUT_SECONDS};
use crate::durable;
use crate::version::Version;

/// Ends of configurations' names (`ConfFiles`, libcni, as containerd and CRI-O call it).
const ENDINGS: [&str; 3] = [".conflist", ".conf", ".json"];
/// End of the lists that keyd writes beside a plain configuration. `-` comes before `.`, so that such a list comes
/// before what it was made from, and after all that came before that.
const OWN_ENDING: &str = "-hauberk.conflist";
/// So long a directory that changes is left in peace: some CNIs write their file in pieces.
const QUIET: Duration = Duration::from_millis(100);
/// Without any event the directory is looked at this often: events can be lost, and it may be made later.
const SLOW_LOOK: Duration = Duration::from_secs(10);

/// The directories of the node's container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Its network configurations.
    pub conf: PathBuf,
    /// The plugins.
    pub bin: PathBuf,
}

/// Why the plugin is not in the chain, or not out of it.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file or directory cannot be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is no configuration.
    #[error("there is no network configuration in {} yet; is the cluster's CNI installed?", .0.display())]
    NoNetwork(PathBuf),
    /// A configuration that cannot be edited.
    #[error("{} is left alone", path.display())]
    Conflist {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConflistError,
    },
}

enum Signal {
    Changed,
    Stop,
}

/// Keeps the plugin in the chain until dropped; it stays there then.
pub struct Chain {
    trouble: Arc<Mutex<Option<String>>>,
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Chain {
    /// Starts a thread that puts the plugin in, and again whenever it is missing. `socket` is keyd's for the plugin.
    pub fn keep(directories: Directories, socket: PathBuf) -> Self {
        let (signals, wait) = channel();
        let trouble = Arc::new(Mutex::new(None));
        let (told, changed) = (trouble.clone(), signals.clone());
        let keeper = move || {
            let program = std::env::current_exe().map(|own| own.with_file_name(PLUGIN));
            let mut copied = None;
            follow(&directories, &wait, changed, || {
                let outcome = program.as_deref().map_err(|_| ()).map(|program| {
                    let installed = install(&directories, program, &mut copied, &entry(&socket));
                    installed.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
                });
                let text = match outcome {
                    Ok(Ok(())) => None,
                    Ok(Err(text)) => Some(text),
                    Err(()) => Some("keyd does not know where its own program is".to_owned()),
                };
                say(&told, text);
            });
        };
        let thread = std::thread::Builder::new().name("cni".to_owned()).spawn(keeper);
        if let Err(error) = &thread {
            say(&trouble, Some(format!("no thread for it: {error}")));
        }
        Self {
            trouble,
            signals,
            thread: thread.ok(),
        }
    }

    /// Why the plugin is not in the chain, if it is not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .expect("nothing panics while it holds the text")
            .clone()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // The thread may have ended already; then there is nobody to tell.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The versions of the program and of its copy, when they were the same.
pub type Copied = Option<[Version; 2]>;

/// Puts `program` and `entry` where the container runtime finds them. `copied` is `None` the first time, and then what
/// the last time made of it.
pub fn install(
    directories: &Directories,
    program: &Path,
    copied: &mut Copied,
    entry: &str,
) -> Result<(), InstallError> {
    copy(program, &directories.bin.join(PLUGIN), copied)?;
    let (own, others) = configurations(&directories.conf)?;
    let first = others
        .first()
        .ok_or_else(|| InstallError::NoNetwork(directories.conf.clone()))?;
    let text = read(first)?;
    let refused = |source| InstallError::Conflist {
        path: first.clone(),
        source,
    };
    let mut wanted = None;
    if ends(first, ".conflist") {
        if let Some(edited) = conflist::chained(&text, entry).map_err(refused)? {
            write(first, &edited, mode(first)?)?;
            tracing::info!(path = %first.display(), "{PLUGIN} is chained");
        }
    } else {
        let list = conflist::list_of(&text).map_err(refused)?;
        let list = conflist::chained(&list, entry).map_err(refused)?.unwrap_or(list);
        let path = own_list(first);
        if fs::read(&path).ok().as_deref() != Some(list.as_bytes()) {
            write(&path, &list, mode(first)?)?;
            tracing::info!(path = %path.display(), "{PLUGIN} is chained");
        }
        wanted = Some(path);
    }
    // Lists that were made from what is not in force any more.
    for path in own.iter().filter(|path| Some(*path) != wanted.as_ref()) {
        remove(path)?;
    }
    Ok(())
}

/// Takes out exactly what [`install`] put in; goes on where something fails, and says what.
pub fn uninstall(directories: &Directories) -> Vec<InstallError> {
    let mut failed = Vec::new();
    match configurations(&directories.conf) {
        Ok((own, others)) => {
            failed.extend(own.iter().filter_map(|path| remove(path).err()));
            let lists = others.iter().filter(|path| ends(path, ".conflist"));
            failed.extend(lists.filter_map(|path| take_out(path).err()));
        }
        // Where no runtime has networks, nothing was chained.
        Err(InstallError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        Err(error) => failed.push(error),
    }
    // A runtime that still has the plugin in its chain would start no pod without it.
    if failed.is_empty() {
        failed.extend(remove(&directories.bin.join(PLUGIN)).err());
    }
    failed
}

fn take_out(path: &Path) -> Result<(), InstallError> {
    let text = read(path)?;
    match conflist::unchained(&text) {
        Ok(None) => Ok(()),
        Ok(Some(edited)) => write(path, &edited, mode(path)?),
        // It is in no chain that cannot be read.
        Err(_) if !text.contains(PLUGIN) => Ok(()),
        Err(source) => Err(InstallError::Conflist {
            path: path.to_owned(),
            source,
        }),
    }
}

fn entry(socket: &Path) -> String {
    let socket = serde_json::to_string(&socket.to_string_lossy()).expect("a string is JSON");
    format!(r#"{{"type": "{PLUGIN}", "socket": {socket}, "timeoutSeconds": {TIMEOUT_SECONDS}}}"#)
}

fn say(trouble: &Mutex<Option<String>>, text: Option<String>) {
    let mut said = trouble.lock().expect("nothing panics while it holds the text");
    if let Some(text) = text.as_ref().filter(|text| said.as_ref() != Some(*text)) {
        tracing::error!(text, "{PLUGIN} is not chained");
    }
    *said = text;
}

fn follow(
    directories: &Directories,
    wait: &Receiver<Signal>,
    changed: Sender<Signal>,
    mut look: impl FnMut(),
) {
    let told = move |event: notify::Result<Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // Fails only once the watch has ended.
            let _ = changed.send(Signal::Changed);
        }
    };
    // Where the directory cannot be watched the slow look does.
    let mut watcher = notify::recommended_watcher(told).ok();
    let mut watched = false;
    loop {
        if let Some(watcher) = watcher.as_mut().filter(|_| !watched) {
            watched = watcher
                .watch(&directories.conf, RecursiveMode::NonRecursive)
                .is_ok();
        }
        look();
        match wait.recv_timeout(SLOW_LOOK) {
            Ok(Signal::Changed) => {}
            Err(RecvTimeoutError::Timeout) => continue,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        loop {
            match wait.recv_timeout(QUIET) {
                Ok(Signal::Changed) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        watched &= directories.conf.exists();
    }
}

/// keyd's own lists, and all other configurations, by name.
fn configurations(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), InstallError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory)?;
        entries
            .map(|entry| entry.map(|entry| directory.join(entry.file_name())))
            .collect()
    };
    let mut paths = list().map_err(file("read", directory))?;
    paths.retain(|path| ENDINGS.iter().any(|ending| ends(path, ending)) && path.is_file());
    paths.sort();
    Ok(paths.into_iter().partition(|path| ends(path, OWN_ENDING)))
}

fn ends(path: &Path, ending: &str) -> bool {
    path.to_string_lossy().ends_with(ending)
}

fn own_list(plain: &Path) -> PathBuf {
    let stem = plain.file_stem().unwrap_or_default().to_string_lossy();
    plain.with_file_name(format!("{stem}{OWN_ENDING}"))
}

fn copy(from: &Path, to: &Path, copied: &mut Copied) -> Result<(), InstallError> {
    let version = |path| fs::metadata(path).ok().as_ref().map(Version::of);
    let versions = || Some([version(from)?, version(to)?]);
    // Megabytes, which are not read every few seconds.
    if copied.is_some() && *copied == versions() {
        return Ok(());
    }
    let program = fs::read(from).map_err(file("read", from))?;
    if !fs::read(to).is_ok_and(|present| present == program) {
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).map_err(file("make", directory))?;
        }
        durable::write(to, &program, 0o755).map_err(file("write", to))?;
        fs::set_permissions(to, Permissions::from_mode(0o755)).map_err(file("write", to))?;
    }
    *copied = versions();
    Ok(())
}

fn read(path: &Path) -> Result<String, InstallError> {
    fs::read_to_string(path).map_err(file("read", path))
}

fn mode(path: &Path) -> Result<u32, InstallError> {
    let metadata = fs::metadata(path).map_err(file("read", path))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), InstallError> {
    // A link stays one; what it leads to is edited.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    durable::write(path, text.as_bytes(), mode).map_err(file("write", path))?;
    // The process's umask has taken bits away.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(file("write", path))
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(file("remove", path)),
    }
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const LIST: &str =
        "{\"cniVersion\":\"1.0.0\", \"name\":\"n\",\n \"plugins\":[ {\"type\":\"bridge\"} ], \"x\":1}";

    struct Host {
        dir: tempfile::TempDir,
        directories: Directories,
        copied: RefCell<Copied>,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let directories = Directories {
                conf: dir.path().join("net.d"),
                bin: dir.path().join("bin"),
            };
            fs::create_dir(&directories.conf).expect("made");
            fs::write(dir.path().join("program"), "one").expect("written");
            Self {
                dir,
                directories,
                copied: RefCell::default(),
            }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.directories.conf.join(name);
            fs::write(&path, text).expect("written");
            path
        }

        fn install(&self) -> Result<(), InstallError> {
            install(
                &self.directories,
                &self.dir.path().join("program"),
                &mut self.copied.borrow_mut(),
                &entry(Path::new("/run/x")),
            )
        }

        fn names(&self) -> Vec<String> {
            let (own, others) = configurations(&self.directories.conf).expect("read");
            let mut names: Vec<_> = own
                .iter()
                .chain(&others)
                .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn the_first_list_gets_the_plugin_once_keeps_its_mode_and_gets_back_what_it_was() {
        let host = Host::new();
        let path = host.write("10-a.conflist", LIST);
        let other = host.write("20-b.conflist", LIST);
        fs::set_permissions(&path, Permissions::from_mode(0o604)).expect("set");
        host.install().expect("installed");
        let chained = fs::read_to_string(&path).expect("read");
        assert!(chained.contains(PLUGIN) && fs::read_to_string(&other).expect("read") == LIST);
        assert_eq!(mode(&path).expect("read"), 0o604);
        host.install().expect("again");
        assert_eq!(fs::read_to_string(&path).expect("read"), chained);

        fs::write(host.dir.path().join("program"), "three").expect("written");
        host.install().expect("upgraded");
        let plugin = host.directories.bin.join(PLUGIN);
        assert_eq!(fs::read(&plugin).expect("read"), b"three");
        assert_eq!(mode(&plugin).expect("read"), 0o755);
        fs::write(&plugin, "bad").expect("written");
        host.install().expect("mended");
        assert_eq!(fs::read(&plugin).expect("read"), b"three");

        assert!(uninstall(&host.directories).is_empty());
        assert_eq!(fs::read_to_string(&path).expect("read"), LIST);
        assert_eq!((mode(&path).expect("read"), plugin.exists()), (0o604, false));
        assert!(uninstall(&host.directories).is_empty(), "twice is no error");
    }

    #[test]
    fn where_there_are_no_networks_nothing_is_to_be_taken_out() {
        let host = Host::new();
        fs::remove_dir(&host.directories.conf).expect("removed");
        assert!(uninstall(&host.directories).is_empty());
    }

    #[test]
    fn a_plain_configuration_stays_and_a_list_comes_before_it_and_follows_it() {
        let host = Host::new();
        let plain = host.write("10-net.conf", r#"{"cniVersion":"0.4.0","name":"n","type":"ptp"}"#);
        host.install().expect("installed");
        assert_eq!(host.names(), ["10-net-hauberk.conflist", "10-net.conf"]);
        host.write(
            "10-net.conf",
            r#"{"cniVersion":"0.4.0","name":"n","type":"ptp","mtu":1400}"#,
        );
        host.install().expect("again");
        let list = fs::read_to_string(host.directories.conf.join("10-net-hauberk.conflist")).expect("read");
        assert!(list.contains("1400") && list.contains(PLUGIN));

        fs::rename(&plain, host.directories.conf.join("05-net.conf")).expect("renamed");
        host.install().expect("moved");
        assert_eq!(host.names(), ["05-net-hauberk.conflist", "05-net.conf"]);
        assert!(uninstall(&host.directories).is_empty());
        assert_eq!(host.names(), ["05-net.conf"]);
    }

    #[test]
    fn what_is_malformed_is_left_alone_and_the_error_names_it() {
        let host = Host::new();
        assert!(matches!(host.install(), Err(InstallError::NoNetwork(_))));
        let path = host.write("10-a.conflist", "{\"name\":\"n\", \"plugins\":");
        let error = anyhow::Error::from(host.install().expect_err("refused"));
        let text = format!("{error:#}");
        assert!(
            text.contains("10-a.conflist is left alone: it is no network configuration"),
            "{text}"
        );
        assert_eq!(
            fs::read_to_string(path).expect("read"),
            "{\"name\":\"n\", \"plugins\":"
        );
    }
}
