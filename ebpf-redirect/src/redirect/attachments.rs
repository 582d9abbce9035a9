//! Which program stands on which device, first in its chain, through restarts and rivals.
//!
//! TCX: a pinned link for each place, `links/HOOK-IFINDEX`. clsact: filters, which stay by themselves. The
//! programs of ours are those that use our `CONFIG` map, whoever loaded them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{SchedClassifier, links::PinnedLink, loaded_programs},
};
use nix::net::if_::{if_indextoname, if_nameindex};

use super::{AttachMode, Displaced, RedirectError};
use crate::{
    Hook, bpf,
    requirements::{self, Attachment, RequirementError},
    tc,
};

/// The attachments of one pin directory.
pub(super) struct Attachments {
    /// How programs are attached from now on.
    way: Attachment,
    /// Where the links are pinned.
    links: PathBuf,
    /// Loaded programs. A second set exists once one was displaced in TCX: no program can stand twice in a
    /// chain, and the one behind must not leave before the one in front is there.
    copies: Vec<Ebpf>,
    attached: BTreeSet<(Hook, u32)>,
}

/// A second set of programs, sharing the pinned maps.
pub(super) trait LoadCopy {
    fn load_copy(&self) -> Result<Ebpf, RedirectError>;
}

impl Attachments {
    /// Takes over what earlier processes attached: from here on it runs `programs`.
    pub(super) fn recover(
        mode: AttachMode,
        links: PathBuf,
        programs: Ebpf,
        config_id: u32,
    ) -> Result<Self, RedirectError> {
        let way = match (mode, requirements::attachment()) {
            (AttachMode::Tcx, Attachment::Clsact) => return Err(RequirementError::Tcx.into()),
            (AttachMode::Auto, way) => way,
            (AttachMode::Tcx, _) => Attachment::Tcx,
            (AttachMode::Clsact, _) => Attachment::Clsact,
        };
        let mut this = Self {
            way,
            links,
            copies: vec![programs],
            attached: BTreeSet::new(),
        };
        this.recover_links()?;
        this.recover_filters(config_id)?;
        Ok(this)
    }

    pub(super) fn attached(&self) -> &BTreeSet<(Hook, u32)> {
        &self.attached
    }

    pub(super) fn attach(
        &mut self,
        hook: Hook,
        ifindex: u32,
        loader: &dyn LoadCopy,
    ) -> Result<(), RedirectError> {
        if self.attached.contains(&(hook, ifindex)) && self.is_first(hook, ifindex)? == Some(true) {
            return Ok(());
        }
        self.put_first(hook, ifindex, loader)?;
        self.attached.insert((hook, ifindex));
        Ok(())
    }

    pub(super) fn detach(&mut self, hook: Hook, ifindex: u32) -> Result<(), RedirectError> {
        if !self.attached.contains(&(hook, ifindex)) {
            return Ok(());
        }
        match self.way {
            Attachment::Tcx => remove_link(&self.link_pin(hook, ifindex))?,
            Attachment::Clsact => {
                if let Some(device) = device_name(ifindex) {
                    remove_filters(&device, ifindex, hook, &self.ids(hook)?)?;
                    tc::remove_empty_clsact(ifindex).map_err(RedirectError::Netlink)?;
                }
            }
        }
        // Last: what could not be removed is tried again.
        self.attached.remove(&(hook, ifindex));
        Ok(())
    }

    /// Puts first what is not; forgets what stood on devices that are gone. What fails in one place does not
    /// keep the others from being mended.
    pub(super) fn check_order(&mut self, loader: &dyn LoadCopy) -> (Vec<Displaced>, Vec<RedirectError>) {
        let (mut displaced, mut failed) = (Vec::new(), Vec::new());
        for (hook, ifindex) in self.attached.clone() {
            match self.mend(hook, ifindex, loader) {
                Ok(true) => displaced.push(Displaced { hook, ifindex }),
                // What goes meanwhile is forgotten the next time.
                Ok(false) | Err(RedirectError::NoDevice(_)) => {}
                Err(error) => failed.push(error),
            }
        }
        (displaced, failed)
    }

