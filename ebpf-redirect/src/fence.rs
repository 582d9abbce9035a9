//! One nftables table that closes devices which no program guards yet.
//!
//! A device that appears after the start is open until keyd has seen it and attached `to_network`. The rules
//! close that gap: covered traffic that the stack sends by a device which is not in the list is dropped and
//! counted. Devices are told apart by index: one that is made anew under its old name carries no program yet.
//! The chain runs behind translation (postrouting), where addresses are as on the wire.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use nftables::{
    batch::Batch,
    expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem},
    helper::{self, NftablesError},
    schema::{Chain, Counter, FlushObject, NfCmd, NfListObject, Rule, Table},
    stmt::{self, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};
use thiserror::Error;

/// The table's name, family `inet`.
pub const TABLE: &str = "hauberk";
const CHAIN: &str = "unguarded";
const COUNTER: &str = "dropped";
/// Behind source NAT (100) and what CNIs put there.
const PRIORITY: i32 = 300;
/// `lo` in every network namespace (LOOPBACK_IFINDEX, include/net/flow.h).
const LOOPBACK: u32 = 1;

/// What the table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Covered prefixes; IPv4 and IPv6.
    pub covered: BTreeSet<IpNet>,
    /// Other mesh nodes' addresses: replies of covered sources to them are covered too.
    pub nodes: BTreeSet<IpAddr>,
    /// Indexes of the devices covered traffic may leave by: guarded uplinks, pods' host sides, bridges, TUNs
    /// (`lo` always may). One that no longer exists does no harm.
    pub known_devices: BTreeSet<u32>,
}

/// nftables refused the table, or is not there.
#[derive(Debug, Error)]
pub enum FenceError {
    /// `nft` failed; is Debian's package `nftables` installed?
    #[error("the nftables table {TABLE} cannot be read or written (is `nft` installed?): {0}")]
    Nft(String),
}

impl From<NftablesError> for FenceError {
    fn from(error: NftablesError) -> Self {
        let text = match error {
            // nft's own words, which point into the whole input: the first line says it.
            NftablesError::NftFailed { stderr, .. } => stderr.lines().next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        };
        Self::Nft(text)
    }
}

/// Makes the table say exactly this, in one transaction. The count of drops goes on.
pub fn apply(fence: &Fence) -> Result<(), FenceError> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(table()));
    batch.add(NfListObject::Counter(counter()));
    batch.add(NfListObject::Chain(chain()));
    batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain())));
    for rule in rules(fence) {
        batch.add(NfListObject::Rule(Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: CHAIN.into(),
            expr: rule.into(),
            ..Rule::default()
        }));
    }
    run(batch)
}

/// Packets the rules have dropped since the table was made; `None` when there is no table.
pub fn dropped_packets() -> Result<Option<u64>, FenceError> {
    let listed =
        helper::get_current_ruleset_raw(helper::DEFAULT_NFT, ["list", "counters", "table", "inet", TABLE]);
    match listed {
        Ok(json) => Ok(packets(&json)),
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file or directory") => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes the table away; not an error when there is none.
pub fn remove() -> Result<(), FenceError> {
    let mut batch = Batch::new();
    // Adding first makes deleting succeed where there was none.
    batch.add(NfListObject::Table(table()));
    batch.delete(NfListObject::Table(table()));
    run(batch)
}

fn run(batch: Batch<'_>) -> Result<(), FenceError> {
    Ok(helper::apply_ruleset(&batch.to_nftables())?)
}

fn rules(fence: &Fence) -> Vec<Vec<Statement<'static>>> {
    let devices: BTreeSet<u32> = fence.known_devices.iter().copied().chain([LOOPBACK]).collect();
    let mut rules = vec![vec![
        matches(
            Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Oif })),
            devices.into_iter().map(index).collect(),
        ),
        Statement::Accept(None),
    ]];
    // nft takes no overlapping prefixes in one set.
    let covered = IpNet::aggregate(&fence.covered.iter().copied().collect());
    for v4 in [true, false] {
        let protocol = if v4 { "ip" } else { "ip6" };
        let prefixes: Vec<IpNet> = covered
            .iter()
            .copied()
            .filter(|net| matches!(net, IpNet::V4(_)) == v4)
            .collect();
        let nodes: Vec<IpNet> = fence
            .nodes
            .iter()
            .filter(|node| node.is_ipv4() == v4)
            .map(|&node| node.into())
            .collect();
        if prefixes.is_empty() {
            continue;
        }
        rules.push(vec![
            address(protocol, "daddr", &prefixes),
            count(),
            Statement::Drop(None),
        ]);
        if !nodes.is_empty() {
            rules.push(vec![
                address(protocol, "saddr", &prefixes),
                address(protocol, "daddr", &nodes),
                count(),
                Statement::Drop(None),
            ]);
        }
    }
    rules
}

/// An index that nft cannot take for a name. It looks for a device called so first, numbers of JSON included,
/// but a name has at most 15 characters.
fn index(ifindex: u32) -> SetItem<'static> {
    SetItem::Element(Expression::String(format!("{ifindex:016}").into()))
}

fn address(protocol: &'static str, field: &'static str, nets: &[IpNet]) -> Statement<'static> {
    let field = Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    });
    let items = nets
        .iter()
        .map(|net| {
            let addr = Expression::String(net.network().to_string().into());
            SetItem::Element(if net.prefix_len() == net.max_prefix_len() {
                addr
            } else {
                let len = u32::from(net.prefix_len());
                Expression::Named(NamedExpression::Prefix(Prefix {
                    addr: Box::new(addr),
                    len,
                }))
            })
        })
        .collect();
    matches(Expression::Named(NamedExpression::Payload(field)), items)
}

fn matches(left: Expression<'static>, items: Vec<SetItem<'static>>) -> Statement<'static> {
    Statement::Match(Match {
        left,
        right: Expression::Named(NamedExpression::Set(items)),
        op: Operator::EQ,
    })
}

fn count() -> Statement<'static> {
    Statement::Counter(stmt::Counter::Named(COUNTER.into()))
}

fn table() -> Table<'static> {
    Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    }
}

fn counter() -> Counter<'static> {
    Counter {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: COUNTER.into(),
        ..Counter::default()
    }
}

fn chain() -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: CHAIN.into(),
        _type: Some(NfChainType::Filter),
        hook: Some(NfHook::Postrouting),
        prio: Some(PRIORITY),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    }
}

/// The counter's packets in nft's listing. (The crate's type holds 32 bits only.)
fn packets(json: &str) -> Option<u64> {
    let listing: serde_json::Value = serde_json::from_str(json).ok()?;
    listing["nftables"]
        .as_array()?
        .iter()
        .find(|object| object["counter"]["name"] == COUNTER)
        .and_then(|object| object["counter"]["packets"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_in_nfts_listing() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"counter": {"family": "inet",
            "name": "dropped", "table": "hauberk", "handle": 1, "packets": 5000000000, "bytes": 7}}]}"#;
        assert_eq!(packets(json), Some(5_000_000_000));
        assert_eq!(packets("{}"), None);
        assert_eq!(packets("half a listi"), None);
    }

    #[test]
    fn a_family_without_prefixes_has_no_rule() {
        let fence = Fence {
            covered: ["10.0.0.0/8".parse().expect("a prefix")].into(),
            nodes: [
                "192.168.0.1".parse().expect("an address"),
                "fd00::1".parse().expect("an address"),
            ]
            .into(),
            known_devices: BTreeSet::new(),
        };
        assert_eq!(
            rules(&fence).len(),
            3,
            "known devices, covered destinations, replies to nodes"
        );
    }
}
