//! The commands as a user or a script meets them: what they print, where, and with which exit code.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const MESH: &str = "apiVersion: hauberk.dev/v1alpha1
kind: Mesh
metadata:
  name: default
spec:
  encryption:
    enabled: false   # not yet
  policy:
    enforcer: Hauberk
";

fn hauberk(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hauberk"))
        .args(args)
        .env_remove("HAUBERK_SOURCE")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn manifests() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mesh.yaml"), MESH).unwrap();
    fs::write(dir.path().join("node.yaml"), "kind: Node\nmetadata: {name: a}\n").unwrap();
    let source = format!("dir:{}", dir.path().display());
    (dir, source)
}

#[test]
fn encryption_is_enabled_and_disabled_in_the_manifest_and_comments_stay() {
    let (dir, source) = manifests();
    let enabled = hauberk(&["enable", "encryption", "--source", &source]);
    assert!(enabled.status.success(), "{}", text(&enabled.stderr));
    assert!(text(&enabled.stdout).starts_with("encryption enabled in "));
    let mesh = fs::read_to_string(dir.path().join("mesh.yaml")).unwrap();
    assert_eq!(mesh, MESH.replace("false", "true"));

    let again = hauberk(&["enable", "encryption", "--source", &source]);
    assert!(text(&again.stdout).starts_with("encryption was enabled already"));
    assert!(
        hauberk(&["disable", "encryption", "--source", &source])
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(dir.path().join("mesh.yaml")).unwrap(), MESH);
}

#[test]
fn status_is_json_for_programs_and_a_table_without_colours_for_pipes() {
    let (_dir, source) = manifests();
    let json = hauberk(&["status", "--source", &source, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["phase"], "Off");
    assert_eq!(json["enforcer"], "Hauberk");
    assert_eq!(json["nodes"][0]["name"], "a");
    assert_eq!(json["nodes"][0]["encrypted"], false);

    let table = hauberk(&["status", "--source", &source]);
    assert!(text(&table.stdout).contains("Off (0 of 1 nodes encrypted)"));
    assert!(!text(&table.stdout).contains('\x1b'));
}

#[test]
fn a_failure_is_one_line_that_names_the_place_and_exit_code_1() {
    let failed = hauberk(&["status", "--source", "dir:/nonexistent/manifests"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.stdout.is_empty());
    let line = text(&failed.stderr);
    assert!(
        line.starts_with("hauberk: cannot read /nonexistent/manifests"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn wrong_usage_has_exit_code_2() {
    for args in [
        &["status", "--source", "file:/"][..],
        &["enable", "speed", "--source", "dir:/"],
        &["x"],
    ] {
        assert_eq!(hauberk(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn installed_as_kubectl_plugin_it_says_so_in_its_help() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-hauberk");
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_hauberk")), &plugin).unwrap();
    let help = Command::new(plugin).arg("--help").output().unwrap();
    assert!(
        text(&help.stdout).contains("Usage: kubectl hauberk <COMMAND>"),
        "{}",
        text(&help.stdout)
    );
}

#[test]
fn completions_are_a_script_for_the_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = hauberk(&["completions", shell]);
        assert!(script.status.success());
        assert!(text(&script.stdout).contains("status"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (_dir, source) = manifests();
    let pipe = format!(
        "'{}' completions bash | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_hauberk")
    );
    let status = Command::new("bash")
        .args(["-c", &pipe])
        .env("HAUBERK_SOURCE", source)
        .status()
        .unwrap();
    assert!(status.success());
}
