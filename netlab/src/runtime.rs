//! What a lab adds to the machine, and its removal.

use crate::LabError;

/// Removes what killed runs left behind: labs whose owner is dead. Returns their ids.
pub fn sweep() -> Result<Vec<String>, LabError> {
    todo!()
}

/// From now on SIGINT, SIGTERM and SIGHUP remove all labs of this process and end it with code 130.
///
/// For binaries that set no signal handler of their own. Without it, a lab whose process is killed is
/// removed a moment later by the lab's guardian.
pub fn clean_up_on_signals() -> Result<(), LabError> {
    todo!()
}
