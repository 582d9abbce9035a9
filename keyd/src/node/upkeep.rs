//! What nobody tells keyd by itself: what others on the node put in front, took away or set anew.

use std::time::{Duration, Instant};

use super::Node;
use super::pairs::Actions;
use crate::kernel::{Kernel, KernelError};

/// The fence's count costs a process, so it is read every so many ticks.
const FENCE_TICKS: u64 = 10;
/// A fault that was mended stays in the condition this long.
const MENDED_SHOWN: Duration = Duration::from_secs(60);

impl Node {
    /// The second's tick: what nobody tells by itself.
    pub(super) async fn look_around(&mut self) -> anyhow::Result<()> {
        self.ticks += 1;
        let mut again = !self.failures.is_empty();
        again |= !self.lanes.reap().is_empty();
        again |= self.mend_programs();
        again |= self.ticks.is_multiple_of(FENCE_TICKS) && self.look_at_fence();
        // Whoever loads conntrack, or the machine's settings, sets it anew; settling says why it cannot be set.
        again |= self.is_up() && self.liberal.set().is_err();
        again |= self.reread_due && self.reread().await;
        let update = self.updates.borrow().clone();
        again |= self.reasons(&update) != self.said;
        self.wiring
            .resolve_missing(&self.own_pod_addresses(&update.snapshot))
            .await;
        if again {
            self.settle(Actions::new()).await?;
        }
        self.report();
        Ok(())
    }

    /// Puts programs first again that are not; says whether there is anything new to be said of it.
    pub(super) fn mend_programs(&mut self) -> bool {
        let (displaced, unmended) = self.kernel.as_mut().map(Kernel::mend_order).unwrap_or_default();
        for failure in &unmended {
            tracing::error!(failure, "the order of programs cannot be checked");
        }
        if !displaced.is_empty() {
            tracing::warn!(
                ?displaced,
                "keyd's programs were not first, or gone; they are first again"
            );
            let text = "a foreign program stood before one of keyd's, or one was taken off";
            self.show_mended("ProgramDisplaced", text.to_owned());
        }
        let news = !displaced.is_empty() || unmended != self.unmended;
        self.unmended = unmended;
        news
    }

    /// Reads what the fence dropped; says whether it has to be put up again.
    fn look_at_fence(&mut self) -> bool {
        let Some(kernel) = &mut self.kernel else {
            return false;
        };
        match kernel.fence_dropped() {
            Ok(packets) => {
                self.fence_drops = packets.unwrap_or(self.fence_drops);
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the fence");
                let gone = matches!(error, KernelError::FenceGone);
                let reason = if gone { "FenceDisplaced" } else { "FenceUnread" };
                self.show_mended(reason, error.to_string());
                gone
            }
        }
    }

    fn show_mended(&mut self, reason: &'static str, text: String) {
        self.mended.insert(reason, (text, Instant::now() + MENDED_SHOWN));
    }
}
