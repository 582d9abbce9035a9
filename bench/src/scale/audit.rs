//! What keyds ask of the API server, from its audit log: watches that begin counted apart from everything else.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::error::{ScaleError, file};

/// keyd's user on nodes.
const KEYD: &str = "system:serviceaccount:hauberk-system:hauberk-keyd";

/// A place in the audit log.
pub struct Mark {
    path: PathBuf,
    offset: u64,
}

/// Requests of all keyds together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Watches that began.
    pub watches: u64,
    /// Everything else, by verb and resource.
    pub others: BTreeMap<String, u64>,
}

impl Mark {
    /// The log's end as it is now.
    pub fn now(log: &Path) -> Result<Self, ScaleError> {
        let metadata = log.metadata().map_err(file(log))?;
        Ok(Self {
            path: log.to_owned(),
            offset: metadata.len(),
        })
    }

    /// What keyds asked since.
    pub fn since(&self) -> Result<Asked, ScaleError> {
        let mut log = File::open(&self.path).map_err(file(&self.path))?;
        log.seek(SeekFrom::Start(self.offset)).map_err(file(&self.path))?;
        let mut asked = Asked::default();
        for line in BufReader::new(log).lines() {
            asked.take_in(&line.map_err(file(&self.path))?);
        }
        Ok(asked)
    }
}

impl Asked {
    /// A line that is not whole yet is of a request that is not over.
    fn take_in(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Event>(line) else {
            return;
        };
        if event.user.username != KEYD {
            return;
        }
        match (event.verb.as_str(), event.stage.as_str()) {
            ("watch", "ResponseStarted") => self.watches += 1,
            ("watch", _) => {}
            (_, "ResponseComplete" | "Panic") => {
                let object = event.object.unwrap_or_default();
                let resource = match object.subresource.as_str() {
                    "" => object.resource,
                    subresource => format!("{}/{subresource}", object.resource),
                };
                *self
                    .others
                    .entry(format!("{} {resource}", event.verb))
                    .or_default() += 1;
            }
            _ => {}
        }
    }
}

/// `audit.k8s.io/v1`, as far as it is looked at.
#[derive(Deserialize)]
struct Event {
    verb: String,
    stage: String,
    user: User,
    #[serde(rename = "objectRef")]
    object: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, verb: &str, stage: &str, object: &str) -> String {
        format!(
            r#"{{"verb":"{verb}","stage":"{stage}","user":{{"username":"{user}"}},"objectRef":{object}}}"#
        )
    }

    #[test]
    fn watches_are_counted_when_they_begin_and_only_those_of_keyds() {
        let pods = r#"{"resource":"pods"}"#;
        let status = r#"{"resource":"nodetunnels","subresource":"status"}"#;
        let mut asked = Asked::default();
        asked.take_in(&line(KEYD, "watch", "ResponseStarted", pods));
        asked.take_in(&line(KEYD, "watch", "ResponseComplete", pods));
        asked.take_in(&line(KEYD, "patch", "ResponseComplete", status));
        asked.take_in(&line(KEYD, "list", "ResponseComplete", pods));
        asked.take_in(&line("admin", "list", "ResponseComplete", pods));
        asked.take_in(r#"{"verb":"li"#);
        let others = [("list pods", 1), ("patch nodetunnels/status", 1)];
        let expected = Asked {
            watches: 1,
            others: others.map(|(what, count)| (what.to_owned(), count)).into(),
        };
        assert_eq!(asked, expected);
    }
}
