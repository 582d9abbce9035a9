//! One TCP stream by iperf3: a server for one test in one namespace, a client in the other, and the client's
//! JSON read into the three figures that count. The rate is the receiver's, so nothing lost is counted.

use std::{
    io::{self, BufRead, BufReader},
    net::IpAddr,
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde::Deserialize;
use thiserror::Error;

use crate::Process;

/// The port of the server; namespaces are ours alone, so it cannot be taken.
const PORT: u16 = 5201;
/// How long a started server may take until it listens.
const SERVER_START: Duration = Duration::from_secs(5);

/// What one stream achieved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// What the receiver got, in 10⁹ bits of TCP payload a second.
    pub gbps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
}

/// Why a stream has no figures.
#[derive(Debug, Error)]
pub enum IperfError {
    /// The program cannot be started.
    #[error("cannot start iperf3 (install Debian's package `iperf3`)")]
    Start(#[source] io::Error),
    /// The server ended or does not listen.
    #[error("iperf3's server does not listen within {} s", SERVER_START.as_secs())]
    NoServer,
    /// iperf3 says what went wrong.
    #[error("iperf3: {0}")]
    Reported(String),
    /// Its answer is not what iperf3 3.x prints.
    #[error("cannot read iperf3's JSON")]
    Json(#[from] serde_json::Error),
}

/// Runs one stream of `seconds` to `server`. Both commands run `iperf3`, each where it shall run.
pub fn stream(
    mut client: Command,
    mut server: Command,
    address: IpAddr,
    seconds: u32,
) -> Result<Stream, IperfError> {
    let (address, port) = (address.to_string(), PORT.to_string());
    server.args(["-s", "-1", "-p", &port, "-B", &address, "--forceflush"]);
    let _server = listening(&mut server)?;
    let output = client
        .args(["-J", "-c", &address, "-p", &port, "-t", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(IperfError::Start)?;
    parse(&output)
}

/// Starts the server and waits until it says that it listens. It ends with its test, or when dropped.
fn listening(server: &mut Command) -> Result<Process, IperfError> {
    server
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = Process::spawn(server).map_err(IperfError::Start)?;
    let said = process.child().stdout.take().ok_or(IperfError::NoServer)?;
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
    wait.recv_timeout(SERVER_START)
        .map_err(|_| IperfError::NoServer)?;
    Ok(process)
}

fn parse(output: &Output) -> Result<Stream, IperfError> {
    let answer: Answer = serde_json::from_slice(&output.stdout)?;
    match (answer.error, answer.end) {
        (Some(error), _) => Err(IperfError::Reported(error)),
        (
            None,
            End {
                sum_sent: Some(sent),
                sum_received: Some(received),
            },
        ) => Ok(Stream {
            gbps: received.bits_per_second / 1e9,
            retransmits: sent.retransmits.unwrap_or_default(),
        }),
        (None, _) => Err(IperfError::Reported("ended without a result".to_owned())),
    }
}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    #[serde(default)]
    end: End,
}

#[derive(Deserialize, Default)]
struct End {
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    bits_per_second: f64,
    retransmits: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn output(stdout: &str) -> Output {
        Output {
            status: std::process::ExitStatus::from_raw(0),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        }
    }

    #[test]
    fn rate_is_the_receivers_and_retransmits_the_senders() {
        let text = r#"{"start":{},"end":{"sum_sent":{"bits_per_second":5.5e9,"retransmits":7,"sender":true},
            "sum_received":{"bits_per_second":5.0e9,"sender":true}}}"#;
        assert_eq!(
            parse(&output(text)).unwrap(),
            Stream {
                gbps: 5.0,
                retransmits: 7
            }
        );
    }

    #[test]
    fn an_error_of_iperf3_is_passed_on() {
        let text = r#"{"start":{},"end":{},"error":"unable to connect to server: Connection refused"}"#;
        let error = parse(&output(text)).unwrap_err().to_string();
        assert_eq!(error, "iperf3: unable to connect to server: Connection refused");
    }

    #[test]
    fn an_answer_without_result_or_without_json_is_an_error() {
        assert!(matches!(parse(&output("{}")), Err(IperfError::Reported(_))));
        assert!(matches!(
            parse(&output("iperf3: usage")),
            Err(IperfError::Json(_))
        ));
    }
}
