//! How soon all keyds know of a pod: the time from the request that writes its addresses until the last of them
//! has programmed them.

use std::{net::IpAddr, time::Duration};

use indicatif::ProgressBar;
use tokio::time::{Instant, sleep};

use super::{
    bar,
    error::ScaleError,
    ipcache::{Holder, Ipcache},
    objects::{self, Host, Site},
    report::{Report, percentile_ms},
    requests::{PODS, Requests},
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
    /// Until the API server had answered; a watch may have been quicker.
    pub answered: Vec<Duration>,
    /// Until the last keyd had forgotten a removed pod.
    pub gone: Vec<Duration>,
    /// Looks at which a keyd led a new pod's address to another node than its own.
    pub misled: u64,
    /// Changes that some keyd did not know in the end.
    pub lost: u64,
}

/// What was seen of one new pod.
pub struct Arrival {
    known: Duration,
    answered: Duration,
    misled: u64,
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
        let (nobody, peers) = (vec![None; maps.len()], peers(maps, site.node)?);
        let leads = |map: usize, peer| peers[map] == Some(peer);
        arrivals.add(make(requests, maps, number, site, &nobody, leads).await?);
        sleep(PAUSE).await;
        let begin = Instant::now();
        remove(requests, number, site).await?;
        let gone = until(maps, &site.addresses(), begin, |_, holder| holder.is_none()).await?;
        arrivals.add_removal(gone);
        sleep(PAUSE).await;
        progress.inc(1);
    }
    Ok(arrivals)
}

impl Arrivals {
    /// Takes in what was seen of one new pod.
    pub fn add(&mut self, arrival: Arrival) {
        self.known.push(arrival.known);
        self.answered.push(arrival.answered);
        self.misled += arrival.misled;
        self.lost += u64::from(arrival.known >= PATIENCE);
    }

    fn add_removal(&mut self, gone: Duration) {
        self.gone.push(gone);
        self.lost += u64::from(gone >= PATIENCE);
    }

    /// Puts what was seen into the report; `when` begins the names, `what` the meanings. The 99th percentile of how
    /// soon new ones are known has to stay `below`, in ms.
    pub fn tell(&self, report: &mut Report, when: &str, what: &str, below: f64) {
        let known = |share| percentile_ms(&self.known, share);
        report.hold(
            format!("{when}_known"),
            format!("{what}: known to all keyds, p99"),
            known(0.99),
            "ms",
            below,
        );
        for (name, share, meaning) in [("p50", 0.5, "median"), ("max", 1.0, "most")] {
            report.note(
                format!("{when}_known_{name}"),
                format!("{what}: known to all keyds, {meaning}"),
                known(share),
                "ms",
            );
        }
        report.note(
            format!("{when}_answered"),
            format!("{what}: the API server has answered, p99"),
            percentile_ms(&self.answered, 0.99),
            "ms",
        );
        if !self.gone.is_empty() {
            report.note(
                format!("{when}_gone"),
                format!("{what}: gone from all keyds, p99"),
                percentile_ms(&self.gone, 0.99),
                "ms",
            );
        }
        report.hold(
            format!("{when}_misled"),
            format!("{what}: looks that led elsewhere"),
            self.misled as f64,
            "",
            bar::NONE,
        );
        report.hold(
            format!("{when}_lost"),
            format!("{what}: not known after {} s", PATIENCE.as_secs()),
            self.lost as f64,
            "",
            bar::NONE,
        );
    }
}

/// Makes a pod whose addresses were those of `before`, for each keyd, and waits until all know; `leads` says of a
/// keyd's number and a peer whether that is the node that the pod is on.
pub async fn make(
    requests: &Requests,
    maps: &[Ipcache],
    number: usize,
    site: Site,
    before: &[Option<Holder>],
    leads: impl Fn(usize, u32) -> bool,
) -> Result<Arrival, ScaleError> {
    let (object, status) = objects::synthetic_pod(number, site);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    requests.create(PODS, &object).await?;
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
        let leads_there = leads(map, holder.peer);
        misled += u64::from(is_new && !leads_there);
        is_new && leads_there
    });
    let (answered, known) = tokio::try_join!(answered, known)?;
    Ok(Arrival {
        known,
        answered,
        misled,
    })
}

/// The peer that a node's prefix leads to, for each keyd.
pub fn peers(maps: &[Ipcache], node: Host) -> Result<Vec<Option<u32>>, ScaleError> {
    let [prefix, _] = node.pod_cidrs();
    maps.iter().map(|map| map.peer_of(prefix)).collect()
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
