//! Compares what keyds hold with what the API server has, over and over while pods come and go.
//!
//! A round: what the API server has, a while in which keyds may come to know it, the maps, and what the API server
//! has then. What was there all that time has to be in the maps, as the pod's it is, and nothing else may be.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::sleep};

use super::{
    error::ScaleError,
    ipcache::Ipcache,
    requests::Requests,
    truth::Truth,
    verify::{Entries, Expected, Known},
};

/// So long a keyd may hold what is no longer so; well above the bar of how soon it should know, so that only what
/// would have stayed is wrong.
const GRACE: Duration = Duration::from_secs(2);
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(3);

/// What was found so far.
#[derive(Default)]
pub struct Inspector {
    /// For each keyd.
    known: Vec<Known>,
    pub found: Found,
}

/// Sums over all keyds and rounds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub rounds: usize,
    /// Entries that were compared.
    pub compared: usize,
    /// Those that were wrong, in words.
    pub wrong: Vec<String>,
}

impl Inspector {
    /// For so many keyds.
    pub fn new(keyds: usize) -> Self {
        Self {
            known: (0..keyds).map(|_| Known::default()).collect(),
            found: Found::default(),
        }
    }

    /// Compares with everything that there is, once; nothing may change meanwhile.
    pub async fn compare(&mut self, requests: &Requests, maps: &Arc<Vec<Ipcache>>) -> Result<(), ScaleError> {
        let truth = Truth::whole(requests).await?;
        let held = read(maps).await?;
        self.judge(&held, &truth.until(&truth));
        Ok(())
    }

    /// Compares again and again, until it is dropped; `staying` has the pods that do not come and go.
    pub async fn follow(
        &mut self,
        requests: &Requests,
        maps: &Arc<Vec<Ipcache>>,
        staying: &Truth,
    ) -> Result<Infallible, ScaleError> {
        loop {
            let before = Truth::passing(requests).await?.with_pods_of(staying);
            sleep(GRACE).await;
            let held = read(maps).await?;
            let after = Truth::passing(requests).await?.with_pods_of(staying);
            self.judge(&held, &before.until(&after));
            sleep(PAUSE).await;
        }
    }

    fn judge(&mut self, held: &[Entries], expected: &Expected) {
        let Found {
            rounds,
            compared,
            wrong,
        } = &mut self.found;
        *rounds += 1;
        for (number, (known, entries)) in self.known.iter_mut().zip(held).enumerate() {
            *compared += entries.len();
            let found = known.wrong(entries, expected);
            wrong.extend(found.into_iter().map(|what| format!("keyd {number}: {what}")));
        }
    }
}

/// All of the maps; off the runtime's threads, since it takes a system call for each entry.
async fn read(maps: &Arc<Vec<Ipcache>>) -> Result<Vec<Entries>, ScaleError> {
    let maps = Arc::clone(maps);
    let read = move || maps.iter().map(Ipcache::entries).collect();
    spawn_blocking(read).await.expect("reading does not panic")
}
