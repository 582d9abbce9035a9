//! How programs are put on devices: chains of TCX links, or filters of a clsact qdisc.
//!
//! Both are told what stands on a hook now, in the order in which it runs, by program id.

use std::io;

use aya::programs::{
    Link as _, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, LinkOrder, PinnedLink},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};

mod filter;
mod netlink;

pub(crate) use filter::Filter;

/// Our priority in clsact: no filter can have a lower one.
const PRIORITY: u16 = 1;

/// Attaches first in the TCX chain. The link must be pinned by the caller, or it goes with the value.
pub(crate) fn attach_tcx(
    program: &mut SchedClassifier,
    device: &str,
    place: TcAttachType,
) -> Result<FdLink, ProgramError> {
    let id = program.attach_with_options(device, place, TcAttachOptions::TcxOrder(LinkOrder::first()))?;
    let link = program.take_link(id)?;
    FdLink::try_from(link).map_err(|e| ProgramError::IOError(io::Error::other(e)))
}

/// Makes a pinned link run another program, atomically and in the same place of the chain. `false`: the link
/// has no device any more, because it was taken off by force or the device is gone.
pub(crate) fn update_tcx(program: &mut SchedClassifier, link: PinnedLink) -> Result<bool, ProgramError> {
    let invalid = |e| ProgramError::IOError(io::Error::other(e));
    let link = SchedClassifierLink::try_from(FdLink::from(link)).map_err(invalid)?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // The value is given up, the pin keeps the link.
            drop(program.take_link(id)?);
            Ok(true)
        }
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOLINK) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Programs of a TCX chain in the order they run.
pub(crate) fn tcx_chain(device: &str, place: TcAttachType) -> Result<Vec<u32>, ProgramError> {
    let (_, programs) = SchedClassifier::query_tcx(device, place)?;
    Ok(programs.iter().map(|program| program.id()).collect())
}

/// Adds a filter, before all others on the hook.
pub(crate) fn attach_clsact(
    program: &mut SchedClassifier,
    device: &str,
    ifindex: u32,
    place: TcAttachType,
) -> Result<(), ProgramError> {
    // Only one clsact can be there; whose it is does not matter.
    let added = qdisc_add_clsact(device);
    if let Err(e) = added
        && !netlink::has_clsact(ifindex)?
    {
        return Err(e.into());
    }
    let options = NlOptions {
        priority: PRIORITY,
        ..NlOptions::default()
    };
    let id = program.attach_with_options(device, place, TcAttachOptions::Netlink(options))?;
    // Dropping the link would delete the filter, which shall outlive this process.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Makes a filter run another program, atomically and in the same place.
pub(crate) fn update_clsact(
    program: &mut SchedClassifier,
    device: &str,
    place: TcAttachType,
    filter: &Filter,
) -> Result<(), ProgramError> {
    let link = SchedClassifierLink::attached(device, place, filter.priority, handle(filter), None)?;
    let id = program.attach_to_link(link)?;
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Filters of a hook in the order they run.
pub(crate) fn clsact_chain(ifindex: u32, place: TcAttachType) -> io::Result<Vec<Filter>> {
    netlink::filters(ifindex, place)
}

/// Deletes a filter.
pub(crate) fn detach_clsact(device: &str, place: TcAttachType, filter: &Filter) -> Result<(), ProgramError> {
    SchedClassifierLink::attached(device, place, filter.priority, handle(filter), None)?.detach()
}

/// Deletes a clsact qdisc without filters.
pub(crate) fn remove_empty_clsact(ifindex: u32) -> io::Result<()> {
    for place in [TcAttachType::Ingress, TcAttachType::Egress] {
        if !netlink::filters(ifindex, place)?.is_empty() {
            return Ok(());
        }
    }
    if netlink::has_clsact(ifindex)? {
        netlink::delete_clsact(ifindex)
    } else {
        Ok(())
    }
}

fn handle(filter: &Filter) -> TcHandle {
    TcHandle::from(filter.handle)
}
