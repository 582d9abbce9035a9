//! The status as a person reads it. Colours appear on a terminal only.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use hauberk_api::MeshPhase;

use super::{Node, Peer, Status};

/// Renders the whole status.
pub fn render(status: &Status) -> String {
    let encrypted = status.nodes.iter().filter(|node| node.encrypted).count();
    let all = status.nodes.len();
    // The phase is that of the nodes that have a NodeTunnel; here stand all, and whether their keyd runs.
    let among = if status.phase == MeshPhase::Encrypted.name() && encrypted < all {
        " among the nodes that take part"
    } else {
        ""
    };
    let mut text = format!(
        "encryption  {}{among} ({encrypted} of {all} nodes encrypted)\nenforcer    {}\nservices    {}\n\n",
        status.phase, status.enforcer, status.services
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", nodes(&status.nodes).trim_fmt());
    if status.nodes.iter().any(|node| !node.peers.is_empty()) {
        let _ = writeln!(text, "\n{}", pairs(&status.nodes).trim_fmt());
    }
    for (number, (node, problem)) in status
        .nodes
        .iter()
        .flat_map(|node| node.problems.iter().map(move |problem| (node, problem)))
        .enumerate()
    {
        let heading = if number == 0 { "\nPROBLEMS\n" } else { "" };
        let _ = writeln!(text, "{heading}{}: {problem}", node.name);
    }
    text
}

fn nodes(nodes: &[Node]) -> Table {
    let mut table = plain([
        "NODE",
        "ENCRYPTED",
        "REASON",
        "GENERATION",
        "IN CLEAR",
        "DROPPED PACKETS",
    ]);
    right(&mut table, &[3, 4]);
    for node in nodes {
        let encrypted = if node.encrypted {
            Cell::new("yes").fg(Color::Green)
        } else {
            Cell::new("no").fg(Color::Yellow)
        };
        let dropped = match &node.dropped {
            None => Cell::new("unknown"),
            Some(dropped) if dropped.is_empty() => Cell::new("none"),
            Some(dropped) => {
                let reasons: Vec<_> = dropped
                    .iter()
                    .map(|(reason, n)| format!("{reason} {n}"))
                    .collect();
                Cell::new(reasons.join(", ")).fg(Color::Red)
            }
        };
        table.add_row([
            Cell::new(&node.name),
            encrypted,
            Cell::new(&node.reason),
            Cell::new(node.generation),
            Cell::new(node.clear_bytes.map_or_else(|| "unknown".to_owned(), bytes)),
            dropped,
        ]);
    }
    table
}

fn pairs(nodes: &[Node]) -> Table {
    let mut table = plain(["NODE", "PEER", "PHASE", "HANDSHAKE", "SENT", "RECEIVED"]);
    right(&mut table, &[3, 4, 5]);
    for (node, peer) in nodes
        .iter()
        .flat_map(|node| node.peers.iter().map(move |peer| (node, peer)))
    {
        table.add_row([
            node.name.clone(),
            peer.node.clone(),
            peer.phase.clone(),
            handshake(peer),
            bytes(peer.tx_bytes),
            bytes(peer.rx_bytes),
        ]);
    }
    table
}

fn plain<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    table
}

/// Lays the columns out, these with their content on the right.
fn right(table: &mut Table, columns: &[usize]) {
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if columns.contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn handshake(peer: &Peer) -> String {
    peer.last_handshake_s
        .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s ago"))
}

/// A number of bytes with a binary unit, three figures at most: `0 B`, `1.2 KiB`, `345 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would print as 1024 belongs to the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.95 { 1 } else { 0 };
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn bytes_have_the_unit_that_keeps_them_short() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024, "10 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn every_node_and_pair_has_its_row() {
        let peer = Peer {
            node: "b".into(),
            phase: "Strict".into(),
            last_handshake_s: Some(9),
            tx_bytes: 2048,
            rx_bytes: 0,
        };
        let node = Node {
            name: "a".into(),
            encrypted: true,
            reason: "AllPeersStrict".into(),
            generation: 1,
            peers: vec![peer],
            clear_bytes: Some(0),
            dropped: Some(BTreeMap::from([("UnknownPeer".to_owned(), 3)])),
            problems: vec!["BadManifest: mesh.yaml:3".to_owned()],
        };
        let status = Status {
            phase: "Encrypted",
            enforcer: "CNI",
            services: "kube-proxy",
            nodes: vec![node],
        };
        let text = render(&status);
        assert!(text.starts_with("encryption  Encrypted (1 of 1 nodes encrypted)\n"));
        assert!(
            text.ends_with("\nPROBLEMS\na: BadManifest: mesh.yaml:3\n"),
            "{text}"
        );
        let words = |start: &str| -> Vec<String> {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(start))
                .unwrap();
            line.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(
            words("a  "),
            ["a", "yes", "AllPeersStrict", "1", "0", "B", "UnknownPeer", "3"]
        );
        assert!(text.lines().any(|l| {
            l.split_whitespace()
                .eq(["a", "b", "Strict", "9", "s", "ago", "2.0", "KiB", "0", "B"])
        }));
    }
}
