//! Why the programs or maps could not be changed.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

use crate::{Hook, requirements::RequirementError};

/// What [`Redirect`](crate::Redirect) answers when the kernel does not do as asked.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// The machine lacks something.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// The kernel refused the programs or maps.
    #[error("the eBPF programs cannot be loaded: {}", chain(.0))]
    Load(#[source] Box<EbpfError>),
    /// The kernel refused one program.
    #[error("the program {hook} cannot be loaded: {}", chain(.source))]
    LoadProgram {
        /// Which.
        hook: Hook,
        /// The kernel's word; the verifier's last lines when it refused.
        source: Box<ProgramError>,
    },
    /// A map has no room; the entries it has stay in force, what is missing is treated as unknown.
    #[error("the map {map} is full at {capacity} entries; what did not fit is treated as unknown")]
    MapFull {
        /// The map's name.
        map: &'static str,
        /// Its capacity in entries.
        capacity: u32,
    },
    /// A map could not be read or written.
    #[error("the map {map} cannot be read or written: {}", chain(.source))]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's word.
        source: Box<MapError>,
    },
    /// Pins were written by another version.
    #[error(
        "the pins in {} have ABI version {found}, this program has {expected}: drain the node, then remove the \
         directory", path.display()
    )]
    AbiVersion {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// A device is gone or never was.
    #[error("there is no device with index {0} in this network namespace")]
    NoDevice(u32),
    /// A program could not be put on a device.
    #[error("{hook} cannot be attached to {device}: {}", chain(.source))]
    Attach {
        /// Which program.
        hook: Hook,
        /// The device's name.
        device: String,
        /// The kernel's word.
        source: Box<ProgramError>,
    },
    /// A device's filters could not be listed or changed.
    #[error("traffic control does not answer by netlink: {0}")]
    Netlink(#[source] io::Error),
    /// A pin could not be written, read or removed.
    #[error("the pin {} cannot be used: {source}", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

impl RedirectError {
    pub(super) fn map(map: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map {
            map,
            source: Box::new(source),
        }
    }

    pub(super) fn pin(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Pin {
            path: path.to_owned(),
            source,
        }
    }
}

/// An error with its causes on one line; aya's own texts leave them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
