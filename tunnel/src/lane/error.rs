//! What can go wrong with a lane as a whole.

use std::io;

/// Why a lane cannot start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The name cannot be an interface's.
    #[error("`{0}` is no name for an interface: 1 to 15 bytes, no slash and no white space")]
    BadName(String),
    /// `/dev/net/tun` cannot be opened.
    #[error("cannot open /dev/net/tun (is the kernel built with CONFIG_TUN, and are we root?)")]
    NoTun(#[source] io::Error),
    /// The TUN device cannot be made or attached to.
    #[error(
        "cannot make or attach to the TUN device `{name}` (needs CAP_NET_ADMIN; is another process using it?)"
    )]
    Tun {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The UDP port is taken.
    #[error("UDP port {port} is in use by another program: choose another listen port or end that program")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// The UDP socket cannot be set up.
    #[error("cannot set up the UDP socket ({what})")]
    Socket {
        /// Which step failed.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The userspace API's socket cannot be made.
    #[error("cannot listen on {path} for `wg`")]
    Uapi {
        /// The socket.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface was deleted under the lane.
    #[error("the interface was deleted")]
    InterfaceGone,
    /// The thread cannot be started or bound to its CPU.
    #[error("cannot run the lane's thread ({what})")]
    Thread {
        /// Which step failed.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A peer cannot be configured as asked.
    #[error("peer refused: {0}")]
    BadPeer(&'static str),
    /// The lane has stopped, or its thread has ended.
    #[error("the lane has stopped")]
    Stopped,
}
