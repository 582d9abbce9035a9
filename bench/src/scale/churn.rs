//! Pods that come and go, so many a minute, each at the addresses of the one that went.
//!
//! A place is taken by one pod after the other: the old one is removed, and the new one has the addresses as soon
//! as the API server has answered that. Where requests take longer than a place's turn, the rate falls behind,
//! and the rate that was reached is what is reported.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    arrival::{self, Arrival, Arrivals},
    error::ScaleError,
    fill::progress,
    ipcache::Ipcache,
    objects::Site,
    requests::Requests,
};

/// So long a pod is there.
const LIFE: Duration = Duration::from_secs(15);

/// What came of it.
#[derive(Debug, Default)]
pub struct Churned {
    pub arrivals: Arrivals,
    /// Pods made, and as many removed.
    pub pods: usize,
    /// How long it took.
    pub took: Duration,
}

/// A place, and the number of the pod that has it.
type Place = Arc<Mutex<(Site, Option<usize>)>>;

/// How many pods that is.
pub fn turns(rate: u64, duration: Duration) -> usize {
    (duration.as_secs_f64() * rate as f64 / 60.0) as usize
}

/// Lets so many pods come and go, `rate` a minute, with numbers from `first` on; at the end all are gone.
pub async fn run(
    requests: &Requests,
    maps: &Arc<Vec<Ipcache>>,
    nodes: usize,
    first: usize,
    rate: u64,
    turns: usize,
) -> Result<Churned, ScaleError> {
    let places = (rate as f64 * LIFE.as_secs_f64() / 60.0).ceil() as usize;
    let places: Vec<Place> = (0..places.max(1))
        .map_while(|number| Site::passing(number, nodes))
        .map(|site| Arc::new(Mutex::new((site, None))))
        .collect();
    let bar = progress(turns as u64, "pods came and went");
    let mut pace = interval(Duration::from_secs(60) / rate as u32);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut churned = Churned::default();
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for turn in 0..turns {
        pace.tick().await;
        let place = Arc::clone(&places[turn % places.len()]);
        tasks.spawn(replace(requests.clone(), Arc::clone(maps), place, first + turn));
        while let Some(done) = tasks.try_join_next() {
            churned.take_in(done.expect("no turn panics")?);
            bar.inc(1);
        }
    }
    while let Some(done) = tasks.join_next().await {
        churned.take_in(done.expect("no turn panics")?);
        bar.inc(1);
    }
    churned.took = begin.elapsed();
    for place in &places {
        let mut held = place.lock().await;
        if let Some(number) = held.1.take() {
            arrival::remove(requests, number, held.0).await?;
        }
    }
    bar.finish_and_clear();
    Ok(churned)
}

impl Churned {
    fn take_in(&mut self, one: Arrival) {
        self.arrivals.add(one);
        self.pods += 1;
    }
}

async fn replace(
    requests: Requests,
    maps: Arc<Vec<Ipcache>>,
    place: Place,
    number: usize,
) -> Result<Arrival, ScaleError> {
    let mut held = place.lock().await;
    let site = held.0;
    let before = arrival::holders(&maps, site.addresses()[0])?;
    if let Some(old) = held.1.replace(number) {
        arrival::remove(&requests, old, site).await?;
    }
    let peers = arrival::peers(&maps, site.node)?;
    let leads = |map: usize, peer| peers[map] == Some(peer);
    arrival::make(&requests, &maps, number, site, &before, leads).await
}