    /// Whether the program was not first, and now is.
    fn mend(&mut self, hook: Hook, ifindex: u32, loader: &dyn LoadCopy) -> Result<bool, RedirectError> {
        match self.is_first(hook, ifindex)? {
            Some(true) => Ok(false),
            Some(false) => {
                self.put_first(hook, ifindex, loader)?;
                Ok(true)
            }
            None => {
                remove_link(&self.link_pin(hook, ifindex))?;
                self.attached.remove(&(hook, ifindex));
                Ok(false)
            }
        }
    }

    /// The program of a hook, for running it without a network.
    pub(super) fn program(&self, hook: Hook) -> &SchedClassifier {
        program(&self.copies[0], hook)
    }

    /// Whether the first program on the hook is ours; `None` when the device is gone.
    fn is_first(&self, hook: Hook, ifindex: u32) -> Result<Option<bool>, RedirectError> {
        let Some(device) = device_name(ifindex) else {
            return Ok(None);
        };
        let first = match self.way {
            Attachment::Tcx => self.tcx_chain(hook, ifindex, &device)?.first().copied(),
            Attachment::Clsact => {
                let chain = tc::clsact_chain(ifindex, hook.attach_type()).map_err(RedirectError::Netlink)?;
                chain.first().and_then(|filter| filter.program_id)
            }
        };
        Ok(Some(match first {
            Some(id) => self.ids(hook)?.contains(&id),
            None => false,
        }))
    }

    fn put_first(&mut self, hook: Hook, ifindex: u32, loader: &dyn LoadCopy) -> Result<(), RedirectError> {
        let device = device_name(ifindex).ok_or(RedirectError::NoDevice(ifindex))?;
        match self.way {
            Attachment::Tcx => self.put_first_tcx(hook, ifindex, &device, loader),
            Attachment::Clsact => self.put_first_clsact(hook, ifindex, &device),
        }
    }

    fn put_first_tcx(
        &mut self,
        hook: Hook,
        ifindex: u32,
        device: &str,
        loader: &dyn LoadCopy,
    ) -> Result<(), RedirectError> {
        let chain = self.tcx_chain(hook, ifindex, device)?;
        let ids = self.ids(hook)?;
        let copy = match ids.iter().position(|id| !chain.contains(id)) {
            Some(copy) => copy,
            None => {
                self.copies.push(loader.load_copy()?);
                self.copies.len() - 1
            }
        };
        let pin = self.link_pin(hook, ifindex);
        let old = bpf::Link::open(&pin).ok();
        let link = tc::attach_tcx(
            program_mut(&mut self.copies[copy], hook),
            device,
            hook.attach_type(),
        )
        .map_err(attach_error(hook, device))?;
        // Pinned beside and renamed over, so that there is a pin at every moment.
        let beside = self.links.join(format!("{hook}-{ifindex}-new"));
        remove_file(&beside)?;
        link.pin(&beside)
            .map_err(|e| RedirectError::pin(&beside)(io::Error::other(e)))?;
        fs::rename(&beside, &pin).map_err(RedirectError::pin(&pin))?;
        match old {
            Some(old) => old.detach().map_err(RedirectError::pin(&pin)),
            None => Ok(()),
        }
    }

    fn put_first_clsact(&mut self, hook: Hook, ifindex: u32, device: &str) -> Result<(), RedirectError> {
        let ours = self.ids(hook)?;
        let before = tc::clsact_chain(ifindex, hook.attach_type()).map_err(RedirectError::Netlink)?;
        // The newest filter of a priority runs first (net/sched/cls_bpf.c adds at the list's head).
        tc::attach_clsact(
            program_mut(&mut self.copies[0], hook),
            device,
            ifindex,
            hook.attach_type(),
        )
        .map_err(attach_error(hook, device))?;
        for filter in before
            .iter()
            .filter(|filter| filter.program_id.is_some_and(|id| ours.contains(&id)))
        {
            tc::detach_clsact(device, hook.attach_type(), filter).map_err(attach_error(hook, device))?;
        }
        Ok(())
    }

