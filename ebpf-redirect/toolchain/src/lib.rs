//! Builds an eBPF crate from a build script: finds a compiler for BPF, runs cargo with it, leaves the
//! objects in `OUT_DIR`.
//!
//! Two kinds of compiler do: a distribution's rustc that has `core` already compiled for
//! `bpfel-unknown-none` (Debian's `libstd-rust-web-dev-bpf`), which is preferred because it needs nothing
//! downloaded, and rustup's nightly with `rust-src`, with which `core` is built here. Finding neither is
//! one line that says what to install. Nothing is ever installed by this crate.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

mod compiler;
mod deps;

use compiler::Compiler;

/// Why the eBPF objects could not be built.
///
/// Its `Debug` is its text, so that a build script may be `fn main() -> Result<(), BuildError>` and cargo
/// shows the operator one readable line.
pub struct BuildError(String);

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BuildError {}

/// Compiles the binaries `bins` of the crate in `crate_dir` for BPF, to `OUT_DIR/<bin>`.
///
/// The crate has a lock file of its own and lies outside the workspace. Build scripts call this; the
/// objects are then `aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/<bin>"))`. Prints cargo's
/// `rerun-if-changed` for every source file that went into the objects.
///
/// # Errors
/// No compiler or no `bpf-linker` is found, or the crate does not compile (cargo's words are on stderr).
pub fn build(crate_dir: &Path, bins: &[&str]) -> Result<(), BuildError> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    if variable("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        return Err(BuildError(
            "eBPF programs are built for little-endian machines only".into(),
        ));
    }
    let crate_dir = fs::canonicalize(crate_dir).map_err(|e| {
        BuildError(format!(
            "the eBPF crate {} cannot be read: {e}",
            crate_dir.display()
        ))
    })?;
    let compiler = Compiler::find()?;
    let linker = compiler::find_linker()?;

    // Apart from the objects: cargo locks its target directory, and the outer cargo holds its own.
    let target_dir = out_dir.join("bpf-target");
    let mut cargo = compiler.cargo();
    cargo
        .current_dir(&crate_dir)
        .args(["build", "--release", "--target", compiler::TARGET, "--target-dir"])
        .arg(&target_dir)
        .args(compiler.cargo_args());
    if crate_dir.join("Cargo.lock").is_file() {
        cargo.arg("--locked");
    }
    for bin in bins {
        cargo.args(["--bin", bin]);
    }
    forget_outer_cargo(&mut cargo);
    compiler.set_environment(&mut cargo);
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        format!("-Clinker={}", linker.display()),
    ];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let status = cargo
        .status()
        .map_err(|e| BuildError(format!("cargo cannot be started for the eBPF crate: {e}")))?;
    if !status.success() {
        return Err(BuildError(format!(
            "the eBPF crate {} does not build ({status})",
            crate_dir.display()
        )));
    }

    let built = target_dir.join(compiler::TARGET).join("release");
    for bin in bins {
        copy(&built.join(bin), &out_dir.join(bin))?;
        deps::print_rerun(&built.join(format!("{bin}.d")), &crate_dir);
    }
    Ok(())
}

/// What the outer cargo and clippy put in the environment is meant for the host's compiler.
fn forget_outer_cargo(cargo: &mut Command) {
    for name in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTC",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "CLIPPY_ARGS",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
    ] {
        cargo.env_remove(name);
    }
}

fn variable(name: &str) -> Result<String, BuildError> {
    env::var(name).map_err(|_| {
        BuildError(format!(
            "{name} is not set: hauberk_toolchain::build is for build scripts"
        ))
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    let copied: io::Result<u64> = fs::copy(from, to);
    copied.map(|_| ()).map_err(|e| {
        BuildError(format!(
            "{} cannot be copied to {}: {e}",
            from.display(),
            to.display()
        ))
    })
}
