//! The plugin itself: a call in, a result out.
//!
//! Stages of an ADD: 1. parse the call, 2. find the host's end of the interface, 3. ask keyd, again while it is not
//! there, until the time is over, 4. pass the previous result on as it came. It writes no file and changes nothing.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ask::{Answer, Request, ask};
use super::call::{Action, Asking, Call, CallError, Environment, version_of};
use super::{VERSIONS, peer};

/// Between two tries to reach keyd.
const RETRY: Duration = Duration::from_millis(50);
/// How long a DEL or GC looks for keyd. Neither is lost with it: keyd forgets by itself what has no interface.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the process shall print on standard output, and whether it succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// JSON, or nothing.
    pub stdout: String,
    /// Whether the exit code is 0.
    pub success: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionResult<'a> {
    cni_version: &'a str,
    supported_versions: [&'static str; VERSIONS.len()],
}

/// Serves one call.
pub fn run(environment: &Environment, stdin: &[u8]) -> Outcome {
    match serve(environment, stdin) {
        Ok(stdout) => Outcome {
            stdout,
            success: true,
        },
        Err(error) => Outcome {
            stdout: serde_json::to_string(&error.result(&version_of(stdin)))
                .expect("an error has text keys only"),
            success: false,
        },
    }
}

fn serve(environment: &Environment, stdin: &[u8]) -> Result<String, CallError> {
    let Call { version, action } = Call::parse(environment, stdin)?;
    let Asking {
        mut request,
        netns,
        previous,
        socket,
        patience,
    } = match action {
        Action::Version => {
            let result = VersionResult {
                cni_version: &version,
                supported_versions: VERSIONS,
            };
            return Ok(serde_json::to_string(&result).expect("a result has text keys only"));
        }
        // A runtime that hears "not available" takes its whole node for not ready, and after minutes its pods are
        // moved elsewhere. They do well without keyd; only new ones have to wait, and ADD sees to that.
        Action::Status => return Ok(String::new()),
        Action::Ask(asking) => *asking,
    };
    if let (Request::Add(attachment) | Request::Check(attachment), Some(netns)) = (&mut request, &netns) {
        let found = peer::of(netns, &attachment.key.ifname);
        attachment.host_side.peer = found.map_err(|source| CallError::System {
            what: format!("{} in {}", attachment.key.ifname, netns.display()),
            source,
        })?;
    }
    let leaving = matches!(request, Request::Del(_) | Request::Gc { .. });
    let patience = if leaving { patience.min(FAREWELL) } else { patience };
    match ask_until(&socket, &request, Instant::now() + patience) {
        // A pod must be able to end without keyd.
        Ok(_) | Err(_) if leaving => Ok(String::new()),
        Ok(Answer::Done) => Ok(match (request, previous) {
            (Request::Add(_), Some(previous)) => previous.get().to_owned(),
            _ => String::new(),
        }),
        Ok(Answer::NotYet { reason }) => Err(CallError::NotYet(reason)),
        Ok(Answer::Refused { reason }) => Err(CallError::Refused(reason)),
        Err(source) => Err(CallError::NoKeyd { socket, source }),
    }
}

/// Asks until keyd answers. keyd may be late, or be replaced while it is asked; asking twice does no harm.
fn ask_until(socket: &Path, request: &Request, deadline: Instant) -> io::Result<Answer> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(socket, request, left) {
            Err(error) if comes_back(&error) && left > RETRY => thread::sleep(RETRY),
            answer => return answer,
        }
    }
}

/// Whether an error says that keyd is away, which may change.
fn comes_back(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    let kinds = [
        NotFound,
        ConnectionRefused,
        ConnectionReset,
        BrokenPipe,
        UnexpectedEof,
    ];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str, config: &str) -> (Outcome, serde_json::Value) {
        let environment = Environment {
            command: command.into(),
            container: "c1".into(),
            netns: "/proc/self/ns/net".into(),
            ifname: "lo".into(),
            args: String::new(),
        };
        let outcome = run(&environment, config.as_bytes());
        let said = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        (outcome, said)
    }

    #[test]
    fn version_lists_what_is_spoken() {
        let (outcome, said) = call("VERSION", r#"{"cniVersion":"0.4.0"}"#);
        assert!(outcome.success);
        assert_eq!(said["cniVersion"], "0.4.0");
        assert_eq!(said["supportedVersions"][4], "1.1.0");
    }

    #[test]
    fn without_keyd_a_pod_can_end() {
        let config = r#"{"cniVersion":"1.0.0","socket":"/nonexistent/cni.sock","timeoutSeconds":0}"#;
        let (outcome, _) = call("DEL", config);
        assert_eq!((outcome.success, outcome.stdout.as_str()), (true, ""));
    }
}
