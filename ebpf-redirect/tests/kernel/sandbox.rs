//! A network namespace and a BPF file system of a test's own, which end with the test's thread.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use hauberk_ebpf_redirect::{
    AttachMode, DryRun, Hook, Options, Redirect,
    abi::{Config, Count, Counter, DEVICE_UPLINK, Device, DropReason},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};

/// TC answers of the programs.
pub const NEXT: i32 = -1;
pub const DROP: i32 = 2;
pub const REDIRECT: i32 = 7;

/// A BPF file system that nobody else sees, as long as the value lives.
pub struct Bpffs(tempfile::TempDir);

impl Bpffs {
    /// Gives this thread mounts of its own, and more if it is told so.
    pub fn new(more: CloneFlags) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: they load eBPF programs"
        );
        unshare(CloneFlags::CLONE_NEWNS | more).expect("own namespaces");
        let mount = |source, target: &Path, kind, flags| {
            mount(source, target, kind, flags, None::<&str>).expect("a mount");
        };
        // Mounts shall not be seen outside, not even for a moment.
        mount(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        let directory = tempfile::tempdir().expect("a directory");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty());
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Else the directory could not be removed; the mount itself ends with the thread in any case.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// The test's thread is in namespaces of its own from `new` on: nothing of what it makes is seen outside, and
/// the kernel takes all of it away when the thread ends, panic or not.
pub struct Sandbox {
    pub redirect: Redirect,
    pub pin_dir: PathBuf,
    bpffs: Bpffs,
}

/// The sandbox while no process has the programs open.
pub struct Pins(Bpffs);

impl Pins {
    /// As a restarted process does.
    pub fn open(self, options: Options) -> Sandbox {
        let pin_dir = options.pin_dir.clone();
        let redirect = Redirect::open(options).expect("the pins are re-used");
        Sandbox {
            redirect,
            pin_dir,
            bpffs: self.0,
        }
    }
}

impl Sandbox {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let bpffs = Bpffs::new(CloneFlags::CLONE_NEWNET);
        run("ip link set lo up");
        let pin_dir = bpffs.path().join("node");
        let mut options = options(&pin_dir);
        change(&mut options);
        let redirect = Redirect::open(options).expect("the programs load");
        Self {
            redirect,
            pin_dir,
            bpffs,
        }
    }

    /// As when the process ends: only what is pinned stays.
    pub fn release(self) -> Pins {
        Pins(self.bpffs)
    }

    /// As a second process does while the first still runs.
    pub fn reopen(&mut self) {
        self.redirect = Redirect::open(options(&self.pin_dir)).expect("the pins are re-used");
    }

    pub fn flags(&mut self, flags: u32) {
        self.redirect
            .set_config(Config {
                flags,
                ..Config::default()
            })
            .expect("CONFIG");
    }

    /// A pair of veths; answers the ifindex of the first.
    pub fn device(&self) -> u32 {
        static NEXT_NAME: AtomicU32 = AtomicU32::new(0);
        let n = NEXT_NAME.fetch_add(1, Ordering::Relaxed);
        run(&format!("ip link add hbt{n} type veth peer name hbp{n}"));
        run(&format!("ip link set hbt{n} up"));
        ifindex(&format!("hbt{n}"))
    }

    /// A pair of veths, the first of which the guard knows.
    pub fn uplink(&mut self) -> u32 {
        let device = self.device();
        self.know(&[device]);
        device
    }

    /// Tells the guard of Ethernet devices, and of no others.
    pub fn know(&mut self, uplinks: &[u32]) {
        let device = Device {
            mac: [6; 6],
            kind: DEVICE_UPLINK,
        };
        let devices = uplinks.iter().map(|&ifindex| (ifindex, device)).collect();
        self.redirect.sync_devices(&devices).expect("DEVICES");
    }

    /// Runs a program on a packet that the device received; asserts that a drop is counted once under the reason that
    /// is given.
    pub fn run(&self, hook: Hook, packet: &[u8], device: u32) -> Outcome {
        self.run_from(hook, packet, device, device)
    }

    /// The same with a packet that came by another device, or by none.
    pub fn run_from(&self, hook: Hook, packet: &[u8], device: u32, received_on: u32) -> Outcome {
        let before = self.redirect.drops().expect("DROPS");
        let DryRun { code, packet } = self
            .redirect
            .dry_run(hook, packet, device, received_on)
            .expect("the program runs");
        let after = self.redirect.drops().expect("DROPS");
        let reasons: Vec<DropReason> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before.1 != after.1)
            .map(|(_, after)| after.0)
            .collect();
        match code {
            DROP => {
                assert_eq!(reasons.len(), 1, "a drop has one reason: {reasons:?}");
                Outcome::Dropped(reasons[0])
            }
            NEXT => {
                assert!(
                    reasons.is_empty(),
                    "counted as dropped and let through: {reasons:?}"
                );
                Outcome::Next
            }
            REDIRECT => {
                assert!(
                    reasons.is_empty(),
                    "counted as dropped and redirected: {reasons:?}"
                );
                Outcome::Redirected(packet)
            }
            other => panic!("{hook} answered {other}"),
        }
    }

    pub fn counted(&self, counter: Counter) -> Count {
        let all = self.redirect.counters().expect("COUNTERS");
        all.iter()
            .find(|(c, _)| *c == counter)
            .expect("every counter is listed")
            .1
    }

    pub fn dropped(&self, reason: DropReason) -> Count {
        let all = self.redirect.drops().expect("DROPS");
        all.iter()
            .find(|(r, _)| *r == reason)
            .expect("every reason is listed")
            .1
    }
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Next,
    Dropped(DropReason),
    /// With the packet as it goes on.
    Redirected(Vec<u8>),
}

impl Outcome {
    pub fn is_redirect(&self) -> bool {
        matches!(self, Self::Redirected(_))
    }
}

pub fn options(pin_dir: &Path) -> Options {
    Options {
        pin_dir: pin_dir.to_owned(),
        attach: attach_mode(),
        ..Options::default()
    }
}

/// As the environment says, so that CI can run all tests both ways.
pub fn attach_mode() -> AttachMode {
    match env::var("HAUBERK_ATTACH").as_deref() {
        Ok("tcx") => AttachMode::Tcx,
        Ok("clsact") => AttachMode::Clsact,
        Ok(other) => panic!("HAUBERK_ATTACH is tcx or clsact, not {other}"),
        Err(_) => AttachMode::Auto,
    }
}

pub fn ifindex(device: &str) -> u32 {
    if_nametoindex(device).unwrap_or_else(|e| panic!("{device}: {e}"))
}

/// Runs a command that must succeed, in this thread's namespaces.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("{command}: {e}"));
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
