//! Which version of a file is the newest, and where it is due. No files are touched here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// A replica's node, or `None` for the shared directory.
pub(super) type Place = Option<String>;

/// Tells versions of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) len: u64,
    /// Seconds and nanoseconds.
    pub(super) changed: (i64, i64),
}

/// What becomes of files that match `pattern` on their way to `node`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) node: String,
    pub(super) pattern: String,
    /// `None` hides them.
    pub(super) delay: Option<Duration>,
}

/// A write that is due: the whole content, or `None` for a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) name: String,
    pub(super) content: Option<Arc<Vec<u8>>>,
    version: u64,
}

/// The newest version of one file.
#[derive(Debug)]
struct Newest {
    version: u64,
    since: Instant,
    content: Option<Arc<Vec<u8>>>,
}

/// What one place has of one file.
#[derive(Debug, Default)]
struct Held {
    stamp: Option<Stamp>,
    version: u64,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Truth {
    newest: BTreeMap<String, Newest>,
    held: BTreeMap<(Place, String), Held>,
    versions: u64,
}

impl Truth {
    /// Takes notice of what lies in one place. What is not as last known was changed by somebody there, and is
    /// the newest from now on; `read` gives its content.
    pub(super) fn found(
        &mut self,
        place: &Place,
        found: &BTreeMap<String, Stamp>,
        read: impl Fn(&str) -> Option<Vec<u8>>,
        now: Instant,
    ) {
        let known = self.held.keys().filter(|(p, _)| p == place).map(|(_, name)| name);
        let names: BTreeSet<String> = known.chain(found.keys()).cloned().collect();
        for name in names {
            let stamp = found.get(&name).copied();
            let held = self.held.entry((place.clone(), name.clone())).or_default();
            if held.stamp == stamp {
                continue;
            }
            let content = match stamp {
                Some(_) => match read(&name) {
                    Some(content) => Some(Arc::new(content)),
                    // Replaced or removed meanwhile; the next round will see what it has become.
                    None => continue,
                },
                None => None,
            };
            held.stamp = stamp;
            if self
                .newest
                .get(&name)
                .is_some_and(|newest| newest.content == content)
            {
                held.version = self.newest[&name].version;
                continue;
            }
            self.versions += 1;
            held.version = self.versions;
            self.newest.insert(
                name,
                Newest {
                    version: self.versions,
                    since: now,
                    content,
                },
            );
        }
    }

    /// What is to be written in one place now.
    pub(super) fn due(&self, place: &Place, rules: &[Rule], now: Instant) -> Vec<Write> {
        let mut due = Vec::new();
        for (name, newest) in &self.newest {
            if place.is_some() && name.ends_with(".json") {
                continue;
            }
            let held = self.held.get(&(place.clone(), name.clone()));
            let has_file = held.is_some_and(|held| held.stamp.is_some());
            let mut rules = rules.iter().filter(|rule| {
                Some(&rule.node) == place.as_ref() && matches(rule.pattern.as_bytes(), name.as_bytes())
            });
            let hidden = rules.clone().any(|rule| rule.delay.is_none());
            if hidden {
                if has_file {
                    due.push(Write {
                        name: name.clone(),
                        content: None,
                        version: 0,
                    });
                }
                continue;
            }
            let is_current = held.map_or(0, |held| held.version) == newest.version;
            let late = rules.any(|rule| rule.delay.is_some_and(|delay| now < newest.since + delay));
            let nothing_to_remove = newest.content.is_none() && !has_file;
            if !is_current && !late && !nothing_to_remove {
                due.push(Write {
                    name: name.clone(),
                    content: newest.content.clone(),
                    version: newest.version,
                });
            }
        }
        due
    }

    /// A write was carried out and made this of the file.
    pub(super) fn wrote(&mut self, place: &Place, write: &Write, stamp: Option<Stamp>) {
        self.held.insert(
            (place.clone(), write.name.clone()),
            Held {
                stamp,
                version: write.version,
            },
        );
    }
}

/// A pattern in which `*` stands for any bytes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        Some((first, rest)) => name
            .split_first()
            .is_some_and(|(n, name)| n == first && matches(rest, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            inode,
            len: 1,
            changed: (0, 0),
        }
    }

    fn rule(pattern: &str, delay: Option<Duration>) -> Rule {
        Rule {
            node: "a".into(),
            pattern: pattern.into(),
            delay,
        }
    }

    fn shared_has(truth: &mut Truth, name: &str, inode: u64, now: Instant) {
        truth.found(
            &None,
            &[(name.to_owned(), stamp(inode))].into(),
            |_| Some(inode.to_be_bytes().into()),
            now,
        );
    }

    #[test]
    fn a_star_matches_anything_and_nothing() {
        assert!(matches(b"mesh*.yaml", b"mesh.yaml"));
        assert!(matches(b"*", b"x"));
        assert!(!matches(b"mesh*.yaml", b"node-a.yaml"));
    }

    #[test]
    fn a_delayed_change_is_due_when_the_delay_is_over_or_lifted() {
        let now = Instant::now();
        let place = Some("a".to_owned());
        let mut truth = Truth::default();
        shared_has(&mut truth, "mesh.yaml", 1, now);
        let late = [rule("mesh*", Some(Duration::from_secs(5)))];
        assert!(truth.due(&place, &late, now).is_empty());
        assert_eq!(truth.due(&place, &[], now).len(), 1);
        assert_eq!(truth.due(&place, &late, now + Duration::from_secs(5)).len(), 1);
        assert!(truth.due(&None, &[], now).is_empty(), "it came from there");
    }

    #[test]
    fn a_hidden_file_is_removed_at_one_place_only_and_comes_back() {
        let now = Instant::now();
        let place = Some("a".to_owned());
        let mut truth = Truth::default();
        shared_has(&mut truth, "x.yaml", 1, now);
        let write = truth.due(&place, &[], now).remove(0);
        truth.wrote(&place, &write, Some(stamp(9)));
        let hide = [rule("x.yaml", None)];
        let removal = truth.due(&place, &hide, now).remove(0);
        assert_eq!(removal.content, None);
        truth.wrote(&place, &removal, None);
        truth.found(&place, &BTreeMap::new(), |_| None, now);
        assert!(truth.due(&place, &hide, now).is_empty());
        assert!(truth.due(&None, &hide, now).is_empty());
        assert_eq!(truth.due(&place, &[], now), [write]);
    }

    #[test]
    fn a_removal_anywhere_is_a_removal_everywhere() {
        let now = Instant::now();
        let place = Some("a".to_owned());
        let mut truth = Truth::default();
        shared_has(&mut truth, "x.yaml", 1, now);
        let write = truth.due(&place, &[], now).remove(0);
        truth.wrote(&place, &write, Some(stamp(9)));
        truth.found(&None, &BTreeMap::new(), |_| None, now);
        assert_eq!(truth.due(&place, &[], now).remove(0).content, None);
    }

    #[test]
    fn state_goes_to_the_shared_directory_and_to_no_other_node() {
        let now = Instant::now();
        let mut truth = Truth::default();
        let found = [("state-a.json".to_owned(), stamp(1))].into();
        truth.found(&Some("a".into()), &found, |_| Some(vec![1]), now);
        assert_eq!(truth.due(&None, &[], now).len(), 1);
        assert!(truth.due(&Some("b".into()), &[], now).is_empty());
    }
}
