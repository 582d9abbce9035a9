//! Which compiler and linker build for BPF on this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::BuildError;

/// The little-endian BPF target, without an operating system.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Debian's `rustc-web` is here; rustup's shims come before it on most paths, so the path is tried as such.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

const NOTHING_FOUND: &str = "no compiler for BPF: install Debian's packages `apt install rustc-web \
     libstd-rust-web-dev libstd-rust-web-dev-bpf`, or rustup's nightly by `rustup toolchain install nightly \
     --component rust-src`";
const NO_LINKER: &str = "bpf-linker is not installed: with Debian's llvm-22-dev, `LLVM_PREFIX=$(llvm-config-22 \
     --prefix) cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22`; with \
     rustup's nightly, `cargo install bpf-linker`";

/// A compiler that can build `core` for BPF, or has it.
pub(crate) enum Compiler {
    /// A stable rustc with a compiled `core` for the target.
    Distribution { rustc: PathBuf },
    /// rustup's nightly, which compiles `core` itself.
    Nightly,
}

impl Compiler {
    /// The first that works, the distribution's before rustup's.
    pub(crate) fn find() -> Result<Self, BuildError> {
        let rustc = PathBuf::from(DISTRIBUTION_RUSTC);
        if has_compiled_core(&rustc) {
            return Ok(Self::Distribution { rustc });
        }
        if nightly_has_sources() {
            return Ok(Self::Nightly);
        }
        Err(BuildError(NOTHING_FOUND.into()))
    }

    /// The cargo to run: any will do with a distribution's rustc; the nightly's own with nightly.
    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Distribution { .. } => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "cargo"]);
                rustup
            }
        }
    }

    /// Arguments for cargo besides the usual ones.
    pub(crate) fn cargo_args(&self) -> &'static [&'static str] {
        match self {
            Self::Distribution { .. } => &[],
            Self::Nightly => &["-Zbuild-std=core"],
        }
    }

    pub(crate) fn set_environment(&self, cargo: &mut Command) {
        match self {
            Self::Distribution { rustc } => {
                // aya-ebpf uses `asm_experimental_arch`, which a stable compiler opens only by this variable.
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            }
            Self::Nightly => {
                cargo.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
            }
        }
    }
}

/// `bpf-linker` on the path, or where `cargo install` puts it.
pub(crate) fn find_linker() -> Result<PathBuf, BuildError> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|dir| dir.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| BuildError(NO_LINKER.into()))
}

fn has_compiled_core(rustc: &Path) -> bool {
    let Some(dir) = stdout(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET])) else {
        return false;
    };
    let Ok(entries) = Path::new(&dir).read_dir() else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn nightly_has_sources() -> bool {
    stdout(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"])).is_some_and(
        |root| {
            Path::new(&root)
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
        },
    )
}

fn stdout(command: &mut Command) -> Option<String> {
    // A build script of a clippy run sees wrappers' variables; they would change what rustc prints.
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
