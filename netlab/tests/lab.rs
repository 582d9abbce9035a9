//! The lab itself: both wirings, both families, and nothing left behind. As root.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::IpAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{CommandPlacement, Lab, LabSpec, NodeSpec, Process, Wiring, clean_up_on_signals, sweep};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Everything on the machine that carries the lab's id.
fn traces(id: &str) -> Vec<String> {
    let mut traces = Vec::new();
    for dir in [
        "/run/netns",
        "/run/hauberk-lab",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
    ] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        traces.extend(
            entries
                .map(|e| e.path().display().to_string())
                .filter(|path| path.contains(id)),
        );
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    traces.extend(mounts.lines().filter(|line| line.contains(id)).map(str::to_owned));
    traces
}

fn ping(lab: &Lab, from: &str, to: IpAddr) {
    let mut ping = lab.pod(from).command("ping");
    ping.args(["-c", "1", "-W", "2", &to.to_string()]);
    let output = ping.output().unwrap();
    assert!(
        output.status.success(),
        "{from} to {to}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn pods_reach_each_other(wiring: Wiring) {
    let started = Instant::now();
    let lab = Lab::new(LabSpec::three_nodes("t", wiring)).unwrap();
    println!("a lab of three nodes with six pods took {:?}", started.elapsed());
    for (from, to) in [("a1", "b1"), ("b2", "c1"), ("c2", "a1"), ("a1", "a2")] {
        ping(&lab, from, lab.pod(to).v4().into());
        ping(&lab, from, lab.pod(to).v6().into());
    }
    ping(&lab, "a1", lab.node("b").v4().into());
    ping(&lab, "a1", lab.node("b").v6().into());
}

#[test]
fn routed_pods_reach_each_other_across_nodes_over_both_families() {
    pods_reach_each_other(Wiring::Routed);
}

#[test]
fn bridged_pods_reach_each_other_across_nodes_over_both_families() {
    pods_reach_each_other(Wiring::Bridged);
}

#[test]
fn a_pod_that_comes_later_is_reached_and_a_removed_one_is_not() {
    let nodes = vec![
        NodeSpec::new("a", Wiring::Routed, &["a1"]),
        NodeSpec::new("b", Wiring::Bridged, &[]),
    ];
    let mut lab = Lab::new(LabSpec::new("t", nodes)).unwrap();
    let (v4, v6) = {
        let pod = lab.add_pod("b", "late").unwrap();
        (pod.v4(), pod.v6())
    };
    ping(&lab, "a1", v4.into());
    ping(&lab, "a1", v6.into());
    lab.remove_pod("late").unwrap();
    let mut ping = lab.pod("a1").command("ping");
    assert!(
        !ping
            .args(["-c", "1", "-W", "1", &v4.to_string()])
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn nothing_is_left_of_a_lab_that_was_dropped_with_processes_running() {
    let lab = Lab::new(LabSpec::two_nodes("t", Wiring::Bridged)).unwrap();
    let id = lab.id().to_owned();
    assert!(!traces(&id).is_empty());
    // One that starts another, in a session of its own: neither a signal to the child nor to its group ends it.
    let mut sleep = lab.pod("a1").command("setsid");
    let mut sleep = Process::spawn(sleep.args(["-f", "sleep", "600"])).unwrap();
    sleep.wait(Duration::from_secs(5)).unwrap();
    let procs = lab.node("a").cgroup().join("cgroup.procs");
    let running = fs::read_to_string(procs).unwrap();
    assert_eq!(running.lines().count(), 1);
    let pid: u32 = running.trim().parse().unwrap();
    drop(lab);
    assert_eq!(traces(&id), Vec::<String>::new());
    // Whoever inherited it may not have waited for it yet.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(stat.is_err() || stat.unwrap().contains(") Z "));
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let id = std::sync::Mutex::new(String::new());
    let result = std::panic::catch_unwind(|| {
        let lab = Lab::new(LabSpec::two_nodes("t", Wiring::Routed)).unwrap();
        *id.lock().unwrap() = lab.id().to_owned();
        let _server = Process::spawn(lab.pod("a1").command("sleep").arg("600")).unwrap();
        panic!("on purpose");
    });
    assert!(result.is_err());
    assert_eq!(traces(&id.lock().unwrap()), Vec::<String>::new());
}

#[test]
fn a_node_drops_what_conntrack_calls_invalid_and_leaves_rp_filter_alone() {
    let machine = fs::read_to_string("/proc/sys/net/ipv4/conf/default/rp_filter").unwrap();
    let lab = Lab::new(LabSpec::two_nodes("t", Wiring::Routed)).unwrap();
    let rules = lab
        .node("a")
        .command("nft")
        .args(["list", "ruleset"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&rules.stdout)
            .matches("ct state invalid")
            .count(),
        3
    );
    let in_node = lab
        .node("a")
        .netns()
        .run(|| fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/rp_filter"));
    assert_eq!(in_node.unwrap().unwrap(), machine);
}

#[test]
fn a_command_runs_on_the_cpu_that_it_was_given() {
    let lab = Lab::new(LabSpec::new("t", vec![NodeSpec::outside("a")])).unwrap();
    let mut taskset = lab.node("a").command("grep");
    let output = taskset
        .on_cpu(0)
        .args(["Cpus_allowed_list", "/proc/self/status"])
        .stdout(Stdio::piped());
    let output = output.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).split_whitespace().last(),
        Some("0")
    );
    assert!(lab.node("a").command("true").on_cpu(1000).output().is_err());
}

const HOLDER: &str = "NETLAB_TEST_HOLDS_A_LAB";

/// Not a test by itself: what other tests start as a process of its own, to kill it.
#[test]
fn a_process_that_holds_a_lab() {
    let Ok(how) = env::var(HOLDER) else { return };
    if how == "handles signals" {
        clean_up_on_signals().unwrap();
    }
    let lab = Lab::new(LabSpec::two_nodes("k", Wiring::Routed)).unwrap();
    let _server = Process::spawn(lab.pod("a1").command("sleep").arg("600")).unwrap();
    println!("lab {}", lab.id());
    thread::sleep(Duration::from_secs(600));
}

/// The process and its lab's id.
fn holder(how: &str) -> (Child, String) {
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_process_that_holds_a_lab", "--nocapture"])
        .env(HOLDER, how)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let id = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("lab ")?.1.to_owned()))
        .unwrap();
    assert!(!traces(&id).is_empty());
    (holder, id)
}

#[test]
fn a_killed_run_is_cleared_away_at_once_by_its_guardian() {
    let (mut holder, id) = holder("");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !traces(&id).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", traces(&id));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_run_without_its_guardian_is_swept() {
    let (mut holder, id) = holder("");
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    let is_guardian = |pid: &i32| {
        let about = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        about("cmdline").contains(&id) && about("status").contains(&format!("PPid:\t{}\n", holder.id()))
    };
    let guardian = processes.into_iter().find(is_guardian).unwrap();
    kill(Pid::from_raw(guardian), Signal::SIGKILL).unwrap();
    assert!(!sweep().unwrap().contains(&id), "its owner is alive");
    holder.kill().unwrap();
    holder.wait().unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(!traces(&id).is_empty());
    assert!(sweep().unwrap().contains(&id));
    assert_eq!(traces(&id), Vec::<String>::new());
}

#[test]
fn a_signal_ends_the_process_after_its_labs() {
    let (mut holder, id) = holder("handles signals");
    kill(Pid::from_raw(holder.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(130));
    assert_eq!(traces(&id), Vec::<String>::new());
}
