//! Container images without a container engine: a few files and what to run, as the tar of an OCI layout.
//!
//! One layer, not compressed; the same content gives the same bytes. `ctr images import` and `docker load`
//! read it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::KubernetesError;
use crate::{LabError, error::file, system::run};
use archive::Archive;

mod archive;

/// Where Debian's busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";

/// An image in the making.
pub struct Image {
    names: Vec<String>,
    entrypoint: Vec<String>,
    layer: Archive,
}

impl Image {
    /// An empty one with this full name (`hauberk.test/keyd:1`), for this machine's architecture, which
    /// runs `entrypoint` as root.
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            names: vec![name.into()],
            entrypoint: entrypoint.iter().map(|&s| s.into()).collect(),
            layer: Archive::new(),
        }
    }

    /// `hauberk.test/busybox:1`, a static busybox with its applets in `/bin`, which sleeps unless it is told
    /// what to run; also named `hauberk.test/pause:1`, for the process that holds a pod's namespaces.
    ///
    /// # Errors
    /// No busybox-static is installed.
    pub fn busybox() -> Result<Self, KubernetesError> {
        let program = Path::new(BUSYBOX);
        let content = fs::read(program).map_err(file("busybox-static is needed; cannot read", program))?;
        let applets = run(std::process::Command::new(program).arg("--list"))?.stdout;
        let mut image = Self::new("hauberk.test/busybox:1", &["/bin/sleep", "2147483647"])
            .also_named("hauberk.test/pause:1")
            .directory("tmp", 0o1777)
            .directory("etc", 0o755)
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            )
            .directory("bin", 0o755)
            .file("bin/busybox", 0o755, &content);
        for applet in String::from_utf8_lossy(&applets).split_whitespace() {
            if applet != "busybox" {
                image = image.link(&format!("bin/{applet}"), "busybox");
            }
        }
        Ok(image)
    }

    /// The same image by one more name.
    #[must_use]
    pub fn also_named(mut self, name: &str) -> Self {
        self.names.push(name.into());
        self
    }

    /// A directory, `path` without a leading slash; those above it come first.
    #[must_use]
    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.layer.directory(path, mode);
        self
    }

    /// A file.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.layer.file(path, mode, content);
        self
    }

    /// A program of this machine at `path`, with the shared libraries that it needs, where the loader finds them.
    ///
    /// # Errors
    /// It cannot be read, or a library is missing on this machine.
    pub fn program(mut self, path: &str, program: &Path) -> Result<Self, KubernetesError> {
        let content = fs::read(program).map_err(file("cannot read", program))?;
        self = self.file(path, 0o755, &content);
        for library in libraries(program)? {
            let content = fs::read(&library).map_err(file("cannot read", &library))?;
            let inside = library.to_string_lossy().into_owned();
            self = self.file(inside.trim_start_matches('/'), 0o755, &content);
        }
        Ok(self)
    }

    /// A symbolic link at `path`.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.layer.link(path, target);
        self
    }

    /// Writes the tar.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(self, to: &Path) -> Result<(), KubernetesError> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut tar = Archive::new();
        tar.directory("blobs", 0o755);
        tar.directory("blobs/sha256", 0o755);
        let layer = self.layer.finish();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        });
        let layer = blob(&mut tar, "application/vnd.oci.image.layer.v1.tar", &layer);
        let config = document(&mut tar, "application/vnd.oci.image.config.v1+json", &config);
        // As `docker save` names them, for engines that do not read the specification's index.
        let blob_path = |of: &Value| {
            format!(
                "blobs/{}",
                of["digest"].as_str().unwrap_or_default().replace(':', "/")
            )
        };
        let saved =
            json!([{"Config": blob_path(&config), "RepoTags": self.names, "Layers": [blob_path(&layer)]}]);
        tar.file("manifest.json", 0o644, saved.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = document(&mut tar, "application/vnd.oci.image.manifest.v1+json", &manifest);
        let named = |name: &String| {
            let mut manifest = manifest.clone();
            // The second one is containerd's: a reference name in the specification is only a tag.
            manifest["annotations"] = json!({
                "org.opencontainers.image.ref.name": name.rsplit(':').next(),
                "io.containerd.image.name": name,
            });
            manifest
        };
        let manifests: Vec<_> = self.names.iter().map(named).collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        tar.file("index.json", 0o644, index.as_bytes());
        tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let written: Result<(), LabError> = fs::write(to, tar.finish()).map_err(file("cannot write", to));
        Ok(written?)
    }
}

/// As `ldd` lists them: `NAME => PATH (ADDRESS)`, and the loader itself without a name. None of a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, LabError> {
    let listed = std::process::Command::new("ldd").arg(program).output();
    let listed = listed
        .map_err(file("ldd is needed to look into", program))?
        .stdout;
    let lines = String::from_utf8_lossy(&listed).into_owned();
    let paths = lines
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn document(tar: &mut Archive, media_type: &str, content: &Value) -> Value {
    blob(tar, media_type, content.to_string().as_bytes())
}

/// Adds content under the name of its digest, and describes it.
fn blob(tar: &mut Archive, media_type: &str, content: &[u8]) -> Value {
    let digest = sha256(content);
    let path = format!("blobs/{}", digest.replace(':', "/"));
    tar.file(&path, 0o644, content);
    json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

fn sha256(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    digest
        .as_ref()
        .iter()
        .fold("sha256:".into(), |text, byte| format!("{text}{byte:02x}"))
}
