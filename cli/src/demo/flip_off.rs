//! Step `flip-off`: after bulk traffic the flag is taken back. Traffic is in clear again without a reset, and of the
//! encryption nothing is left on the nodes. What must be left of the demo itself, nothing, is looked at by the caller.

use std::time::{Duration, Instant};

use super::{
    error::DemoError,
    flip_on::STALL,
    leftovers::Footprint,
    probe,
    report::Findings,
    speed,
    stage::{Crossed, Stage},
};

/// How soon the status has to say off.
const SOON: Duration = Duration::from_secs(10);
/// How long taking down devices and sockets may take after that.
const TAKE_DOWN: Duration = Duration::from_secs(3);

/// The findings so far, their summary, and what crossed since the status said off.
pub fn run(stage: &Stage, before: &Footprint) -> Result<(Findings, String, Crossed), DemoError> {
    let mut findings = Findings::default();
    let bulk = speed::gbps(stage.pod("a2"), stage.pod("b2"))?;
    findings.figure("bulk_gbps", round(bulk));
    // Without this, finding nothing afterwards would prove nothing.
    let during = Footprint::take(&stage.lab)?.added_since(before);
    findings.expect(
        !during.is_empty(),
        "no trace of encryption on the nodes while it is on",
    );

    stage.tcp.pulse().forget_stalls(Instant::now());
    stage.udp.pulse().forget_stalls(Instant::now());
    let began = Instant::now();
    stage.set_flag(false)?;
    let off = stage.wait_status(SOON, |status| {
        let pairs = status.nodes.iter().flat_map(|node| &node.peers);
        status.phase == "Off" && pairs.into_iter().all(|pair| pair.phase == "Off")
    })?;
    findings.expect(
        off.is_some(),
        format!("status does not say off after {} s", SOON.as_secs()),
    );
    let took = off
        .map_or(SOON, |at| at.saturating_duration_since(began))
        .as_secs_f64();
    findings.seconds("off_after_seconds", took);

    stage.lab.fabric().reset()?;
    let silent = probe::all_kinds(stage.pod("a1").netns(), stage.pod("b1"));
    findings.expect(
        silent.is_empty(),
        format!("did not get from a1 to b1: {}", silent.join(", ")),
    );
    let crossed = Crossed::from(stage.lab.fabric().counts()?);
    findings.expect(crossed.clear > 0, "the marker is not back in clear");
    let [tcp, udp] = super::stalls(stage, &mut findings, STALL);

    let left = leftovers(stage, before)?;
    findings.expect(left.is_empty(), format!("left behind: {}", left.join(", ")));
    findings.figure("left_behind", left);
    let summary = format!(
        "off {took:.1} s after the flag, in clear again without a reset (longest stall: TCP {:.0} ms, UDP {:.0} ms); \
         nothing left behind",
        tcp.as_secs_f64() * 1e3,
        udp.as_secs_f64() * 1e3,
    );
    Ok((findings, summary, crossed))
}

fn leftovers(stage: &Stage, before: &Footprint) -> Result<Vec<String>, DemoError> {
    let began = Instant::now();
    loop {
        let left = Footprint::take(&stage.lab)?.added_since(before);
        if left.is_empty() || began.elapsed() > TAKE_DOWN {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Two decimals are what a short measurement can say.
pub fn round(gbps: f64) -> f64 {
    (gbps * 100.0).round() / 100.0
}
