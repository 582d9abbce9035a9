//! Compares what keyds hold with what the API server has, over and over while pods come and go.
//!
//! A round: what the API server has, a while in which keyds may come to know it, the maps, and what the API server
//! has then. What was there all that time has to be in the maps, as the pod's it is, and nothing else may be.

use std::{convert::Infallible, sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, time::sleep};

use super::{
    error::ScaleError,
    ipcache::Ipcache,
    requests::Requests,
    truth::Truth,
    verify::{Entries, Expected, Known},
};
use crate::cpu;

/// So long a keyd may hold what is no longer so; well above the bar of how soon it should know, so that only what
/// would have stayed is wrong.
const GRACE: Duration = Duration::from_secs(2);

/// What changes while keyds are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changing {
    /// Pods, of which many come and go in a second.
    Pods,
    /// Nodes, and pods with them.
    Nodes,
}

impl Changing {
    /// Between two rounds. Each takes the API server and this machine a while, which those who are waited for have not.
    fn pause(self) -> Duration {
        match self {
            Self::Pods => Duration::from_secs(8),
            Self::Nodes => Duration::from_secs(3),
        }
    }

    async fn look(self, requests: &Requests, staying: &Truth) -> Result<Truth, ScaleError> {
        let passing = match self {
            Self::Pods => Truth::passing_pods(requests).await?.with_nodes_of(staying),
            Self::Nodes => Truth::passing(requests).await?,
        };
        Ok(passing.with_pods_of(staying))
    }
}

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

    /// Compares again and again, until it is dropped; `staying` has what does not change.
    pub async fn follow(
        &mut self,
        requests: &Requests,
        maps: &Arc<Vec<Ipcache>>,
        changing: Changing,
        staying: &Truth,
    ) -> Result<Infallible, ScaleError> {
        loop {
            let before = changing.look(requests, staying).await?;
            sleep(GRACE).await;
            let held = read(maps).await?;
            let after = changing.look(requests, staying).await?;
            self.judge(&held, &before.until(&after));
            sleep(changing.pause()).await;
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

/// All of the maps. A system call for each entry takes a core for a while, which keyds must not have to wait for: what
/// they are measured at is done on a thread that gives way.
async fn read(maps: &Arc<Vec<Ipcache>>) -> Result<Vec<Entries>, ScaleError> {
    let (maps, (done, read)) = (Arc::clone(maps), oneshot::channel());
    thread::spawn(move || {
        cpu::give_way();
        // Nobody waits any longer where the run was ended.
        let _ = done.send(maps.iter().map(Ipcache::entries).collect());
    });
    read.await.expect("reading does not panic")
}
