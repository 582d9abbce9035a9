//! Answers, as text.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use zeroize::Zeroizing;

use crate::core::Core;

/// A number from errno.h that ends an answer; 0 for success.
pub(crate) mod errno {
    pub(crate) const OK: i32 = 0;
    pub(crate) const NOT_PERMITTED: i32 = libc::EPERM;
    pub(crate) const INVALID: i32 = libc::EINVAL;
    pub(crate) const IO: i32 = libc::EIO;
}

/// What of a device the core does not know.
pub(crate) struct Device {
    pub(crate) listen_port: u16,
    pub(crate) fwmark: u32,
    /// Whether keys are told.
    pub(crate) secrets: bool,
}

impl Device {
    /// The answer to `get=1`.
    pub(crate) fn describe(&self, core: &Core) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::new());
        self.write(core, &mut out)
            .expect("writing to a string does not fail");
        out
    }

    fn write(&self, core: &Core, out: &mut String) -> std::fmt::Result {
        if let Some(key) = core.private_key().filter(|_| self.secrets) {
            write_key(out, "private_key", &Zeroizing::new(key.to_bytes()))?;
        }
        writeln!(out, "listen_port={}", self.listen_port)?;
        if self.fwmark != 0 {
            writeln!(out, "fwmark={}", self.fwmark)?;
        }
        for (id, peer) in core.peers().iter() {
            write_key(out, "public_key", peer.public_key.as_bytes())?;
            if let Some(key) = peer.preshared_key.as_ref().filter(|_| self.secrets) {
                write_key(out, "preshared_key", key)?;
            }
            writeln!(out, "protocol_version=1")?;
            if let Some(endpoint) = peer.endpoint {
                writeln!(out, "endpoint={endpoint}")?;
            }
            let since_epoch = peer
                .last_handshake
                .and_then(|(_, at)| at.duration_since(UNIX_EPOCH).ok());
            let at = since_epoch.unwrap_or_default();
            writeln!(out, "last_handshake_time_sec={}", at.as_secs())?;
            writeln!(out, "last_handshake_time_nsec={}", at.subsec_nanos())?;
            writeln!(out, "tx_bytes={}", peer.tx_bytes)?;
            writeln!(out, "rx_bytes={}", peer.rx_bytes)?;
            writeln!(
                out,
                "persistent_keepalive_interval={}",
                peer.keepalive.unwrap_or(0)
            )?;
            for net in core.peers().allowed_ips(id) {
                writeln!(out, "allowed_ip={net}")?;
            }
        }
        Ok(())
    }
}

fn write_key(out: &mut String, name: &str, key: &[u8; 32]) -> std::fmt::Result {
    write!(out, "{name}=")?;
    for byte in key {
        write!(out, "{byte:02x}")?;
    }
    out.write_char('\n')
}
