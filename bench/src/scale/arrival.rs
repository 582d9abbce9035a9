//! How soon all keyds know of a pod: the time from the request that writes its addresses until the last of them
//! has programmed them.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use indicatif::ProgressBar;
use tokio::time::{Instant, sleep};

use super::{
    error::ScaleError,
    ipcache::{Expected, Holder, Ipcache},
    objects::{self, Site},
    requests::{ALL_PODS, NODES, PODS, Requests},
};

/// Between two looks at the maps, each of which takes about a microsecond a map.
const LOOK: Duration = Duration::from_millis(1);
/// A change that is not known after so long counts as one that took as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two samples, so that each finds keyd idle.
const PAUSE: Duration = Duration::from_millis(100);

/// What was seen of changes.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Until the last keyd knew of a new pod.
    pub known: Vec<Duration>,
    /// Of that, until the API server had answered.
    pub answered: Vec<Duration>,
    /// Until the last keyd had forgotten a removed pod.
    pub gone: Vec<Duration>,
    /// Looks at which a keyd led a new pod's address to another node than its own.
    pub misled: u64,
}

/// Makes pods and removes them, one after the other.
pub async fn sample(
    requests: &Requests,
    maps: &[Ipcache],
    pods: std::ops::Range<usize>,
    nodes: usize,
    progress: &ProgressBar,
) -> Result<Arrivals, ScaleError> {
    let mut arrivals = Arrivals::default();
    for (place, number) in pods.enumerate() {
        // Another node each time.
        let site = Site::passing(place % nodes, nodes).expect("there is one such place on each node");
        arrivals.add(make(requests, maps, number, site, &vec![None; maps.len()]).await?);
        sleep(PAUSE).await;
        let begin = Instant::now();
        remove(requests, number, site).await?;
        let known = until(maps, &site.addresses(), begin, |_, holder| holder.is_none()).await?;
        arrivals.gone.push(known);
        sleep(PAUSE).await;
        progress.inc(1);
    }
    Ok(arrivals)
}

impl Arrivals {
    pub fn add(&mut self, (known, answered, misled): (Duration, Duration, u64)) {
        self.known.push(known);
        self.answered.push(answered);
        self.misled += misled;
    }
}

/// Makes a pod whose addresses were those of `before`, for each keyd. Says how long it took until all knew, how
/// long the API server took of that, and how often an address led elsewhere meanwhile.
pub async fn make(
    requests: &Requests,
    maps: &[Ipcache],
    number: usize,
    site: Site,
    before: &[Option<Holder>],
) -> Result<(Duration, Duration, u64), ScaleError> {
    let (object, status) = objects::synthetic_pod(number, site);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    requests.create(PODS, &object).await?;
    let [prefix, _] = objects::pod_cidrs(site.node);
    let peers = maps
        .iter()
        .map(|map| map.peer_of(prefix))
        .collect::<Result<Vec<_>, _>>()?;
    let mut misled = 0;
    let begin = Instant::now();
    let answered = async {
        requests.put_status(PODS, name, &status).await?;
        Ok::<_, ScaleError>(begin.elapsed())
    };
    let addresses = site.addresses();
    let known = until(maps, &addresses, begin, |map, holder| {
        let Some(holder) = holder else { return false };
        // The number of an identity is never given twice.
        let is_new = before[map].is_none_or(|before| before.identity != holder.identity);
        let leads_there = peers[map] == Some(holder.peer);
        misled += u64::from(is_new && !leads_there);
        is_new && leads_there
    });
    let (answered, known) = tokio::try_join!(answered, known)?;
    Ok((known, answered, misled))
}

/// Removes a pod.
pub async fn remove(requests: &Requests, number: usize, site: Site) -> Result<(), ScaleError> {
    let (object, _) = objects::synthetic_pod(number, site);
    requests
        .remove(PODS, object["metadata"]["name"].as_str().unwrap_or_default())
        .await
}

/// Who has an address, for each keyd.
pub fn holders(maps: &[Ipcache], address: IpAddr) -> Result<Vec<Option<Holder>>, ScaleError> {
    maps.iter().map(|map| map.holder(address)).collect()
}

/// What the maps should hold by what the API server has.
pub async fn expected(requests: &Requests) -> Result<Expected, ScaleError> {
    let mut expected = Expected::default();
    let mut prefixes: BTreeMap<String, Vec<ipnet::IpNet>> = BTreeMap::new();
    requests
        .each(NODES, |node| {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            let cidrs = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
            let cidrs = cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok());
            prefixes.insert(name.to_owned(), cidrs.collect());
            let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
            let own = addresses.filter_map(|one| one["address"].as_str()?.parse::<IpAddr>().ok());
            expected.nodes.extend(own);
        })
        .await?;
    requests
        .each(ALL_PODS, |pod| {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
            for address in addresses.filter_map(|ip| ip["ip"].as_str()?.parse::<IpAddr>().ok()) {
                let of_node = prefixes.get(node).into_iter().flatten();
                let prefix = of_node.copied().find(|prefix| prefix.contains(&address));
                expected.pods.extend(prefix.map(|prefix| (address, prefix)));
            }
        })
        .await?;
    expected.prefixes = prefixes.into_values().flatten().collect();
    Ok(expected)
}

/// Waits until `holds` of every keyd and address; says how long after `begin` that was.
async fn until(
    maps: &[Ipcache],
    addresses: &[IpAddr],
    begin: Instant,
    mut holds: impl FnMut(usize, Option<Holder>) -> bool,
) -> Result<Duration, ScaleError> {
    let mut open: Vec<_> = (0..maps.len())
        .flat_map(|map| addresses.iter().map(move |at| (map, *at)))
        .collect();
    loop {
        let mut still = Vec::new();
        for (map, address) in open {
            if !holds(map, maps[map].holder(address)?) {
                still.push((map, address));
            }
        }
        let after = begin.elapsed();
        if still.is_empty() || after > PATIENCE {
            return Ok(after);
        }
        open = still;
        sleep(LOOK).await;
    }
}
