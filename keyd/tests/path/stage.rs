//! A lab with keyd on it, and what tests do with its pods.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    process::{Command, Output},
};

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Mesh};

/// keyd, as cargo built it.
pub fn keyd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keyd"))
}

/// A lab and keyd on its nodes.
pub struct Stage {
    /// Before the lab, so that keyd ends before its namespaces do.
    pub mesh: Mesh,
    pub lab: Lab,
}

impl Stage {
    /// keyd on every node, encryption off.
    pub fn clear(spec: LabSpec, manifests: ManifestSpec) -> Self {
        let lab = Lab::new(spec).expect("the lab comes up");
        Self::on(lab, manifests)
    }

    /// keyd on every node of a lab that is there already, encryption off.
    pub fn on(lab: Lab, manifests: ManifestSpec) -> Self {
        lab.fabric()
            .set_covered(&lab.pod_cidrs())
            .expect("the fabric counts");
        let mesh = Mesh::start(&lab, keyd(), &manifests, &[]).expect("keyd starts");
        mesh.wait_ready().expect("keyd is ready");
        Self { mesh, lab }
    }

    /// As [`Stage::clear`], then the flag is turned on and all pairs are Strict; the fabric counts from zero.
    pub fn encrypted(spec: LabSpec, manifests: ManifestSpec) -> Self {
        let stage = Self::clear(spec, manifests);
        stage.encrypt();
        stage
    }

    /// Turns the flag on and waits until all pairs are Strict; the fabric counts from zero.
    pub fn encrypt(&self) {
        self.mesh.set_encryption(true).expect("the flag is set");
        self.mesh.wait_encrypted().expect("all pairs become Strict");
        self.lab.fabric().reset().expect("the fabric counts from zero");
    }

    /// Nothing covered crossed the fabric in clear since encryption, and something crossed at all.
    pub fn assert_no_clear(&self) {
        let counts = self.lab.fabric().counts().expect("the fabric counts");
        assert!(
            counts.all.packets() > 0,
            "nothing crossed the fabric, which proves nothing"
        );
        assert_eq!(
            counts.covered.packets(),
            0,
            "covered packets crossed in clear: {:?}",
            counts.covered
        );
        assert_eq!(
            counts.fragments.packets(),
            0,
            "outer fragments crossed: {:?}",
            counts.fragments
        );
    }

    /// Packets that a node's keyd says were dropped, by reason.
    pub fn dropped(&self, node: &str) -> BTreeMap<String, u64> {
        serde_json::from_value(self.mesh.state(node)["dropped"].clone()).unwrap_or_default()
    }

    /// Pings from a pod; see [`ping`].
    pub fn ping(&self, pod: &str, to: impl Into<IpAddr>, arguments: &[&str]) -> Pings {
        ping(self.lab.pod(pod).command("ping"), to.into(), arguments)
    }
}

/// What came of some pings.
#[derive(Debug)]
pub struct Pings {
    /// All that ping printed.
    pub text: String,
    /// Milliseconds, in order.
    pub round_trips_ms: Vec<f64>,
}

impl Pings {
    /// How many answers came.
    pub fn received(&self) -> usize {
        self.round_trips_ms.len()
    }

    /// The median round trip in milliseconds; infinite when nothing came back.
    pub fn median_ms(&self) -> f64 {
        let mut sorted = self.round_trips_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::INFINITY)
    }
}

/// Runs `command` (ping, placed somewhere) to an address.
pub fn ping(mut command: Command, to: IpAddr, arguments: &[&str]) -> Pings {
    let output = command
        .args(arguments)
        .arg(to.to_string())
        .output()
        .expect("ping runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let round_trips_ms = text
        .lines()
        .filter_map(|line| {
            line.split_once(" time=")?
                .1
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .collect();
    Pings { text, round_trips_ms }
}

/// iperf3's server in a pod; ends when dropped.
pub fn iperf_server(lab: &Lab, pod: &str) -> hauberk_netlab::Process {
    use std::process::Stdio;
    let mut command = lab.pod(pod).command("iperf3");
    command
        .arg("-s")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = hauberk_netlab::Process::spawn(&mut command).expect("iperf3 starts");
    std::thread::sleep(std::time::Duration::from_millis(300));
    server
}

/// iperf3's client in a pod, to its end; the JSON it prints.
pub fn iperf(lab: &Lab, pod: &str, to: impl Into<IpAddr>, arguments: &[&str]) -> serde_json::Value {
    let mut command = lab.pod(pod).command("iperf3");
    let output = command
        .arg("-J")
        .arg("-c")
        .arg(to.into().to_string())
        .args(arguments)
        .output()
        .expect("iperf3 runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(
        report["error"].is_null() && output.status.success(),
        "iperf3: {}",
        said(&output)
    );
    report
}

/// Bits per second that arrived, of an iperf3 report of TCP or UDP.
pub fn received_bits_per_second(report: &serde_json::Value) -> f64 {
    let end = &report["end"];
    let sum = if end["sum_received"].is_null() {
        &end["sum"]
    } else {
        &end["sum_received"]
    };
    sum["bits_per_second"]
        .as_f64()
        .unwrap_or_else(|| panic!("no throughput in {report}"))
}

/// Resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("keyd runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse::<f64>()
        .expect("a number")
        / 1024.0
}

/// What a program said, for an assertion's message.
pub fn said(output: &Output) -> String {
    format!(
        "{} {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
