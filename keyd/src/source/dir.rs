//! A directory of manifests, watched.

use std::path::Path;

use tokio::sync::watch;

use super::{SourceError, Update};

/// A running watch; dropping it ends its thread.
pub struct Watch;

impl Watch {
    /// Reads everything, then watches.
    pub fn start(_path: &Path) -> Result<(Self, watch::Receiver<Update>), SourceError> {
        todo!()
    }
}
