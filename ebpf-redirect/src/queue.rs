//! The bytes that wait in a lane's TUN device, shared with the programs through memory.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hauberk_abi::{MAX_SLOTS, Queue};

/// The map's values, which lie one after another in memory-mapped pages.
const LEN: usize = MAX_SLOTS as usize * size_of::<Queue>();

/// The mapped values of `QUEUES`.
pub(crate) struct Mapping(NonNull<Queue>);

// SAFETY: the memory is shared with the kernel anyway; all access is through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it aliases no Rust object.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `new` with the same length, and no cell outlives it (they hold it).
        unsafe { libc::munmap(self.0.as_ptr().cast(), LEN) };
    }
}

/// One lane's slot of the map `QUEUES`. The lane says what it has read; the programs refuse what exceeds
/// the lane's limit.
#[derive(Clone)]
pub struct QueueCell {
    mapping: Arc<Mapping>,
    slot: usize,
}

impl QueueCell {
    pub(crate) fn new(mapping: Arc<Mapping>, slot: u32) -> Self {
        assert!(slot < MAX_SLOTS, "slot {slot} of {MAX_SLOTS}");
        Self {
            mapping,
            slot: slot as usize,
        }
    }

    /// Bytes the programs have put into the TUN, wrapping.
    pub fn produced(&self) -> u64 {
        self.fields().0.load(Ordering::Relaxed)
    }

    /// Counts `bytes` (IP packets, without the vnet header) as read from the TUN.
    pub fn consumed(&self, bytes: u64) {
        // The lane alone writes this field, so that load and store need no locked instruction.
        let consumed = self.fields().1;
        consumed.store(
            consumed.load(Ordering::Relaxed).wrapping_add(bytes),
            Ordering::Relaxed,
        );
    }

    /// The TUN was found empty: forgets what the kernel dropped on the way into it.
    pub fn empty(&self) {
        let (produced, consumed) = self.fields();
        consumed.store(produced.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Bytes that wait now.
    pub fn waiting(&self) -> u64 {
        let (produced, consumed) = self.fields();
        let waiting = produced
            .load(Ordering::Relaxed)
            .wrapping_sub(consumed.load(Ordering::Relaxed)) as i64;
        waiting.max(0) as u64
    }

    fn fields(&self) -> (&AtomicU64, &AtomicU64) {
        // SAFETY: the slot is within the mapping (checked in `new`), which lives as long as `self`; the fields
        // are aligned and accessed atomically by everyone.
        unsafe {
            let queue = self.mapping.0.as_ptr().add(self.slot);
            (
                AtomicU64::from_ptr(&raw mut (*queue).produced),
                AtomicU64::from_ptr(&raw mut (*queue).consumed),
            )
        }
    }
}
