//! What CNI told of this node's pods, over restarts of keyd: a file for each attachment, in the state directory.
//!
//! The directory is on tmpfs: a reboot ends all containers, and takes the files with it. An attachment goes with its
//! DEL, or with its interface: its DEL may have been lost, or come while keyd was away. Of two that claim an interface
//! or an address the one that was added later has it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ask::{Attachment, HostSide, Key};
use crate::compute::Attached;
use crate::durable;
use crate::snapshot::ObjectName;
use crate::wiring::tables::{LinkKind, Tables};

/// Directory in the state directory.
const DIRECTORY: &str = "cni";

/// Why an attachment is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A name that CNI does not allow.
    #[error("{0:?} are no names of a container and an interface")]
    Name(Key),
    /// The host's end is not known.
    #[error(
        "no host-side veth was found for {0}: neither its peer nor one interface of prevResult is a veth of this \
         node that leads to no gateway; only veth pairs are supported"
    )]
    NoInterface(Key),
    /// It cannot be kept.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// An attachment and what keyd found out about it; a file holds it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Higher than that of all that were added before.
    order: u64,
    /// The host's end.
    interface: u32,
    /// Its name: an index could come back for another device.
    interface_name: String,
    attachment: Attachment,
}

/// All attachments of this node.
pub struct Attachments {
    directory: PathBuf,
    kept: BTreeMap<Key, Kept>,
}

impl Attachments {
    /// Those of an earlier process. A file that cannot be read is left alone, and said: what it told of is found
    /// as pods are that came another way.
    pub fn load(state_dir: &Path) -> io::Result<Self> {
        let directory = state_dir.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(found) => drop(kept.insert(found.attachment.key.clone(), found)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "not read; left alone"),
            }
        }
        Ok(Self { directory, kept })
    }

    /// Takes in an attachment, on disk first. One with the same interface ends with it.
    pub fn add(&mut self, attachment: Attachment, tables: &Tables) -> Result<(), AttachError> {
        let key = attachment.key.clone();
        if !key.is_valid() {
            return Err(AttachError::Name(key));
        }
        let Some(interface) = host_side(&attachment.host_side, tables) else {
            return Err(AttachError::NoInterface(key));
        };
        let kept = Kept {
            order: self.kept.values().map(|kept| kept.order).max().unwrap_or(0) + 1,
            interface,
            interface_name: tables.links[&interface].name.clone(),
            attachment,
        };
        let path = self.path(&key);
        let bytes = serde_json::to_vec_pretty(&kept).expect("an attachment has text keys only");
        durable::write(&path, &bytes, 0o600).map_err(|source| AttachError::Write { path, source })?;
        self.forget(|other, known| other != &key && known.interface == interface);
        self.kept.insert(key, kept);
        Ok(())
    }

    /// Forgets an attachment; says whether it was known.
    pub fn remove(&mut self, key: &Key) -> bool {
        self.forget(|known, _| known == key)
    }

    /// Forgets those of a network that are not among `valid`; says whether there were any.
    pub fn collect(&mut self, network: &str, valid: &[Key]) -> bool {
        self.forget(|key, kept| kept.attachment.network == network && !valid.contains(key))
    }

    /// Forgets those whose interface is gone; says whether there were any.
    pub fn drop_gone(&mut self, tables: &Tables) -> bool {
        self.forget(|_, kept| {
            let link = tables.links.get(&kept.interface);
            link.is_none_or(|link| link.name != kept.interface_name)
        })
    }

    /// Whether the attachment is known as it is said here.
    pub fn knows(&self, attachment: &Attachment, tables: &Tables) -> bool {
        self.kept.get(&attachment.key).is_some_and(|kept| {
            kept.attachment.addresses == attachment.addresses
                && host_side(&attachment.host_side, tables) == Some(kept.interface)
        })
    }

    /// The host's end, and the addresses, of an attachment.
    pub fn find(&self, key: &Key) -> Option<Attached> {
        self.kept.get(key).map(attached)
    }

    /// All, in the order in which they were added.
    pub fn in_order(&self) -> Vec<Attached> {
        let mut kept: Vec<&Kept> = self.kept.values().collect();
        kept.sort_by_key(|kept| kept.order);
        kept.into_iter().map(attached).collect()
    }

    /// The host's ends of all.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.kept.values().map(|kept| kept.interface)
    }

    fn path(&self, key: &Key) -> PathBuf {
        // Neither name has a slash or a colon.
        self.directory
            .join(format!("{}:{}.json", key.container, key.ifname))
    }

    fn forget(&mut self, gone: impl Fn(&Key, &Kept) -> bool) -> bool {
        let keys: Vec<Key> = self
            .kept
            .iter()
            .filter(|(key, kept)| gone(key, kept))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            self.kept.remove(key);
            let path = self.path(key);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    // Its interface is gone or goes, so that it would be forgotten again after a restart.
                    tracing::warn!(path = %path.display(), %error, "not removed");
                }
                _ => {}
            }
        }
        !keys.is_empty()
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    let kept: Kept = serde_json::from_slice(&fs::read(path)?)?;
    if kept.attachment.key.is_valid() {
        Ok(kept)
    } else {
        Err(ErrorKind::InvalidData.into())
    }
}

