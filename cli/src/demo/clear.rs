//! Step `clear`: with the flag off, the marker is found on the fabric over every protocol and family. Without this,
//! finding nothing later would prove nothing.

use serde_json::{Map, Value};

use super::{
    error::DemoError,
    probe::{self, KINDS},
    report::{Findings, Step},
    stage::{Crossed, Stage, UNKNOWN},
};

/// The step, and what crossed.
pub fn run(stage: &Stage) -> Result<(Step, Crossed), DemoError> {
    let mut findings = Findings::default();
    stage.lab.fabric().reset()?;
    let silent = probe::all_kinds(stage.pod("a1").netns(), stage.pod("b1"));
    findings.expect(
        silent.is_empty(),
        format!("did not get from a1 to b1: {}", silent.join(", ")),
    );
    let counts = stage.lab.fabric().counts()?;
    let mut found = Map::new();
    for (family, protocol, name) in KINDS {
        let packets = counts.marker.of(family, protocol).packets;
        findings.expect(packets > 0, format!("no marker on the fabric in {name}"));
        found.insert(name.replace(' ', "_").to_lowercase(), Value::from(packets));
    }
    findings.figure("marker_packets", found);

    // The addresses that nobody has: in clear they cross too, so that their absence in `crash` means something.
    stage.lab.fabric().reset()?;
    for address in UNKNOWN {
        probe::send(stage.pod("b1").netns(), address, super::DISCARD)?;
    }
    std::thread::sleep(super::SETTLE);
    let unknown = stage.lab.fabric().counts_from("b")?.marker.packets();
    findings.expect(
        unknown >= UNKNOWN.len() as u64,
        "packets to covered addresses that nobody has did not cross the fabric",
    );
    let crossed = Crossed::from(counts);
    findings.figure("clear_packets", crossed.clear);
    let summary =
        "a known text, the marker, is read on the fabric: TCP, UDP and ICMP, IPv4 and IPv6".to_owned();
    Ok((findings.into_step("clear", summary), crossed))
}
