//! A short measurement (as root, with `keyd` and `hauberk-wg` built into the same directory, beside Debian's
//! `wireguard-go`): the answer has its documented shape, and Hauberk is ahead.

use std::process::Command;

use serde_json::Value;

fn local(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hauberk-bench"))
        .arg("local")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn hauberk_is_ahead_of_wireguard_go_and_encrypted_pods_reach_each_other() {
    let args = [
        "--rounds",
        "3",
        "--seconds",
        "2",
        "--no-unpinned",
        "-o",
        "json",
        "--peer",
        "wireguard-go=wireguard-go",
    ];
    let (code, stdout, stderr) = local(&args);
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();

    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3 * (3 + 2));
    for run in runs {
        assert_eq!(run["pinned"], true);
        for figure in ["gbps", "cpu_busy", "rtt_p50_us", "rtt_p99_us"] {
            assert!(run[figure].as_f64().unwrap() > 0.0, "{run}");
        }
        assert!(run["retransmits"].is_u64(), "{run}");
    }
    for (system, case) in [
        ("plain", "node-tcp"),
        ("hauberk", "node-tcp"),
        ("wireguard-go", "node-tcp"),
        ("hauberk", "pod-tcp"),
    ] {
        assert!(
            report["median"][system][case].as_f64().unwrap() > 0.0,
            "{system} {case}"
        );
    }
    let ahead = &report["ratio"]["wireguard-go"]["node-tcp"];
    assert!(ahead["median"].as_f64().unwrap() > 1.0, "{ahead}");
    assert!(report["ratio"]["plain"]["pod-tcp"]["low"].as_f64().unwrap() > 0.0);
    assert!(report["ratio"]["hauberk"].is_null());
}

#[test]
fn a_peer_that_cannot_start_is_named_in_one_line() {
    let (code, stdout, stderr) = local(&[
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--cases",
        "node-tcp",
        "--peer",
        "broken=false",
    ]);
    assert_eq!(code, Some(1));
    assert!(stdout.is_empty());
    assert!(
        stderr.starts_with("hauberk-bench: broken (`false`): did not come up"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn a_peer_is_refused_when_its_case_is_left_out() {
    let (code, _, stderr) = local(&["--cases", "pod-tcp", "--peer", "x=a"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--peer is measured in node-tcp"), "{stderr}");
}

#[test]
fn two_peers_of_one_name_are_refused_before_anything_is_built() {
    let (code, _, stderr) = local(&["--peer", "x=a", "--peer", "x=b"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("two peers are named `x`"), "{stderr}");
}