    fn recover_links(&mut self) -> Result<(), RedirectError> {
        for (pin, hook, ifindex) in pinned_links(&self.links)? {
            let Some(device) = device_name(ifindex) else {
                remove_link(&pin)?;
                continue;
            };
            match self.way {
                Attachment::Tcx => {
                    let link = PinnedLink::from_pin(&pin)
                        .map_err(|e| RedirectError::pin(&pin)(io::Error::other(e)))?;
                    let updated = tc::update_tcx(program_mut(&mut self.copies[0], hook), link)
                        .map_err(attach_error(hook, &device))?;
                    if !updated {
                        remove_link(&pin)?;
                        continue;
                    }
                }
                Attachment::Clsact => {
                    self.put_first_clsact(hook, ifindex, &device)?;
                    remove_link(&pin)?;
                }
            }
            self.attached.insert((hook, ifindex));
        }
        Ok(())
    }

    fn recover_filters(&mut self, config_id: u32) -> Result<(), RedirectError> {
        let ours = programs_using(config_id)?;
        let current: BTreeSet<u32> = Hook::ALL
            .into_iter()
            .map(|hook| self.ids(hook))
            .collect::<Result<Vec<_>, _>>()?
            .concat()
            .into_iter()
            .collect();
        for (ifindex, device) in devices()? {
            for hook in Hook::ALL {
                let place = hook.attach_type();
                let chain = tc::clsact_chain(ifindex, place).map_err(RedirectError::Netlink)?;
                for filter in chain {
                    let Some(id) = filter.program_id.filter(|id| ours.get(id) == Some(&hook)) else {
                        continue;
                    };
                    if current.contains(&id) {
                        continue;
                    }
                    let program = program_mut(&mut self.copies[0], hook);
                    match self.way {
                        Attachment::Clsact if !self.attached.contains(&(hook, ifindex)) => {
                            tc::update_clsact(program, &device, place, &filter)
                                .map_err(attach_error(hook, &device))?;
                        }
                        // A second one, left by a process that ended between putting one first and taking
                        // the other off.
                        Attachment::Clsact => {
                            tc::detach_clsact(&device, place, &filter)
                                .map_err(attach_error(hook, &device))?;
                        }
                        Attachment::Tcx => {
                            self.take_over_filter(hook, ifindex, &device, &filter)?;
                        }
                    }
                    self.attached.insert((hook, ifindex));
                }
            }
        }
        Ok(())
    }

    /// From clsact to TCX, as after a kernel upgrade without reboot of the pins: attach first, then delete.
    fn take_over_filter(
        &mut self,
        hook: Hook,
        ifindex: u32,
        device: &str,
        filter: &tc::Filter,
    ) -> Result<(), RedirectError> {
        if !self.attached.contains(&(hook, ifindex)) {
            self.put_first_tcx(hook, ifindex, device, &NoCopy)?;
        }
        tc::detach_clsact(device, hook.attach_type(), filter).map_err(attach_error(hook, device))?;
        tc::remove_empty_clsact(ifindex).map_err(RedirectError::Netlink)
    }

    fn tcx_chain(&self, hook: Hook, ifindex: u32, device: &str) -> Result<Vec<u32>, RedirectError> {
        match tc::tcx_chain(device, hook.attach_type()) {
            Ok(chain) => Ok(chain),
            // The device went meanwhile.
            Err(_) if device_name(ifindex).is_none() => Err(RedirectError::NoDevice(ifindex)),
            Err(source) => Err(attach_error(hook, device)(source)),
        }
    }

    /// Kernel numbers of the hook's program, one for each copy.
    fn ids(&self, hook: Hook) -> Result<Vec<u32>, RedirectError> {
        self.copies
            .iter()
            .map(|copy| {
                let info = program(copy, hook)
                    .info()
                    .map_err(|source| RedirectError::LoadProgram {
                        hook,
                        source: Box::new(source),
                    })?;
                Ok(info.id())
            })
            .collect()
    }

    fn link_pin(&self, hook: Hook, ifindex: u32) -> PathBuf {
        self.links.join(format!("{hook}-{ifindex}"))
    }
}

/// Where a second copy cannot be needed.
struct NoCopy;

impl LoadCopy for NoCopy {
    fn load_copy(&self) -> Result<Ebpf, RedirectError> {
        unreachable!("programs just loaded stand in no chain")
    }
}

