//! Step `flip-on`: the flag is set while a TCP connection and a UDP flow run; node b sees it late. Neither flow may be
//! reset or stand still, the status must say encrypted soon after the last node's flag, and from that moment nothing
//! crosses in clear, from pods or from a host to pods.

use std::time::{Duration, Instant};

use hauberk_netlab::Family;

use super::{
    error::DemoError,
    probe::{self, KINDS},
    report::{Findings, Step},
    stage::{Crossed, Stage},
};

/// How much later than the others node b sees the flag.
const LATE: Duration = Duration::from_secs(5);
/// How soon after that the status has to say encrypted.
const SOON: Duration = Duration::from_secs(5);
/// How long it is waited for all the same, so that the steps after this one still mean something.
const GIVE_UP: Duration = Duration::from_secs(15);
/// How long a flow may stand still.
pub const STALL: Duration = Duration::from_secs(1);
/// How long clear packets are looked for at least.
const WATCH: Duration = Duration::from_secs(2);

/// The step, and what crossed since the status said encrypted.
pub fn run(stage: &Stage) -> Result<(Step, Crossed), DemoError> {
    let mut findings = Findings::default();
    let fabric = stage.lab.fabric();
    stage.mesh.replicas().delay("b", "mesh.yaml", LATE);
    stage.tcp.pulse().forget_stalls(Instant::now());
    stage.udp.pulse().forget_stalls(Instant::now());

    stage.set_flag(true)?;
    let seen_by_all = Instant::now() + LATE;
    let encrypted = stage.wait_status(LATE + GIVE_UP, |status| status.is_encrypted())?;
    fabric.reset()?;
    let took = encrypted.map(|at| at.saturating_duration_since(seen_by_all));
    findings.expect(
        took.is_some_and(|took| took <= SOON),
        format!(
            "status does not say encrypted {} s after the last node's flag",
            SOON.as_secs()
        ),
    );
    findings.expect(
        encrypted.is_none_or(|at| at >= seen_by_all),
        "status said encrypted before every node had seen the flag",
    );

    let watched = Instant::now();
    let silent = probe::all_kinds(stage.pod("a1").netns(), stage.pod("b1"));
    findings.expect(
        silent.is_empty(),
        format!("did not get from a1 to b1: {}", silent.join(", ")),
    );
    let silent = probe::all_kinds(stage.pod("b2").netns(), stage.pod("c2"));
    findings.expect(
        silent.is_empty(),
        format!("did not get from b2 to c2: {}", silent.join(", ")),
    );
    let silent = probe::all_kinds(stage.lab.node("c").netns(), stage.pod("a2"));
    findings.expect(
        silent.is_empty(),
        format!("did not get from node c to a2: {}", silent.join(", ")),
    );
    for family in [Family::V4, Family::V6] {
        let address = probe::address_of(stage.pod("b2"), family);
        let passed = probe::ping(stage.lab.node("a").netns(), address)?;
        findings.expect(passed, format!("node a cannot ping b2 at {address}"));
    }
    std::thread::sleep(WATCH.saturating_sub(watched.elapsed()));

    let counts = fabric.counts()?;
    let crossed = Crossed::from(counts);
    for (family, protocol, name) in KINDS {
        let (covered, marked) = (
            counts.covered.of(family, protocol),
            counts.marker.of(family, protocol),
        );
        let clear = covered.packets.max(marked.packets);
        findings.expect(clear == 0, format!("{clear} packets in clear: {name}"));
    }
    findings.expect(crossed.clear == 0, format!("{} packets in clear", crossed.clear));
    findings.expect(crossed.datagrams > 0, "no datagram of a lane on the fabric");
    let [tcp, udp] = super::stalls(stage, &mut findings, STALL);
    stage.mesh.replicas().delay("b", "mesh.yaml", Duration::ZERO);

    let took = took.unwrap_or(GIVE_UP).as_secs_f64();
    findings.seconds("encrypted_after_seconds", took);
    findings.figure("clear_packets", crossed.clear);
    findings.figure("tunnel_datagrams", crossed.datagrams);
    let summary = format!(
        "encrypted {took:.1} s after the last node's flag; since then 0 packets in clear, {} datagrams; \
         longest stall: TCP {:.0} ms, UDP {:.0} ms",
        crossed.datagrams,
        tcp.as_secs_f64() * 1e3,
        udp.as_secs_f64() * 1e3,
    );
    Ok((findings.into_step("flip-on", summary), crossed))
}
