//! All pairs of pods: which connections are let through.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use hauberk_policy::cluster::Cluster;
use hauberk_policy::connection::{End, Family};
use hauberk_policy::judge::Verdict;
use hauberk_policy::ports::Traffic;
use serde::Serialize;

/// Connections by what happens to them: source, destination, port; of those that one address family is denied, the one
/// that is allowed as well. Pods that have ended, and pairs without a family in common, are in none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reach {
    allowed: Vec<[String; 3]>,
    denied: Vec<[String; 3]>,
    mixed: Vec<[String; 4]>,
}

impl Reach {
    /// Asks the engine about every pair.
    pub fn of(cluster: &Cluster, ports: &[Traffic], staged: bool) -> Self {
        let mut reach = Self::default();
        let pods = cluster.world.pods.iter().filter(|(_, pod)| !pod.finished);
        let ends: Vec<_> = pods
            .map(|((namespace, name), _)| End::Pod(namespace.clone(), name.clone()))
            .collect();
        for from in &ends {
            for to in &ends {
                for traffic in ports {
                    let outcomes = cluster.connection(from, to, *traffic, staged).unwrap_or_default();
                    let names = [from.to_string(), to.to_string(), shown(*traffic)];
                    let allowed: Vec<Family> = outcomes
                        .iter()
                        .filter(|(_, outcome)| outcome.verdict() == Verdict::Allow)
                        .map(|(family, _)| *family)
                        .collect();
                    match (&allowed[..], outcomes.len()) {
                        (_, 0) => {}
                        (all, count) if all.len() == count => reach.allowed.push(names),
                        ([], _) => reach.denied.push(names),
                        ([family, ..], _) => {
                            let [from, to, port] = names;
                            let family = match family {
                                Family::Ipv4 => "ipv4",
                                Family::Ipv6 => "ipv6",
                            };
                            reach.mixed.push([from, to, port, family.into()]);
                        }
                    }
                }
            }
        }
        reach
    }

    /// For people: a row for each pair, a column for each port.
    pub fn as_table(&self, ports: &[Traffic]) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let ports: Vec<_> = ports.iter().map(|port| shown(*port)).collect();
        let heads = ["FROM".to_owned(), "TO".to_owned()];
        table.set_header(heads.into_iter().chain(ports.iter().cloned()));
        let cells = self
            .allowed
            .iter()
            .map(|names| (names, "allowed".to_owned()))
            .chain(self.denied.iter().map(|names| (names, "denied".to_owned())));
        let mut rows: BTreeMap<(String, String), BTreeMap<String, String>> = BTreeMap::new();
        for ([from, to, port], cell) in cells {
            let row = rows.entry((from.clone(), to.clone())).or_default();
            row.insert(port.clone(), cell);
        }
        for [from, to, port, family] in &self.mixed {
            let row = rows.entry((from.clone(), to.clone())).or_default();
            row.insert(port.clone(), format!("{family} only"));
        }
        for ((from, to), row) in rows {
            let cells = ports
                .iter()
                .map(|port| row.get(port).cloned().unwrap_or_default());
            table.add_row([from, to].into_iter().chain(cells));
        }
        format!("{}\n", table.trim_fmt())
    }
}

fn shown(traffic: Traffic) -> String {
    format!("{}/{}", traffic.port, traffic.protocol)
}
