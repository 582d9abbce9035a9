//! Step `crash`: `kill -9` of node b's keyd under traffic. The programs in the kernel go on: nothing leaves in clear, not
//! even to covered addresses of which nobody knows whose they are. Restarted, keyd resumes the generation of its key
//! file, traffic returns and the old TCP connection goes on.

use std::time::{Duration, Instant};

use super::{
    comeback::Comeback,
    error::DemoError,
    probe,
    report::{Findings, Step},
    stage::{Crossed, Stage, UNKNOWN},
};

/// How long keyd is dead.
const DEAD: Duration = Duration::from_millis(1200);
/// Why packets to a covered address that nobody has are dropped.
const REASON: &str = "UnknownPeer";
/// Pause between packets to addresses that nobody has.
const PACE: Duration = Duration::from_millis(50);

/// The step, and what crossed.
pub fn run(stage: &mut Stage) -> Result<(Step, Crossed), DemoError> {
    let mut findings = Findings::default();
    let before = stage.dropped(REASON)?;
    let generation = generation_of_b(stage)?;
    stage.lab.fabric().reset()?;
    let killed = Instant::now();
    stage.mesh.kill("b")?;
    let mut sent = 0;
    while killed.elapsed() < DEAD {
        for address in UNKNOWN {
            probe::send(stage.pod("b1").netns(), address, super::DISCARD)?;
            sent += 1;
        }
        std::thread::sleep(PACE);
    }
    stage.mesh.start_node(&stage.lab, "b")?;
    let comeback = Comeback::wait(stage, &mut findings);
    let dropped = stage.dropped_since(REASON, before)?;
    let crossed = Crossed::from(stage.lab.fabric().counts()?);
    let resumed = generation_of_b(stage)?;

    findings.expect(crossed.clear == 0, format!("{} packets in clear", crossed.clear));
    findings.expect(
        dropped >= sent,
        format!("{sent} packets sent to addresses nobody has, and {dropped} counted as {REASON}"),
    );
    findings.expect(
        resumed == generation,
        format!("keyd came back with generation {resumed}, not with its key file's {generation}"),
    );
    findings.figure("clear_packets", crossed.clear);
    findings.figure("dropped_unknown_peer", dropped);
    findings.figure("generation", resumed);
    let summary = format!(
        "keyd dead: 0 packets in clear, {dropped} to unknown addresses dropped; restarted with the same keys \
         (generation {resumed}), {comeback}"
    );
    Ok((findings.into_step("crash", summary), crossed))
}

fn generation_of_b(stage: &Stage) -> Result<u64, DemoError> {
    let status = stage.status()?;
    Ok(status
        .nodes
        .iter()
        .find(|node| node.name == "b")
        .map_or(0, |node| node.generation))
}
