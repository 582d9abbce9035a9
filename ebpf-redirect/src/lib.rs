//! Loads Hauberk's eBPF programs, keeps their maps in step with the desired state, attaches them first in
//! their chains, and says what they counted.
//!
//! Stages of a start: [`requirements::check`], [`Redirect::open`] (re-uses what an earlier process pinned),
//! the `sync_*` calls in the order verdicts, ipcache, covered, peers, lanes, then [`Redirect::attach`].
//! Everything is pinned and goes on without this process; only [`Redirect::remove_all`] takes it away.
//! The programs themselves are in `prog/`, what they share with this crate in `abi/`.

pub mod address;
mod bpf;
pub mod fence;
mod hook;
mod queue;
mod redirect;
pub mod requirements;
mod tc;

pub use bpf::DryRun;
pub use hauberk_abi as abi;
pub use hook::Hook;
pub use queue::QueueCell;
pub use redirect::{AttachMode, Displaced, Options, Redirect, RedirectError, Synced};
