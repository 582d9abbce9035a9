//! What the plugin asks keyd: one JSON document on a line each way, over a unix socket of its own.
//!
//! Not HTTP on `--listen`: that may be a TCP port, and whoever reaches it may read, but not say which pod has an
//! address. It also keeps an HTTP client and an async runtime out of a program that the runtime starts for each
//! pod. Fields are only ever added: for a moment after an upgrade plugin and keyd may be of two versions.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A line longer than this is nobody's request. GC of a thousand containers needs 120 KB.
pub const MAX_BYTES: u64 = 1 << 20;
/// So much longer than the patience that it was told keyd may take to say so.
const GRACE: Duration = Duration::from_millis(500);

/// A request with the time that the plugin has for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// How long the plugin waits for the answer, in milliseconds.
    pub patience_ms: u64,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What the plugin wants of keyd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "UPPERCASE")]
pub enum Request {
    /// Answered once the pod is in force.
    Add(Attachment),
    /// Answered once the pod is in force, if it was added as said here.
    Check(Attachment),
    /// Forget it; what is not known is forgotten already.
    Del(Key),
    /// Forget all attachments of a network but these.
    Gc {
        /// The network's name.
        network: String,
        /// What is left of it.
        valid: Vec<Key>,
    },
}

/// An attachment's name: CNI has one for each interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The container's id; letters, digits, `_`, `.` and `-`, the first a letter or digit.
    pub container: String,
    /// The interface's name in the container.
    pub ifname: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container)
    }
}

impl Key {
    /// Whether both names are as CNI wants them; then they are also safe as part of a file's name.
    pub fn is_valid(&self) -> bool {
        let container = self.container.as_bytes();
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
        // dev_valid_name (net/core/dev.c); IFNAMSIZ is 16 with the final zero.
        let interface = self.ifname.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"/:".contains(byte);
        container.first().is_some_and(u8::is_ascii_alphanumeric)
            && container.len() <= 128
            && container.iter().all(word)
            && (1..16).contains(&interface.len())
            && interface.iter().all(plain)
            && ![".", ".."].contains(&self.ifname.as_str())
    }
}

/// One interface of one container, as the plugins before this one made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    #[serde(flatten)]
    pub key: Key,
    /// The network's name.
    pub network: String,
    /// The pod, where the runtime says which.
    pub pod: Option<PodName>,
    /// The interface's addresses.
    pub addresses: Vec<IpAddr>,
    /// What is known of its other end.
    pub host_side: HostSide,
}

/// A pod, by `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`, which not every runtime gives.
    pub uid: Option<String>,
}

/// What is known of the host's end of a pod's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSide {
    /// The ifindex that the container's end names as its peer.
    pub peer: Option<u32>,
    /// The interfaces outside any sandbox in the previous result: a bridge may be among them.
    pub names: Vec<String>,
}

/// What keyd says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// It is as it was asked for.
    Done,
    /// Not within the plugin's time.
    NotYet {
        /// What keyd waits for.
        reason: String,
    },
    /// It will not be, however long one waits.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Asks once. An error says that keyd is not there, or went away before it answered.
pub fn ask(socket: &Path, request: &Request, patience: Duration) -> io::Result<Answer> {
    let question = Question {
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        request: request.clone(),
    };
    let mut line = serde_json::to_vec(&question).expect("a question has text keys only");
    line.push(b'\n');
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience + GRACE))?;
    stream.set_write_timeout(Some(patience + GRACE))?;
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream)
        .take(MAX_BYTES)
        .read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str, ifname: &str) -> Key {
        Key {
            container: container.into(),
            ifname: ifname.into(),
        }
    }

    #[test]
    fn a_name_that_could_lead_out_of_a_directory_is_refused() {
        assert!(key("0a1b2c", "eth0").is_valid());
        for (container, ifname) in [
            ("", "eth0"),
            ("../x", "eth0"),
            ("a/b", "eth0"),
            ("a", "../e"),
            ("a", ".."),
            ("a", ""),
            ("a", "sixteen-letters-"),
            ("a", "e 0"),
            (".a", "eth0"),
        ] {
            assert!(!key(container, ifname).is_valid(), "{container} {ifname}");
        }
    }

    #[test]
    fn a_question_comes_back_as_it_was_asked_and_later_fields_are_no_error() {
        let question = Question {
            patience_ms: 20_000,
            request: Request::Add(Attachment {
                key: key("c1", "eth0"),
                network: "pods".into(),
                pod: None,
                addresses: vec!["10.77.1.9".parse().expect("an address")],
                host_side: HostSide::default(),
            }),
        };
        let text = serde_json::to_string(&question).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Question>(&text).expect("the same"),
            question
        );
        let newer = text.replacen('{', "{\"later\":1,", 1);
        assert_eq!(
            serde_json::from_str::<Question>(&newer).expect("the same"),
            question
        );
    }
}
