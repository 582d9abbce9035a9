//! Network namespaces and the processes in them, which end with the test.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::own;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A short word no other test uses, also none of another process.
pub fn unique() -> String {
    format!(
        "{}{:x}",
        NUMBER.fetch_add(1, Ordering::Relaxed),
        std::process::id() & 0xf_ffff
    )
}

/// A namespace; deleted when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(role: &str) -> Self {
        let name = format!("hbt{role}{}", unique());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.run("ip link set lo up");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command inside. It is killed when the thread that starts it ends.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new("setpriv");
        // Not `ip netns exec`, which mounts another /sys.
        command.args([
            "--pdeathsig",
            "KILL",
            "nsenter",
            &format!("--net=/run/netns/{}", self.name),
            "--",
        ]);
        command.args(words.split_ascii_whitespace());
        command
    }

    /// Runs `work` on a thread inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        own::in_namespace(&format!("/run/netns/{}", self.name), work)
    }

    /// Runs a command inside; it must succeed. Returns what it printed.
    pub fn run(&self, words: &str) -> String {
        run(&mut self.command(words))
    }

    /// Runs a command inside, whatever its end.
    pub fn try_run(&self, words: &str) -> Output {
        self.command(words)
            .output()
            .expect("setpriv and nsenter are installed")
    }

    /// Starts a program inside.
    pub fn start(&self, words: &str) -> Running {
        let mut command = self.command(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running {
            child: command.spawn().expect("setpriv and nsenter are installed"),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What cannot be deleted here stays visible by its name in `ip netns`.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; returns whether that was a good one, and what it printed to stderr.
    pub fn wait(mut self, limit: Duration) -> (bool, String) {
        let until = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None if Instant::now() > until => panic!("still runs after {limit:?}"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).expect("prints UTF-8");
        }
        (status.success(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
