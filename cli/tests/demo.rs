//! The demo as `make demo` runs it (as root, with `keyd` built into the same directory).

use std::{
    process::Command,
    time::{Duration, Instant},
};

const STEPS: [&str; 6] = ["clear", "flip-on", "speed", "missing-key", "crash", "flip-off"];

#[test]
fn every_step_of_the_demo_holds_within_a_minute() {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_hauberk"))
        .args(["demo", "-o", "json"])
        .output()
        .unwrap();
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let names: Vec<_> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, STEPS);
    assert_eq!(report["ok"], true, "{report:#}");
    assert!(output.status.success());
    assert!(took < Duration::from_secs(60), "took {took:?}");
}
