//! Packet capture on the fabric.

use std::time::SystemTime;

use crate::LabError;

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureSpec {
    /// Bytes kept of each frame.
    pub snaplen: u32,
    /// In tcpdump's language; empty for everything.
    pub filter: String,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        Self {
            snaplen: 256,
            filter: String::new(),
        }
    }
}

impl CaptureSpec {
    /// Captures what `filter`, in tcpdump's language, lets through; 256 bytes of each frame.
    pub fn filter(filter: &str) -> Self {
        Self {
            filter: filter.into(),
            ..Self::default()
        }
    }
}

/// A capture under way; ends when dropped.
#[derive(Debug)]
pub struct Capture {}

impl Capture {
    /// Ends the capture.
    pub fn stop(self) -> Result<Captured, LabError> {
        todo!()
    }
}

/// One frame.
#[derive(Clone, Debug)]
pub struct CapturedPacket {
    /// When it crossed.
    pub time: SystemTime,
    /// Its length in bytes on the wire, link header included.
    pub wire_len: u32,
    /// Its first bytes, from the Ethernet header on.
    pub data: Vec<u8>,
}

/// What a capture found.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// The frames, in order.
    pub packets: Vec<CapturedPacket>,
    /// Frames that were lost to the capture.
    pub dropped: u64,
}

impl Captured {
    /// Only a capture that lost nothing can prove that something did not cross.
    ///
    /// # Errors
    /// Frames were lost.
    pub fn complete(self) -> Result<Vec<CapturedPacket>, LabError> {
        if self.dropped > 0 {
            return Err(LabError::CaptureIncomplete {
                dropped: self.dropped,
                seen: self.packets.len(),
            });
        }
        Ok(self.packets)
    }
}
