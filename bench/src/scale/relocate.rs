//! Nodes that go, and others that come in their place, as where machines are replaced: with their addresses, their
//! prefixes, and a pod at the address that a pod had on the node before.
//!
//! Inside a cluster an address changes its node in no other way, since a pod has one only from its node's prefix.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    arrival::{self, Arrivals},
    error::ScaleError,
    fill,
    ipcache::Ipcache,
    objects::{Host, Site},
    requests::{NODES, Requests, TUNNELS},
    signing::Signing,
};

/// Between two that are replaced.
const PACE: Duration = Duration::from_secs(2);
/// So many are replaced.
pub const TURNS: usize = 10;

/// Which are replaced, and by what.
pub struct Relocation {
    /// Nodes without pods that stay.
    pub hosts: Vec<Host>,
    /// The number of the next node.
    pub next_node: usize,
    /// The number of the next pod.
    pub next_pod: usize,
    /// Lanes of each node.
    pub lanes: u16,
}

impl Relocation {
    /// Replaces one node after the other; at the end the pods are gone.
    pub async fn run(
        mut self,
        requests: &Requests,
        signing: &Signing,
        maps: &Arc<Vec<Ipcache>>,
    ) -> Result<Arrivals, ScaleError> {
        let mut arrivals = Arrivals::default();
        let mut pods = vec![None; self.hosts.len()];
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0..TURNS {
            pace.tick().await;
            let spare = turn % self.hosts.len();
            let old = self.hosts[spare];
            let new = old.heir(self.next_node);
            let site = Site::first_passing(new);
            let before = arrival::holders(maps, site.addresses()[0])?;
            let old_peers = arrival::peers(maps, old)?;
            if let Some(pod) = pods[spare].replace(self.next_pod) {
                arrival::remove(requests, pod, Site::first_passing(old)).await?;
            }
            for path in [NODES, TUNNELS] {
                requests.remove(path, &old.name()).await?;
            }
            fill::node(requests, signing, new, self.lanes).await?;
            let leads = |map: usize, peer| old_peers[map] != Some(peer);
            arrivals.add(arrival::make(requests, maps, self.next_pod, site, &before, leads).await?);
            self.hosts[spare] = new;
            self.next_node += 1;
            self.next_pod += 1;
        }
        for (host, pod) in self.hosts.into_iter().zip(pods) {
            if let Some(pod) = pod {
                arrival::remove(requests, pod, Site::first_passing(host)).await?;
            }
        }
        Ok(arrivals)
    }
}
