//! Step `missing-key`: node b's NodeTunnel is taken away from the other nodes. They may send nothing to b in clear and
//! have to count what they drop; when it is back, traffic returns.

use std::time::Duration;

use super::{
    error::DemoError,
    report::{Findings, Step},
    stage::{Crossed, Stage},
};

/// How long the key is missing; TCP's next attempt then comes soon after it is back.
const MISSING: Duration = Duration::from_millis(1200);
/// How soon traffic has to return.
pub const RETURN: Duration = Duration::from_secs(2);
/// How long the old TCP connection may take: it may be waiting for its next attempt.
pub const TCP_RETURN: Duration = Duration::from_secs(8);
/// Why packets to a peer without key are dropped.
const REASON: &str = "PeerKeyMissing";
/// What is taken away.
const TUNNEL: &str = "nodetunnel-b.yaml";

/// The step, and what crossed.
pub fn run(stage: &Stage) -> Result<(Step, Crossed), DemoError> {
    let mut findings = Findings::default();
    let fabric = stage.lab.fabric();
    let before = stage.dropped(REASON)?;
    fabric.reset()?;
    for node in ["a", "c"] {
        stage.mesh.replicas().hide(node, TUNNEL);
    }
    std::thread::sleep(MISSING);
    for node in ["a", "c"] {
        stage.mesh.replicas().unhide(node, TUNNEL);
    }
    let udp = stage.udp.pulse().wait(super::MOVES, TCP_RETURN);
    super::returned(&mut findings, "UDP", udp, RETURN);
    let tcp = stage.tcp.pulse().wait(super::MOVES, TCP_RETURN);
    super::returned(&mut findings, "the old TCP connection", tcp, TCP_RETURN);

    let dropped = stage.dropped_since(REASON, before)?;
    let crossed = Crossed::from(fabric.counts()?);
    findings.expect(dropped > 0, format!("no drop counted as {REASON}"));
    findings.expect(crossed.clear == 0, format!("{} packets in clear", crossed.clear));
    findings.figure("clear_packets", crossed.clear);
    findings.figure("dropped_peer_key_missing", dropped);
    let udp = udp.unwrap_or(TCP_RETURN);
    let tcp = tcp.map_or(TCP_RETURN, |later| later + udp);
    findings.seconds("return_seconds", udp.as_secs_f64());
    findings.seconds("tcp_return_seconds", tcp.as_secs_f64());
    let summary = format!(
        "without b's key 0 packets in clear, {dropped} dropped as {REASON}; with it again UDP is back after {:.0} ms \
         and the old TCP connection after {:.1} s",
        udp.as_secs_f64() * 1e3,
        tcp.as_secs_f64()
    );
    Ok((findings.into_step("missing-key", summary), crossed))
}
