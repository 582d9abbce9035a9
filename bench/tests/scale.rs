//! A small cluster (as root, with `keyd` built into the same directory and a control plane's programs): everything
//! that `hauberk-bench scale` measures has a value, and what does not depend on a fast machine is below its bar.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Figures that a busy machine makes worse.
const TIMED: [&str; 6] = [
    "start",
    "one_known",
    "churn_known",
    "moved_known",
    "traffic_wakeups",
    "churn_after",
];
const KEYDS: f64 = 3.0;
/// Two addresses of each pod; two addresses and two prefixes of each node.
const ENTRIES: f64 = 2.0 * (200.0 + KEYDS) + 4.0 * 20.0;

fn scale(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hauberk-bench"));
    command.arg("scale").args(args);
    command
}

#[test]
fn a_small_cluster_in_churn_has_no_wrong_entry_and_a_quiet_node_asks_nothing() {
    let args = "--nodes 20 --pods 200 --keyds 3 --watchers 4 --samples 20 --steady-seconds 15 \
                --churn-minutes 0.4 --churn-rate 300 -o json";
    let args: Vec<_> = args.split_whitespace().collect();
    let output = scale(&args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    let figures = report["figures"].as_array().unwrap();
    let value: BTreeMap<_, _> = figures
        .iter()
        .map(|figure| {
            (
                figure["name"].as_str().unwrap(),
                figure["value"].as_f64().unwrap(),
            )
        })
        .collect();

    // Something was measured.
    assert_eq!(value["compared"], KEYDS * ENTRIES, "{report}");
    assert!(value["churn_rounds"] >= 2.0, "{report}");
    assert!(
        value["churn_compared"] >= value["churn_rounds"] * KEYDS * ENTRIES * 0.9,
        "{report}"
    );
    assert!(value["churn_rate"] > 100.0, "{report}");
    assert!(value["start_requests"] >= 6.0, "{report}");
    assert!(value["traffic_gbps"] > 0.01, "{report}");
    assert!(value["event_bytes"] > 1000.0, "{report}");
    // Two generations of 64 public keys in base64.
    assert!(value["tunnel"] > 2.0 * 64.0 * 44.0, "{report}");

    let missed = |figure: &&Value| {
        let below = figure["below"].as_f64();
        below.is_some_and(|below| figure["value"].as_f64().unwrap() >= below)
    };
    let missed: Vec<_> = figures
        .iter()
        .filter(missed)
        .map(|figure| figure["name"].as_str().unwrap())
        .collect();
    assert!(
        missed.iter().all(|name| TIMED.contains(name)),
        "{missed:?}: {report}"
    );
    let bars = figures.iter().filter(|figure| figure["below"].is_f64());
    assert_eq!(bars.count(), 20, "{report}");
    assert_eq!(report["wrong"], Value::Array(Vec::new()));
    assert_eq!(
        output.status.code(),
        Some(i32::from(!missed.is_empty())),
        "{stderr}"
    );
}

#[test]
fn more_pods_than_have_room_are_refused_before_anything_is_built() {
    let output = scale(&["--nodes", "10", "--pods", "5000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("give more --nodes"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn control_c_leaves_no_namespace_and_no_directory() {
    let mut child = scale(&["--nodes", "20", "--pods", "200", "--keyds", "3"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    said.by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("is ready"))
        .expect("a keyd is ready");
    let id = child.id();
    assert!(!traces(id).is_empty());
    kill(Pid::from_raw(id as i32), Signal::SIGINT).unwrap();
    assert!(!child.wait().unwrap().success());
    // What was killed with it takes a moment to end.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !traces(id).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(100));
    }
    assert_eq!(traces(id), [""; 0]);
}

/// What a run has on the machine: directories, namespaces, and processes that it gave files there.
fn traces(run: u32) -> Vec<String> {
    let of_run = format!("-{run}-");
    let names = |dir: &str| {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
    };
    let directories = ["/run/hauberk-lab", "/run/netns"].into_iter().flat_map(names);
    let commands = names("/proc").filter_map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains("/run/hauberk-lab/").then_some(command)
    });
    let all = directories.chain(commands);
    all.filter(|trace| trace.contains(&of_run)).collect()
}
