//! keyd puts the plugin into a node's CNI configuration, keeps it there, and takes it out.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Mesh, NodeSpec, Wiring};

use crate::container::{Container, add, plugin, reference_list};

fn wait(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_plugin_stays_in_the_chain_though_its_file_is_written_anew_and_leaves_it_without_a_trace() {
    let keyd = Path::new(env!("CARGO_BIN_EXE_keyd"));
    let nodes = vec![NodeSpec::new("a", Wiring::Routed, &[])];
    let lab = Lab::new(LabSpec::new("chain", nodes)).expect("the lab comes up");
    let (conf, bin) = (lab.dir().join("net.d"), lab.dir().join("bin"));
    let file = conf.join("10-lab.conflist");
    let chained = || fs::read_to_string(&file).is_ok_and(|text| text.contains("hauberk-cni"));
    let settings = [
        ("KEYD_CNI_CONF_DIR", conf.to_str().expect("UTF-8")),
        ("KEYD_CNI_BIN_DIR", bin.to_str().expect("UTF-8")),
    ];
    let mesh = Mesh::start(&lab, keyd, &ManifestSpec::default(), &settings).expect("keyd starts");
    mesh.wait_ready().expect("keyd is ready");
    let problems = || mesh.state("a")["problems"].to_string();
    wait("without a configuration that is said", || {
        problems().contains("CniNotChained")
    });

    fs::create_dir(&conf).expect("made");
    let original = serde_json::to_string_pretty(&reference_list(&lab, lab.node("a"), 2)).expect("JSON");
    fs::write(&file, &original).expect("written");
    let begin = Instant::now();
    // The directory came later, which only the slow look finds.
    while !chained() && begin.elapsed() < Duration::from_secs(15) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(chained(), "{}", mesh.log("a"));
    wait("what was said is taken back", || {
        !problems().contains("CniNotChained")
    });
    assert_eq!(
        fs::read(bin.join("hauberk-cni")).expect("installed"),
        fs::read(plugin()).expect("built")
    );

    // What keyd wrote is what a runtime can use.
    let list = serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    let mut container = Container::new(&lab, "a", "c1");
    add(lab.node("a"), &list, &mut container);
    assert!(lab.node("a").state_dir().join("cni/c1:eth0.json").exists());

    let rewritten = original.replace("\"lab\"", "\"lab2\"");
    fs::write(&file, &rewritten).expect("written");
    wait("the plugin is chained again", chained);
    fs::write(&file, "{").expect("written");
    wait("a malformed file is named", || {
        problems().contains("10-lab.conflist is left alone")
    });
    assert_eq!(fs::read(&file).expect("read"), b"{");
    fs::write(&file, &rewritten).expect("written");
    wait("the plugin is chained again", chained);

    drop(mesh);
    let mut uninstall = Command::new(keyd);
    uninstall
        .arg("uninstall")
        .arg("--state-dir")
        .arg(lab.node("a").state_dir())
        .arg("--memory-dir")
        .arg(lab.node("a").memory_dir())
        .arg("--pin-dir")
        .arg(lab.node("a").pin_dir())
        .arg("--cni-conf-dir")
        .arg(&conf)
        .arg("--cni-bin-dir")
        .arg(&bin);
    assert!(uninstall.status().expect("keyd runs").success());
    assert_eq!(fs::read_to_string(&file).expect("read"), rewritten);
    assert_eq!(fs::read_dir(&bin).expect("listed").count(), 0);
    assert_eq!(fs::read_dir(&conf).expect("listed").count(), 1);
    assert_eq!(
        fs::read_dir(lab.node("a").state_dir()).expect("listed").count(),
        0
    );
}
