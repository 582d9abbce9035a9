//! `hauberk install` and `hauberk uninstall` with real nodes, under traffic.

use std::collections::BTreeSet;
use std::fs;

use hauberk_netlab::Wiring;
use hauberk_netlab::kubernetes::Families;

use crate::cluster::Cluster;
use crate::hauberk::{IMAGE, OLD};

/// What is on a node that Hauberk might leave something of.
fn traces(cluster: &Cluster, node: &str) -> BTreeSet<String> {
    let worker = cluster.worker(node);
    let run = |program: &str, arguments: &[&str]| {
        let output = worker.command(program).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{program} {arguments:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut traces = BTreeSet::new();
    // Pods' own devices come and go.
    let devices = run("ip", &["-brief", "link"]);
    traces.extend(
        devices
            .lines()
            .filter(|line| line.starts_with("hbk"))
            .map(str::to_owned),
    );
    traces.extend(run("nft", &["list", "tables"]).lines().map(str::to_owned));
    for folder in ["/etc/cni/net.d", "/opt/cni/bin"] {
        for entry in fs::read_dir(worker.file(folder)).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            // The wiring's own programs are linked from elsewhere.
            let content = fs::read(&path).map(|content| content.len());
            traces.insert(format!("{} {content:?}", path.display()));
        }
    }
    traces.insert(run(
        "cat",
        &["/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"],
    ));
    for folder in [
        "/sys/fs/bpf/hauberk",
        "/run/hauberk",
        "/var/lib/hauberk",
        "/var/run/wireguard",
    ] {
        let entries = fs::read_dir(worker.file(folder)).into_iter().flatten();
        traces.extend(entries.map(|entry| entry.expect("an entry").path().display().to_string()));
    }
    traces
}

#[test]
fn uninstall_under_traffic_loses_no_word_and_leaves_nothing_on_the_nodes() {
    let mut cluster = Cluster::start("e2e-gone", Wiring::Bridged, false, Families::Dual);
    cluster.start_talk();
    let both = |cluster: &Cluster| ["a", "b"].map(|node| traces(cluster, node));
    let before = both(&cluster);
    cluster.bring_image();
    let (host, port) = cluster.api_server();
    let image = format!("--image={IMAGE}:{OLD}");
    let installed = cluster.hauberk(&["install", &image, &format!("--api-server={host}:{port}")]);
    assert!(installed.contains("keyd is ready on 2 of 2 nodes"), "{installed}");
    cluster.hauberk(&["enable", "encryption"]);
    cluster.wait_phase("Encrypted");
    for (now, before) in both(&cluster).iter().zip(&before) {
        let more: Vec<_> = now.difference(before).collect();
        assert!(
            more.len() > 8,
            "what is looked for is there while it runs: {more:?}"
        );
    }
    let status = cluster.hauberk(&["status"]);
    assert!(status.contains("2 of 2 nodes encrypted"), "{status}");

    let said = cluster.hauberk(&["uninstall", "--timeout=90s"]);
    assert!(said.ends_with("uninstalled\n"), "{said}");
    assert_eq!(both(&cluster), before);
    for way in cluster.ways.clone() {
        let spoken = cluster.heard(&way).words;
        cluster.eventually("the pods talk on", || cluster.heard(&way).words > spoken);
    }
    let partner = cluster.partner();
    cluster.ask_at_once("afterwards", "a", &partner);
}
