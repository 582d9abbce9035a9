//! What an idle mesh costs.

use std::{fs, thread, time::Duration};

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};

use crate::stage::{Stage, resident_mib};

/// Clock ticks per second in /proc; a constant of the kernel's interface (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
const SECONDS: u64 = 20;

fn busy_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("keyd runs");
    let fields: Vec<_> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    let field = |number: usize| fields[number - 3].parse::<u64>().expect("a number");
    // utime, stime, and those of children that have ended (proc(5)).
    field(14) + field(15) + field(16) + field(17)
}

#[test]
fn an_idle_daemon_takes_less_than_one_percent_of_a_core_and_40_mib() {
    let mut stage = Stage::encrypted(
        LabSpec::three_nodes("idle", Wiring::Routed),
        ManifestSpec::default(),
    );
    thread::sleep(Duration::from_secs(2));
    let pids: Vec<_> = ["a", "b", "c"].map(|node| stage.mesh.process(node).id()).into();
    let before: Vec<_> = pids.iter().map(|&pid| busy_ticks(pid)).collect();
    thread::sleep(Duration::from_secs(SECONDS));
    for (pid, before) in pids.into_iter().zip(before) {
        let share = (busy_ticks(pid) - before) as f64 / TICKS_PER_SECOND / SECONDS as f64;
        let resident = resident_mib(pid);
        println!("idle keyd: {:.2} % of a core, {resident:.1} MiB", share * 100.0);
        assert!(share < 0.01, "{:.2} % of a core", share * 100.0);
        assert!(resident < 40.0, "{resident:.1} MiB");
    }
}
