//! The picture at the end: the nodes, what crossed the fabric in each step, and who talked to whom and how.

use std::{fmt::Write, time::Duration};

use super::stage::Crossed;

/// One line of the table: what was going on, and what crossed meanwhile.
#[derive(Debug)]
pub struct Scene {
    pub what: &'static str,
    pub crossed: Crossed,
}

/// How the long flows and the speed test fared.
#[derive(Debug)]
pub struct Talks {
    /// Messages echoed over the one TCP connection, and whether it was ever broken.
    pub tcp_messages: u64,
    pub tcp_broken: bool,
    /// Datagrams of the UDP flow.
    pub udp_sent: u64,
    pub udp_arrived: u64,
    /// Gb/s between pods, plain and encrypted.
    pub plain_gbps: f64,
    pub encrypted_gbps: f64,
    /// How long the whole demo took.
    pub took: Duration,
}

const NODES: &str = "       node a                node b                node c
    routed pods         pods on a bridge        routed pods
 ┌──────┬──────┐      ┌──────┬──────┐      ┌──────┬──────┐
 │  a1  │  a2  │      │  b1  │  b2  │      │  c1  │  c2  │
 ├──────┴──────┤      ├──────┴──────┤      ├──────┴──────┤
 │ keyd, lanes │      │ keyd, lanes │      │ keyd, lanes │
 └──────┬──────┘      └──────┬──────┘      └──────┬──────┘
        └─────────────── the fabric ──────────────┘
";

/// Draws it.
pub fn draw(scenes: &[Scene], talks: &Talks) -> String {
    let mut text = String::from(NODES);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n packets, not iperf3's    in clear   WireGuard");
    for Scene { what, crossed } in scenes {
        let _ = writeln!(
            text,
            " {what:<22} {:>10} {:>11}",
            crossed.clear, crossed.datagrams
        );
    }
    let reset = if talks.tcp_broken { "broken" } else { "never reset" };
    let _ = writeln!(
        text,
        "\n a1 ── TCP, IPv4 ──▶ b1   {} messages echoed, {reset}",
        talks.tcp_messages
    );
    let _ = writeln!(
        text,
        " c1 ── UDP, IPv6 ──▶ b2   {} of {} datagrams arrived; the others were dropped while b's key or keyd was away",
        talks.udp_arrived, talks.udp_sent
    );
    let _ = writeln!(
        text,
        " a2 ── iperf3 ─────▶ b2   {:.1} Gb/s plain, {:.1} Gb/s encrypted",
        talks.plain_gbps, talks.encrypted_gbps
    );
    let _ = writeln!(text, "\n took {:.0} s", talks.took.as_secs_f64());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_has_its_counts_under_their_headings() {
        let crossed = Crossed {
            clear: 1204,
            datagrams: 7,
        };
        let talks = Talks {
            tcp_messages: 5,
            tcp_broken: false,
            udp_sent: 9,
            udp_arrived: 8,
            plain_gbps: 16.25,
            encrypted_gbps: 5.0,
            took: Duration::from_secs(41),
        };
        let text = draw(
            &[Scene {
                what: "flag off",
                crossed,
            }],
            &talks,
        );
        let heading = text.lines().find(|line| line.contains("in clear")).unwrap();
        let row = text.lines().find(|line| line.contains("flag off")).unwrap();
        assert_eq!(
            heading.find("in clear").unwrap() + "in clear".len(),
            row.find("1204").unwrap() + 4
        );
        assert_eq!(heading.len(), row.len());
        assert!(text.contains("5 messages echoed, never reset"));
    }
}
