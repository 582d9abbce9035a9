//! What keyd says of its node: the NodeTunnel, the report, and the reasons in its conditions.

use std::sync::Arc;
use std::time::Instant;

use super::numbers::{self, Counted};
use super::{FENCE_TICKS, Node};
use crate::compute::Reason;
use crate::kernel::{self, Kernel};
use crate::report::NodeReport;
use crate::source::Update;

impl Node {
    /// Publishes this node's NodeTunnel, and reports.
    pub(super) fn publish(&mut self) {
        if let Some(desired) = &self.desired
            && let Err(error) = self.source.publish_tunnel(&desired.publish)
        {
            tracing::error!(%error, "NodeTunnel not published");
            self.failures.push(error.to_string());
        }
        self.report();
    }

    /// Collects the numbers, for whoever asks and for the state file.
    pub(super) fn report(&mut self) {
        let mut report = NodeReport {
            name: self.options.node.clone(),
            ..NodeReport::default()
        };
        let mut counted = Counted {
            lanes: self.lanes.stats(),
            ..Counted::default()
        };
        if let Some(kernel) = &self.kernel {
            if let Ok((drops, passed)) = kernel.counts() {
                (counted.drops, counted.passed) = (drops, passed);
            }
            if self.ticks.is_multiple_of(FENCE_TICKS) {
                self.fence_drops = kernel::fence_dropped().unwrap_or(self.fence_drops);
            }
            counted.fence_drops = self.fence_drops;
        }
        counted.fill(&mut report);
        report.programs_displaced = self.kernel.as_ref().map_or(0, Kernel::displaced);
        let update = self.updates.borrow().clone();
        report.problems = self
            .reasons(&update)
            .into_iter()
            .map(|reason| format!("{}: {}", reason.reason, reason.message))
            .collect();
        if let Some(desired) = &self.desired {
            numbers::fill_state(&mut report, desired);
            numbers::fill_peers(
                &mut report,
                desired,
                &self.generations,
                &self.pairs,
                &counted.lanes,
            );
        }
        report.ready = self.desired.is_some() && self.not_ready.is_none() && self.failures.is_empty();
        if let Some(reason) = &self.not_ready {
            report.reason.clone_from(reason);
        }
        self.write_state(&report);
        self.reports.send_replace(Arc::new(report));
    }

    /// The last word: nobody shall take an old report for the present.
    pub(super) fn report_stopped(&mut self) {
        let last = NodeReport::clone(&self.reports.borrow());
        self.write_state(&NodeReport {
            ready: false,
            encrypted: false,
            reason: "Stopped".to_owned(),
            lanes: Vec::new(),
            ..last
        });
    }

    fn write_state(&mut self, report: &NodeReport) {
        let json = serde_json::to_vec(report).expect("a report has text keys only");
        if json == self.state_written {
            return;
        }
        match self.source.publish_state(&self.options.node, &json) {
            Ok(()) => self.state_written = json,
            Err(error) => tracing::warn!(%error, "state not written"),
        }
    }

    /// What is wrong with this node now.
    pub(super) fn reasons(&self, update: &Update) -> Vec<Reason> {
        let manifests = update
            .problems
            .iter()
            .map(|found| Reason::new("BadManifest", found.to_string()));
        let failures = self
            .failures
            .iter()
            .map(|text| Reason::new("NotInForce", text.clone()));
        let displaced = self
            .displaced_until
            .filter(|until| Instant::now() < *until)
            .map(|_| Reason::new("ProgramDisplaced", "a foreign program stood before one of keyd's"));
        manifests.chain(failures).chain(displaced).collect()
    }
}
