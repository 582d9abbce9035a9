//! The report as Prometheus text. Labels are bounded: verdicts, reasons, this node's lanes, peers.

use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use prometheus::{Opts, Registry, TextEncoder};

use crate::report::NodeReport;

/// The report in Prometheus' text format.
pub fn render(report: &NodeReport) -> Result<String, prometheus::Error> {
    let page = Page::default();
    let packets = page.counters(
        "hauberk_guard_packets_total",
        "Packets the guard let through",
        &["verdict"],
    )?;
    let bytes = page.counters(
        "hauberk_guard_bytes_total",
        "Bytes the guard let through",
        &["verdict"],
    )?;
    for (verdict, passed) in &report.guard {
        packets.with_label_values(&[verdict]).inc_by(passed.packets);
        bytes.with_label_values(&[verdict]).inc_by(passed.bytes);
    }
    let drops = page.counters("hauberk_drops_total", "Packets dropped, by reason", &["reason"])?;
    for (reason, count) in &report.dropped {
        drops.with_label_values(&[reason]).inc_by(*count);
    }
    let sent = page.counters(
        "hauberk_peer_tx_bytes_total",
        "UDP payload bytes sent to a peer",
        &["peer"],
    )?;
    let received = page.counters(
        "hauberk_peer_rx_bytes_total",
        "UDP payload bytes received from a peer",
        &["peer"],
    )?;
    let handshake = page.gauges(
        "hauberk_peer_last_handshake_seconds",
        "Seconds since the last handshake with a peer",
        &["peer"],
    )?;
    let phase = page.int_gauges(
        "hauberk_pair_phase",
        "1 for the phase that a pair of nodes is in",
        &["peer", "phase"],
    )?;
    for peer in &report.peers {
        sent.with_label_values(&[&peer.node]).inc_by(peer.tx_bytes);
        received.with_label_values(&[&peer.node]).inc_by(peer.rx_bytes);
        phase.with_label_values(&[&peer.node, &peer.phase]).set(1);
        if let Some(seconds) = peer.last_handshake_s {
            handshake.with_label_values(&[&peer.node]).set(seconds as f64);
        }
    }
    let busy = page.seconds(
        "hauberk_lane_busy_seconds_total",
        "Seconds a lane's thread was not waiting",
        &["lane"],
    )?;
    for lane in &report.lanes {
        busy.with_label_values(&[&lane.device]).inc_by(lane.busy_seconds);
    }
    page.gauge(
        "hauberk_address_conflicts",
        "Pod addresses claimed by more than one pod",
        report.address_conflicts,
    )?;
    page.gauge(
        "hauberk_problems",
        "Faults that keyd works around, as /state lists them",
        report.problems.len() as u64,
    )?;
    page.gauge(
        "hauberk_encrypted",
        "1 when every pair of this node is Strict",
        report.encrypted.into(),
    )?;
    page.gauge(
        "hauberk_key_generation",
        "The generation of keys in use",
        report.generation,
    )?;
    page.counter(
        "hauberk_programs_displaced_total",
        "Times a foreign program stood before one of keyd's and was put behind",
        report.programs_displaced,
    )?;
    page.process()?;
    page.text()
}

/// One scrape: counts are totals already, so each page starts from a fresh registry.
#[derive(Default)]
struct Page {
    registry: Registry,
}

impl Page {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(vec.clone()))?;
        Ok(vec)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec, prometheus::Error> {
        let vec = CounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(vec.clone()))?;
        Ok(vec)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        let vec = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(vec.clone()))?;
        Ok(vec)
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(vec.clone()))?;
        Ok(vec)
    }

    fn gauge(&self, name: &str, help: &str, value: u64) -> Result<(), prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.registry.register(Box::new(gauge))
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> Result<(), prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.registry.register(Box::new(counter))
    }

    /// Under the names that Prometheus' client libraries agree on.
    fn process(&self) -> Result<(), prometheus::Error> {
        let memory = Gauge::new("process_resident_memory_bytes", "Resident memory size in bytes")?;
        let cpu = Counter::new(
            "process_cpu_seconds_total",
            "User and system CPU time spent in seconds",
        )?;
        memory.set(status_bytes("VmRSS:").unwrap_or(0) as f64);
        let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
        if let Ok(used) = used {
            let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
            cpu.inc_by(seconds(used.user_time()) + seconds(used.system_time()));
        }
        self.registry.register(Box::new(memory))?;
        self.registry.register(Box::new(cpu))
    }

    fn text(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}

/// The most resident memory that this process has had so far, in bytes; `None` where `/proc` does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Passed, PeerReport};

    #[test]
    fn counts_appear_under_their_names_and_labels() {
        let mut report = NodeReport {
            name: "a".into(),
            ..NodeReport::default()
        };
        report.guard.insert(
            "ciphertext".into(),
            Passed {
                packets: 2,
                bytes: 3000,
            },
        );
        report.dropped.insert("PeerKeyMissing".into(), 7);
        report.peers.push(PeerReport {
            node: "b".into(),
            phase: "Strict".into(),
            tx_bytes: 9,
            ..PeerReport::default()
        });
        let text = render(&report).expect("rendered");
        for line in [
            "hauberk_guard_bytes_total{verdict=\"ciphertext\"} 3000",
            "hauberk_drops_total{reason=\"PeerKeyMissing\"} 7",
            "hauberk_peer_tx_bytes_total{peer=\"b\"} 9",
            "hauberk_pair_phase{peer=\"b\",phase=\"Strict\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("hauberk_peer_last_handshake_seconds{"));
    }
}
