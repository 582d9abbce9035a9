//! What nodes cost while no object changes: first in silence, then while one pair of nodes sends with all it has.
//!
//! What a node counts of its traffic is its own matter: it is neither written to the API server, where every other
//! node would be sent it, nor does it wake a keyd that has no part in it.

use std::{thread::sleep, time::Duration};

use hauberk_netlab::iperf;

use super::{
    bar,
    error::ScaleError,
    report::Report,
    span::{Span, Spent},
    stage::Stage,
    watchers::Watchers,
};

/// Seconds of traffic.
const TRAFFIC_S: u32 = 20;
/// The real nodes between which it is.
const TALKING: usize = 2;

/// Counts what is used and asked in so many seconds of silence.
pub fn silence(
    stage: &Stage,
    watchers: &Watchers,
    seconds: u64,
    report: &mut Report,
) -> Result<Spent, ScaleError> {
    let span = Span::begin(stage, watchers)?;
    sleep(Duration::from_secs(seconds));
    let spent = span.end(stage, watchers)?;
    report.hold(
        "quiet_requests",
        "quiet: requests of a node",
        spent.requests(),
        "1/min",
        bar::QUIET_REQUESTS,
    );
    report.note(
        "quiet_watches",
        "quiet: its watches taken up again",
        spent.watches(),
        "1/min",
    );
    report.note(
        "quiet_cpu",
        "quiet: CPU time of a keyd",
        spent.mean_busy() * 1e3,
        "ms/s",
    );
    report.note(
        "quiet_wakeups",
        "quiet: wakeups of the keyds that stay quiet",
        bystanders(&spent),
        "1/s",
    );
    report.note(
        "quiet_bytes",
        "quiet: sent to a watcher",
        spent.bytes / spent.seconds,
        "B/s",
    );
    report.quiet_requests = spent.asked.others.clone();
    Ok(spent)
}

/// Lets the first two real nodes send to each other, and looks at who else notices.
pub fn traffic(
    stage: &Stage,
    watchers: &Watchers,
    silence: &Spent,
    report: &mut Report,
) -> Result<(), ScaleError> {
    let [a, b] = [0, 1].map(|number| &stage.lab.nodes()[number].pods()[0]);
    let span = Span::begin(stage, watchers)?;
    let sent = iperf::stream(a.command("iperf3"), b.command("iperf3"), b.v4().into(), TRAFFIC_S)?;
    let spent = span.end(stage, watchers)?;
    report.note(
        "traffic_gbps",
        "traffic of one pair: its rate, encrypted",
        sent.gbps,
        "Gbit/s",
    );
    report.hold(
        "traffic_events",
        "traffic of one pair: events sent to a watcher",
        spent.events,
        "",
        bar::NONE,
    );
    report.hold(
        "traffic_requests",
        "traffic of one pair: requests of a node",
        spent.requests(),
        "1/min",
        bar::QUIET_REQUESTS,
    );
    report.hold(
        "traffic_wakeups",
        "traffic of one pair: wakeups of the other keyds",
        bystanders(&spent),
        "1/s",
        bystanders(silence) * bar::WAKEUPS,
    );
    Ok(())
}

/// Wakeups in a second of a keyd whose node has no part in the traffic, on average.
fn bystanders(spent: &Spent) -> f64 {
    let quiet = &spent.wakeups[TALKING..];
    quiet.iter().sum::<f64>() / quiet.len() as f64
}
