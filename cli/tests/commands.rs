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

const POLICIES: &str = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {namespace: shop, name: web, labels: {app: web}}
  spec: {containers: []}
  status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: client}
  spec: {containers: []}
  status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8}}]
    ports: [{port: 80}]
  - {from: [{namespaceSelector: {}}], ports: [{port: 81, protocol: UDP}]}
";

#[test]
fn policy_check_says_whether_and_why_by_address_family() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.yaml"), POLICIES).unwrap();
    let path = dir.path().to_str().unwrap();
    let check = |port: &str, output: &str| {
        let args = [
            "--from",
            "default/client",
            "--to",
            "shop/web",
            "--port",
            port,
            "-o",
            output,
        ];
        let done = hauberk(&[&["policy", "check", "-f", path], &args[..]].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout).to_owned()
    };
    let answer: serde_json::Value = serde_json::from_str(&check("80/TCP", "json")).unwrap();
    let by = |rule: &str| serde_json::json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "web", "rule": rule});
    assert_eq!(
        answer,
        serde_json::json!({
            "verdict": "Mixed",
            "byFamily": {"ipv4": "Allow", "ipv6": "Deny"},
            "egress": "Allow",
            "ingress": "Mixed",
            "decided_by": [by("ingress[0]"), by("isolation")],
        })
    );
    let words = check("80/TCP", "table");
    assert!(
        words.contains("ingress of IPv4: ingress[0] of NetworkPolicy shop/web allows it"),
        "{words}"
    );
    assert!(
        words.contains("ingress of IPv6: denied: isolated by NetworkPolicy shop/web"),
        "{words}"
    );
    assert!(check("81/udp", "table").starts_with("default/client to shop/web, 81/UDP: allowed\n"));
}

#[test]
fn policy_table_has_every_pair_of_pods() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    fs::write(&file, POLICIES).unwrap();
    let args = [
        "policy",
        "table",
        "-f",
        file.to_str().unwrap(),
        "--ports",
        "80/TCP,81/UDP",
        "-o",
        "json",
    ];
    let table: serde_json::Value = serde_json::from_slice(&hauberk(&args).stdout).unwrap();
    assert_eq!(
        table["mixed"],
        serde_json::json!([["default/client", "shop/web", "80/TCP", "ipv4"]])
    );
    assert_eq!(table["denied"], serde_json::json!([]));
    assert_eq!(table["allowed"].as_array().unwrap().len(), 7);
    let words = hauberk(&args[..6]);
    assert!(
        text(&words.stdout).contains("ipv4 only"),
        "{}",
        text(&words.stdout)
    );
}

#[test]
fn policy_names_what_means_nothing_and_refuses_what_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let misspelt = POLICIES
        .replace("podSelector", "podSelectors")
        .replace("10.0.0.0/8", "10.0.0.1/8");
    fs::write(dir.path().join("all.yaml"), misspelt).unwrap();
    let args = [
        "policy",
        "check",
        "-f",
        path,
        "--from",
        "default/client",
        "--to",
        "shop/web",
        "--port",
        "80/TCP",
    ];
    let checked = hauberk(&args);
    let said = text(&checked.stderr);
    assert!(
        said.contains("NetworkPolicy web: field spec.podSelectors is not known"),
        "{said}"
    );
    assert!(
        said.contains("spec.ingress[0].from[0].ipBlock.cidr: 10.0.0.1/8 has bits set"),
        "{said}"
    );
    assert!(text(&checked.stdout).starts_with("default/client to shop/web, 80/TCP: denied\n"));

    fs::write(
        dir.path().join("all.yaml"),
        POLICIES.replace("port: 80", "port: {}"),
    )
    .unwrap();
    let refused = hauberk(&args);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("NetworkPolicy web cannot be read"),
        "{}",
        text(&refused.stderr)
    );

    let empty = tempfile::tempdir().unwrap();
    let nothing = [
        "policy",
        "table",
        "-f",
        empty.path().to_str().unwrap(),
        "--ports",
        "80/TCP",
    ];
    let refused = hauberk(&nothing);
    assert!(
        text(&refused.stderr).contains("no Pod and no policy in "),
        "{}",
        text(&refused.stderr)
    );
}
