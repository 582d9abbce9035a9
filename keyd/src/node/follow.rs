//! Pods of other nodes come and go all the time in a large cluster: their addresses are followed one by one.

use std::time::Duration;

use super::Node;
use crate::compute::Tunnel;

/// After so long the next change has all computed anew and compared with what the kernel holds, whatever it is.
const SETTLE_AFTER: Duration = Duration::from_secs(60);

impl Node {
    /// Puts the objects' change in force if it is of other nodes' pods only; says whether that was all there is to do.
    pub(super) fn follow(&mut self) -> bool {
        let recent = self.settled.is_some_and(|at| at.elapsed() < SETTLE_AFTER);
        if !recent || self.not_ready.is_some() || !self.failures.is_empty() {
            return false;
        }
        let update = self.updates.borrow_and_update().clone();
        if !update.in_sync || self.reasons(&update) != self.said {
            return false;
        }
        let Some(desired) = &self.desired else {
            return false;
        };
        let changes = self.follower.follow(&update.snapshot, desired, &mut self.memory);
        let Some(changes) = changes else { return false };
        let up = desired.tunnel != Tunnel::Down;
        // What cannot be noted or written is told and tried again by settling, from what is in force.
        if self.note().is_err() {
            return false;
        }
        let in_force = match &mut self.kernel {
            Some(kernel) if up => kernel.change_addresses(&changes).is_ok(),
            _ => !up && self.clean,
        };
        if let Some(desired) = self.desired.as_mut().filter(|_| in_force) {
            self.follower.advance(&update.snapshot, desired, changes);
        }
        in_force
    }
}
