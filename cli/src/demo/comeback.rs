//! How soon the two long flows move again after traffic was cut off.

use std::{fmt, time::Duration};

use super::{MOVES, report::Findings, stage::Stage};

/// How soon traffic has to return.
const RETURN: Duration = Duration::from_secs(2);
/// How long the old TCP connection may take: it may be waiting for its next attempt.
const TCP_RETURN: Duration = Duration::from_secs(8);

/// How long it took; the limit where a flow did not come back.
pub struct Comeback {
    udp: Duration,
    tcp: Duration,
}

impl Comeback {
    /// Waits for both flows, and notes whether each came back in time.
    pub fn wait(stage: &Stage, findings: &mut Findings) -> Self {
        let udp = stage.udp.pulse().wait(MOVES, TCP_RETURN);
        returned(findings, "UDP", udp, RETURN);
        let tcp = stage.tcp.pulse().wait(MOVES, TCP_RETURN);
        returned(findings, "the old TCP connection", tcp, TCP_RETURN);
        let udp = udp.unwrap_or(TCP_RETURN);
        let tcp = tcp.map_or(TCP_RETURN, |later| later + udp);
        findings.seconds("return_seconds", udp.as_secs_f64());
        findings.seconds("tcp_return_seconds", tcp.as_secs_f64());
        Self { udp, tcp }
    }
}

impl fmt::Display for Comeback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "UDP is back after {:.0} ms and the old TCP connection after {:.1} s",
            self.udp.as_secs_f64() * 1e3,
            self.tcp.as_secs_f64()
        )
    }
}

/// Notes whether a flow came back in time.
fn returned(findings: &mut Findings, flow: &str, after: Option<Duration>, limit: Duration) {
    match after {
        Some(after) if after <= limit => {}
        Some(after) => findings.expect(
            false,
            format!("{flow} came back after {:.2} s only", after.as_secs_f64()),
        ),
        None => findings.expect(false, format!("{flow} did not come back")),
    }
}
