//! WireGuard's userspace API, as text: what `wg` asks and how a lane answers.
//!
//! Source: <https://www.wireguard.com/xplatform/#configuration-protocol>. The text of a request is parsed
//! whole before anything of it is applied, so a mistake changes nothing.

mod parse;
mod server;
mod write;

pub(crate) use parse::SetRequest;
pub use parse::{Request, UapiError};
pub(crate) use server::{Asked, Server};
pub(crate) use write::{Device, errno};

/// Longest request taken, in bytes: some thousand peers.
pub(crate) const MAX_REQUEST: usize = 4 << 20;
