//! What is left behind: on each node by encryption, once the flag is off again; on the machine by the demo, once it
//! has ended.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::{
    maps::loaded_maps,
    programs::{ProgramInfo, loaded_programs},
};
use hauberk_netlab::{Lab, Node};

use super::error::DemoError;

/// Everything about a node that encryption changes, one line each. The same before and after means nothing is left.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint(BTreeSet<String>);

/// Settings of a node that encryption sets or could be tempted to.
const SETTINGS: [&str; 7] = [
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/eth0/rp_filter",
    "net/ipv4/conf/eth0/accept_local",
    "net/ipv6/conf/all/forwarding",
];

impl Footprint {
    /// Takes down devices, routes, rules, filters, listening sockets, settings and pins of all nodes.
    pub fn take(lab: &Lab) -> Result<Self, DemoError> {
        let mut lines = BTreeSet::new();
        for node in lab.nodes() {
            let mut note = |what: &str, text: &str| {
                let texts = text.lines().map(str::trim).filter(|text| !text.is_empty());
                lines.extend(texts.map(|text| format!("{}: {what}: {text}", node.name())));
            };
            note("device", &devices(&says(node, &["ip", "-o", "link"])?));
            for family in ["-4", "-6"] {
                note("rule", &says(node, &["ip", family, "rule"])?);
                note(
                    "route",
                    &says(node, &["ip", "-o", family, "route", "show", "table", "all"])?,
                );
            }
            // Stateless: without what the rules have counted.
            note("nftables", &says(node, &["nft", "-s", "list", "tables"])?);
            note(
                "UDP socket",
                &says(node, &["ss", "-Huan", "state", "unconnected"])?,
            );
            for setting in SETTINGS {
                let path = Path::new("/proc/sys").join(setting);
                let value = node.netns().run(|| fs::read_to_string(path))?.unwrap_or_default();
                note(setting, &value);
            }
            for pin in files(node.pin_dir()) {
                note("pin", &pin.display().to_string());
            }
        }
        Ok(Self(lines))
    }

    /// What is there now and was not before.
    pub fn added_since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn says(node: &Node, command: &[&str]) -> Result<String, DemoError> {
    let output = node.command(command[0]).args(&command[1..]).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(DemoError::Command {
            command: command.join(" "),
            why,
        })
    }
}

/// The names in `ip -o link`.
fn devices(links: &str) -> String {
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    names.map(|name| format!("{name}\n")).collect()
}

/// What the demo has put on the machine, to be looked for when it has ended.
#[derive(Debug)]
pub struct Traces {
    lab: String,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Traces {
    /// Notes the lab's name and the numbers of the programs that the nodes have pinned, and of their maps.
    pub fn note(lab: &Lab) -> Self {
        let pins = lab.nodes().iter().flat_map(|node| files(node.pin_dir()));
        let programs: Vec<ProgramInfo> = pins
            .filter(|pin| {
                pin.file_name()
                    .is_some_and(|name| PROGRAMS.iter().any(|program| name == *program))
            })
            .filter_map(|pin| ProgramInfo::from_pin(pin).ok())
            .collect();
        Self {
            lab: lab.id().to_owned(),
            programs: programs.iter().map(ProgramInfo::id).collect(),
            maps: programs
                .iter()
                .filter_map(|program| program.map_ids().ok().flatten())
                .flatten()
                .collect(),
        }
    }

    /// How many programs were noted.
    pub fn programs(&self) -> usize {
        self.programs.len()
    }

    /// What of it is still there. The kernel frees some of it a moment after the last user has gone.
    pub fn remaining(&self) -> Vec<String> {
        const MOMENT: Duration = Duration::from_secs(3);
        let began = Instant::now();
        loop {
            let left = self.look();
            if left.is_empty() || began.elapsed() > MOMENT {
                return left;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn look(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut namespaces = names_in(Path::new("/run/netns"));
        namespaces.extend(names_in(Path::new("/run/hauberk-lab")));
        left.extend(
            namespaces
                .into_iter()
                .filter(|name| name.contains(&self.lab))
                .map(|name| format!("{name} in /run")),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&self.lab))
                .map(|line| format!("mount {line}")),
        );
        for process in names_in(Path::new("/proc")) {
            let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
            if cgroups.contains(&self.lab) {
                left.push(format!("process {process}"));
            }
        }
        let programs = loaded_programs().flatten().map(|program| program.id());
        left.extend(
            programs
                .filter(|id| self.programs.contains(id))
                .map(|id| format!("eBPF program {id}")),
        );
        let maps = loaded_maps().flatten().map(|map| map.id());
        left.extend(
            maps.filter(|id| self.maps.contains(id))
                .map(|id| format!("eBPF map {id}")),
        );
        left
    }
}

/// The pins that are programs are named as the programs.
const PROGRAMS: [&str; 4] = ["from_pod", "to_pod", "from_tunnel", "to_network"];

fn names_in(dir: &Path) -> Vec<String> {
    // What is not there holds nothing.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(self::files(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_without_number_and_state() {
        let links = "1: lo: <LOOPBACK,UP> mtu 65536 ...\n7: eth0@if6: <BROADCAST> mtu 1500 ...\n";
        assert_eq!(devices(links), "lo\neth0@if6\n");
    }

    #[test]
    fn only_what_was_added_counts() {
        let footprint = |lines: &[&str]| Footprint(lines.iter().map(|&line| line.to_owned()).collect());
        let before = footprint(&["a: device: lo", "a: device: gone"]);
        let after = footprint(&["a: device: lo", "a: device: hbk0"]);
        assert_eq!(after.added_since(&before), ["a: device: hbk0"]);
        assert!(before.added_since(&before).is_empty());
    }
}
