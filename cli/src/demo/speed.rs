//! What iperf3 gets between two pods, plain and encrypted.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use hauberk_netlab::{Pod, Process};
use serde_json::Value;

use super::error::DemoError;

/// Seconds of load that count; one more before them is left out.
const SECONDS: &str = "2";
/// How long iperf3's server may take to listen.
const START: Duration = Duration::from_secs(3);

/// One TCP stream over IPv4, in 10⁹ bits of payload a second, as the receiver counts them.
pub fn gbps(from: &Pod, to: &Pod) -> Result<f64, DemoError> {
    let failed = |why: &str| DemoError::Command {
        command: "iperf3".to_owned(),
        why: why.to_owned(),
    };
    let mut server = to.command("iperf3");
    server
        .args(["-s", "-1", "--forceflush"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Process::spawn(&mut server)?;
    let said = server
        .child()
        .stdout
        .take()
        .ok_or_else(|| failed("its server says nothing"))?;
    let (listens, wait) = mpsc::channel();
    // Reads to the end: a server whose pipe is gone dies in the middle of its test.
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if line.contains("listening") {
                // Nobody waits any more when it came too late.
                let _ = listens.send(());
            }
        }
    });
    wait.recv_timeout(START)
        .map_err(|_| failed("its server does not listen"))?;

    let output = from
        .command("iperf3")
        .args(["-J", "-O", "1", "-t", SECONDS, "-c", &to.v4().to_string()])
        .stdin(Stdio::null())
        .output()?;
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error.to_string()))?;
    match (
        answer["error"].as_str(),
        answer["end"]["sum_received"]["bits_per_second"].as_f64(),
    ) {
        (None, Some(bits)) => Ok(bits / 1e9),
        (error, _) => Err(failed(error.unwrap_or("it ended without a result"))),
    }
}
