//! Step `missing-key`: node b's NodeTunnel is taken away from the other nodes. They may send nothing to b in clear and
//! have to count what they drop; when it is back, traffic returns.

use std::time::Duration;

use super::{
    comeback::Comeback,
    error::DemoError,
    report::{Findings, Step},
    stage::{Crossed, Stage},
};

/// How long the key is missing; TCP's next attempt then comes soon after it is back.
const MISSING: Duration = Duration::from_millis(1200);
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
    let comeback = Comeback::wait(stage, &mut findings);
    let dropped = stage.dropped_since(REASON, before)?;
    let crossed = Crossed::from(fabric.counts()?);
    findings.expect(dropped > 0, format!("no drop counted as {REASON}"));
    findings.expect(crossed.clear == 0, format!("{} packets in clear", crossed.clear));
    findings.figure("clear_packets", crossed.clear);
    findings.figure("dropped_peer_key_missing", dropped);
    let summary = format!(
        "without b's key 0 packets in clear, {dropped} dropped as {REASON}; with it again {comeback}"
    );
    Ok((findings.into_step("missing-key", summary), crossed))
}