/// Takes away all attachments that belong to one set of pins.
pub(super) fn remove_all(links: &Path, config_id: Option<u32>) -> Result<(), RedirectError> {
    for (pin, _, _) in pinned_links(links)? {
        remove_link(&pin)?;
    }
    let Some(config_id) = config_id else { return Ok(()) };
    let ours = programs_using(config_id)?;
    for (ifindex, device) in devices()? {
        let mut removed = false;
        for hook in Hook::ALL {
            let ids: Vec<u32> = ours
                .iter()
                .filter(|(_, of)| **of == hook)
                .map(|(id, _)| *id)
                .collect();
            removed |= remove_filters(&device, ifindex, hook, &ids)?;
        }
        if removed {
            tc::remove_empty_clsact(ifindex).map_err(RedirectError::Netlink)?;
        }
    }
    Ok(())
}

pub(super) fn program(ebpf: &Ebpf, hook: Hook) -> &SchedClassifier {
    ebpf.program(hook.name())
        .and_then(|program| program.try_into().ok())
        .expect("the object has a classifier for every hook")
}

pub(super) fn program_mut(ebpf: &mut Ebpf, hook: Hook) -> &mut SchedClassifier {
    ebpf.program_mut(hook.name())
        .and_then(|program| program.try_into().ok())
        .expect("the object has a classifier for every hook")
}

pub(super) fn remove_file(path: &Path) -> Result<(), RedirectError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(RedirectError::pin(path)(e)),
    }
}

/// Programs that use a map, with the hooks that their names say.
fn programs_using(map_id: u32) -> Result<BTreeMap<u32, Hook>, RedirectError> {
    let mut found = BTreeMap::new();
    // A program may be unloaded while the list is read: then it is in nobody's way.
    for info in loaded_programs().flatten() {
        if let (Some(hook), Ok(Some(maps))) = (info.name_as_str().and_then(Hook::by_name), info.map_ids())
            && maps.contains(&map_id)
        {
            found.insert(info.id(), hook);
        }
    }
    Ok(found)
}

fn remove_filters(device: &str, ifindex: u32, hook: Hook, ids: &[u32]) -> Result<bool, RedirectError> {
    let mut removed = false;
    for filter in tc::clsact_chain(ifindex, hook.attach_type()).map_err(RedirectError::Netlink)? {
        if filter.program_id.is_some_and(|id| ids.contains(&id)) {
            tc::detach_clsact(device, hook.attach_type(), &filter).map_err(attach_error(hook, device))?;
            removed = true;
        }
    }
    Ok(removed)
}

/// Detaches at once, then unpins.
fn remove_link(pin: &Path) -> Result<(), RedirectError> {
    match bpf::Link::open(pin) {
        Ok(link) => link.detach().map_err(RedirectError::pin(pin))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(RedirectError::pin(pin)(e)),
    }
    remove_file(pin)
}

/// The pinned links with what their names say. What was being pinned when a process ended is taken away.
fn pinned_links(links: &Path) -> Result<Vec<(PathBuf, Hook, u32)>, RedirectError> {
    let entries = match fs::read_dir(links) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RedirectError::pin(links)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(RedirectError::pin(links))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let parsed = name
            .split_once('-')
            .and_then(|(hook, ifindex)| Some((Hook::by_name(hook)?, ifindex.parse().ok()?)));
        match parsed {
            Some((hook, ifindex)) => found.push((path, hook, ifindex)),
            None => remove_link(&path)?,
        }
    }
    Ok(found)
}

fn device_name(ifindex: u32) -> Option<String> {
    // nix 0.31 takes the null pointer of a missing device for an empty name.
    if_indextoname(ifindex)
        .ok()?
        .into_string()
        .ok()
        .filter(|name| !name.is_empty())
}

fn devices() -> Result<Vec<(u32, String)>, RedirectError> {
    let list = if_nameindex().map_err(|e| RedirectError::Netlink(e.into()))?;
    Ok(list
        .iter()
        .map(|device| (device.index(), device.name().to_string_lossy().into_owned()))
        .collect())
}

fn attach_error(hook: Hook, device: &str) -> impl Fn(aya::programs::ProgramError) -> RedirectError {
    move |source| RedirectError::Attach {
        hook,
        device: device.to_owned(),
        source: Box::new(source),
    }
}
