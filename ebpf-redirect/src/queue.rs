//! The bytes that wait in a lane's TUN device, shared with the programs through memory.

/// One lane's slot of the map `QUEUES`. The lane says what it has read; the programs refuse what exceeds
/// the lane's limit.
#[derive(Clone)]
pub struct QueueCell {}

impl QueueCell {
    /// Bytes the programs have put into the TUN, wrapping.
    pub fn produced(&self) -> u64 {
        todo!()
    }

    /// Counts `bytes` (IP packets, without the vnet header) as read from the TUN.
    pub fn consumed(&self, _bytes: u64) {
        todo!()
    }

    /// The TUN was found empty: forgets what the kernel dropped on the way into it.
    pub fn empty(&self) {
        todo!()
    }

    /// Bytes that wait now.
    pub fn waiting(&self) -> u64 {
        todo!()
    }
}