fn attached(kept: &Kept) -> Attached {
    let attachment = &kept.attachment;
    Attached {
        pod: attachment.pod.as_ref().map(|pod| ObjectName {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        }),
        uid: attachment.pod.as_ref().and_then(|pod| pod.uid.clone()),
        addresses: attachment.addresses.clone(),
        interface: kept.interface,
    }
}

/// The host's end: the peer, else the only veth among the named. A device with a route by a gateway is an uplink,
/// whatever a result says.
fn host_side(known: &HostSide, tables: &Tables) -> Option<u32> {
    let is_pods = |index: &u32| {
        let link = tables.links.get(index);
        link.is_some_and(|link| link.kind == LinkKind::Veth)
            && !tables
                .routes
                .iter()
                .any(|route| route.device == *index && route.gateway)
    };
    if let Some(peer) = known.peer.filter(is_pods) {
        return Some(peer);
    }
    let links = tables.links.iter();
    let mut named = links
        .filter(|(_, link)| known.names.contains(&link.name))
        .map(|(index, _)| *index)
        .filter(is_pods);
    let first = named.next();
    first.filter(|_| named.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::ask::PodName;
    use crate::wiring::tables::{Link, Route};

    fn tables(names: &[(u32, &str, LinkKind)]) -> Tables {
        let link = |(index, name, kind): &(u32, &str, LinkKind)| {
            (
                *index,
                Link {
                    name: (*name).into(),
                    kind: *kind,
                    mac: None,
                    controller: None,
                },
            )
        };
        Tables {
            links: names.iter().map(link).collect(),
            ..Tables::default()
        }
    }

    fn two_veths() -> Tables {
        tables(&[
            (3, "cni0", LinkKind::Bridge),
            (4, "v4", LinkKind::Veth),
            (5, "v5", LinkKind::Veth),
        ])
    }

    fn attachment(container: &str, peer: u32) -> Attachment {
        Attachment {
            key: Key {
                container: container.into(),
                ifname: "eth0".into(),
            },
            network: "pods".into(),
            pod: Some(PodName {
                namespace: "web".into(),
                name: "shop".into(),
                uid: Some("u".into()),
            }),
            addresses: vec!["10.77.1.9".parse().expect("an address")],
            host_side: HostSide {
                peer: Some(peer),
                names: Vec::new(),
            },
        }
    }

    #[test]
    fn what_was_told_is_known_after_a_restart_and_gone_with_its_interface() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut first = Attachments::load(dir.path()).expect("empty");
        first.add(attachment("c1", 4), &two_veths()).expect("added");
        first.add(attachment("c2", 5), &two_veths()).expect("added");
        fs::write(dir.path().join("cni/odd.json"), "{").expect("written");
        let mut again = Attachments::load(dir.path()).expect("read");
        assert_eq!(again.in_order(), first.in_order());
        assert!(again.knows(&attachment("c1", 4), &two_veths()));
        assert!(!again.knows(&attachment("c1", 5), &two_veths()));

        let renamed = tables(&[(4, "other", LinkKind::Veth), (5, "v5", LinkKind::Veth)]);
        assert!(again.drop_gone(&renamed) && !again.drop_gone(&renamed));
        assert!(again.remove(&attachment("c2", 5).key) && !again.remove(&attachment("c2", 5).key));
        let left: Vec<_> = fs::read_dir(dir.path().join("cni"))
            .expect("listed")
            .flatten()
            .collect();
        assert_eq!(left.len(), 1, "only the file that is not keyd's: {left:?}");
    }

    #[test]
    fn a_new_container_takes_the_interface_and_comes_last_in_the_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut known = Attachments::load(dir.path()).expect("empty");
        for (container, peer) in [("c9", 4), ("c1", 5), ("c0", 4)] {
            known
                .add(attachment(container, peer), &two_veths())
                .expect("added");
        }
        let order: Vec<_> = known
            .in_order()
            .iter()
            .map(|attached| attached.interface)
            .collect();
        assert_eq!(order, [5, 4]);
        assert!(!known.collect("other", &[]) && known.collect("pods", &[attachment("c1", 5).key]));
        assert_eq!(known.in_order().len(), 1);
    }

    #[test]
    fn an_uplink_never_becomes_a_pods_interface() {
        let mut tables = two_veths();
        let names = |names: &[&str]| HostSide {
            peer: None,
            names: names.iter().map(|name| (*name).into()).collect(),
        };
        assert_eq!(host_side(&names(&["cni0", "v4"]), &tables), Some(4));
        assert_eq!(host_side(&names(&["v4", "v5"]), &tables), None);
        assert_eq!(host_side(&names(&["cni0"]), &tables), None);
        tables.routes.push(Route {
            destination: "0.0.0.0/0".parse().expect("a prefix"),
            device: 4,
            gateway: true,
            priority: 0,
        });
        assert_eq!(host_side(&names(&["v4"]), &tables), None);
    }
}
