//! What the fabric does to packets, besides carrying them.

use std::time::Duration;

/// Parts per million of packets that are lost, duplicated, held back. All zero by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impairment {
    /// Lost.
    pub loss_ppm: u32,
    /// Sent twice.
    pub duplicate_ppm: u32,
    /// Held back for `reorder_hold`, so that later ones overtake them.
    pub reorder_ppm: u32,
    /// How long a reordered packet is held back.
    pub reorder_hold: Duration,
    /// The same seed makes the same decisions for the same packets on one CPU.
    pub seed: u32,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            reorder_hold: Duration::from_millis(2),
            seed: 1,
        }
    }
}

impl Impairment {
    pub(crate) fn does_nothing(&self) -> bool {
        self.loss_ppm == 0 && self.duplicate_ppm == 0 && self.reorder_ppm == 0
    }
}
