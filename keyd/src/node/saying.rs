//! What keyd says of its node: the NodeTunnel, the report, and the reasons in its conditions.

use std::sync::Arc;
use std::time::Instant;

use hauberk_api::NodeTunnel;

use super::Node;
use super::numbers::{self, Counted};
use crate::cni::install::Chain;
use crate::compute::{self, Reason, conditions};
use crate::kernel::Kernel;
use crate::report::NodeReport;
use crate::source::Update;

impl Node {
    /// Publishes this node's NodeTunnel, and reports.
    pub(super) fn publish(&mut self) {
        if let Some(tunnel) = self.present_tunnel()
            && let Err(error) = self.source.publish_tunnel(&tunnel)
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
            counted.fence_drops = self.fence_drops;
        }
        counted.fill(&mut report);
        report.programs_displaced = self.kernel.as_ref().map_or(0, Kernel::displaced);
        let update = self.updates.borrow().clone();
        let failures = self.not_in_force();
        let reasons = self.reasons(&update).into_iter();
        report.problems = reasons
            .chain(
                failures
                    .iter()
                    .map(|text| Reason::new(conditions::NOT_IN_FORCE, text.clone())),
            )
            .map(|reason| format!("{}: {}", reason.reason, reason.message))
            .collect();
        if let Some(tunnel) = self.present_tunnel() {
            numbers::fill_conditions(&mut report, &tunnel);
        }
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
        report.ready = self.desired.is_some() && self.not_ready.is_none() && failures.is_empty();
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

    /// This node's NodeTunnel with what is not in force of it.
    fn present_tunnel(&self) -> Option<NodeTunnel> {
        let mut tunnel = self.tunnel.clone()?;
        conditions::set_not_in_force(&mut tunnel, &self.not_in_force());
        Some(tunnel)
    }

    /// What failed, and is tried again.
    fn not_in_force(&self) -> Vec<String> {
        self.failures.iter().chain(&self.unmended).cloned().collect()
    }

    /// What is wrong with this node now, but for what is not in force.
    pub(super) fn reasons(&self, update: &Update) -> Vec<Reason> {
        let manifests = update
            .problems
            .iter()
            .map(|found| Reason::new(compute::BAD_MANIFEST, found.to_string()));
        let now = Instant::now();
        let mended = self.mended.iter().filter(|(_, (_, until))| now < *until);
        let mended = mended.map(|(reason, (text, _))| Reason::new(reason, text.clone()));
        let unreachable = update.unreachable.iter().cloned();
        let source = unreachable.map(|text| Reason::new("SourceUnreachable", text));
        let unpublished = self
            .source
            .trouble()
            .map(|text| Reason::new("NotPublished", text));
        let unchained = self.chain.iter().filter_map(Chain::trouble);
        let unchained = unchained.map(|text| Reason::new("CniNotChained", text));
        manifests
            .chain(mended)
            .chain(source)
            .chain(unpublished)
            .chain(unchained)
            .collect()
    }
}
