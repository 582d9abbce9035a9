//! Requests, from text.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::core::{Allow, PeerChange};

/// A request.
pub enum Request {
    /// `get=1`: tell everything.
    Get,
    /// `set=1`: change what is named.
    Set(SetRequest),
}

/// What `set=1` changes, in order: the device, then peer by peer.
#[derive(Default)]
pub struct SetRequest {
    /// `Some(None)`: no key any more.
    pub(crate) private_key: Option<Option<StaticSecret>>,
    pub(crate) listen_port: Option<u16>,
    /// 0 for none.
    pub(crate) fwmark: Option<u32>,
    pub(crate) replace_peers: bool,
    pub(crate) peers: Vec<PeerChange>,
}

/// Why a request was refused. It never shows a value: that may be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UapiError {
    /// The first line is neither `get=1` nor `set=1`.
    #[error("a request begins with get=1 or set=1")]
    NoOperation,
    /// A line is not `key=value`.
    #[error("line {line} is not key=value")]
    NoValue {
        /// Counted from 1.
        line: usize,
    },
    /// A key that is not known, or not known in that place.
    #[error("line {line}: unknown key in this place")]
    UnknownKey {
        /// Counted from 1.
        line: usize,
    },
    /// A value that is not of its key's form.
    #[error("line {line}: bad value")]
    BadValue {
        /// Counted from 1.
        line: usize,
    },
}

impl Request {
    /// Reads a request, up to its empty line or its end.
    ///
    /// # Errors
    /// [`UapiError`], with the line.
    pub fn parse(text: &str) -> Result<Self, UapiError> {
        let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
        match lines.next() {
            Some((_, "get=1")) => return Ok(Self::Get),
            Some((_, "set=1")) => {}
            _ => return Err(UapiError::NoOperation),
        }
        let mut request = SetRequest::default();
        for (line, text) in lines {
            if text.is_empty() {
                break;
            }
            let (key, value) = text.split_once('=').ok_or(UapiError::NoValue { line })?;
            request.line(key, value, line)?;
        }
        Ok(Self::Set(request))
    }
}

impl SetRequest {
    fn line(&mut self, key: &str, value: &str, line: usize) -> Result<(), UapiError> {
        let bad = UapiError::BadValue { line };
        if key == "public_key" {
            let public_key = *parse_key(value).ok_or(bad)?;
            self.peers.push(PeerChange {
                public_key,
                ..PeerChange::default()
            });
            return Ok(());
        }
        let Some(peer) = self.peers.last_mut() else {
            return self.device_line(key, value, line);
        };
        match key {
            "remove" => peer.remove = parse_true(value).ok_or(bad)?,
            "update_only" => peer.update_only = parse_true(value).ok_or(bad)?,
            "preshared_key" => peer.preshared_key = Some(parse_key(value).ok_or(bad)?),
            "endpoint" => peer.endpoint = Some(parse_endpoint(value).ok_or(bad)?),
            "persistent_keepalive_interval" => peer.keepalive = Some(value.parse().map_err(|_| bad)?),
            "replace_allowed_ips" => peer.replace_allowed_ips = parse_true(value).ok_or(bad)?,
            "allowed_ip" => {
                let (value, allow) = match value.strip_prefix('-') {
                    Some(value) => (value, Allow::Remove),
                    None => (value, Allow::Add),
                };
                peer.allowed_ips
                    .push((value.parse::<IpNet>().map_err(|_| bad)?, allow));
            }
            "protocol_version" if value == "1" => {}
            "protocol_version" => return Err(bad),
            _ => return Err(UapiError::UnknownKey { line }),
        }
        Ok(())
    }

    fn device_line(&mut self, key: &str, value: &str, line: usize) -> Result<(), UapiError> {
        let bad = UapiError::BadValue { line };
        match key {
            "private_key" => {
                let key = parse_key(value).ok_or(bad)?;
                self.private_key = Some((*key != [0; 32]).then(|| StaticSecret::from(*key)));
            }
            "listen_port" => self.listen_port = Some(value.parse().map_err(|_| bad)?),
            "fwmark" => self.fwmark = Some(parse_fwmark(value).ok_or(bad)?),
            "replace_peers" => self.replace_peers = parse_true(value).ok_or(bad)?,
            _ => return Err(UapiError::UnknownKey { line }),
        }
        Ok(())
    }
}

/// 64 hexadecimal digits.
fn parse_key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != key.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(pairs) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(key)
}

/// Decimal, or hexadecimal after 0x as `wg` takes it from its user.
fn parse_fwmark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn parse_endpoint(text: &str) -> Option<SocketAddr> {
    let endpoint: SocketAddr = text.parse().ok()?;
    // A mapped address is IPv4 to a lane; any other keeps its scope.
    Some(match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), endpoint.port()),
        IpAddr::V6(_) => endpoint,
    })
}

fn parse_true(text: &str) -> Option<bool> {
    (text == "true").then_some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";

    fn set(lines: &str) -> Result<SetRequest, UapiError> {
        match Request::parse(&format!("set=1\n{lines}\n\n"))? {
            Request::Set(request) => Ok(request),
            Request::Get => panic!("set=1 was read as get=1"),
        }
    }

    #[test]
    fn the_example_of_the_specification_is_understood() {
        let request = set(&format!(
            "private_key={KEY}\nfwmark=0\nlisten_port=12912\nreplace_peers=true\npublic_key={KEY}\n\
             preshared_key={KEY}\nendpoint=[abcd:23::33%2]:51820\nreplace_allowed_ips=true\n\
             allowed_ip=192.168.4.4/32\npublic_key={KEY}\ntx_bytes=1"
        ));
        assert_eq!(request.err(), Some(UapiError::UnknownKey { line: 12 }));
        let request = set(&format!(
            "listen_port=12912\nreplace_peers=true\npublic_key={KEY}\nremove=true\npublic_key={KEY}\n\
             endpoint=[::ffff:182.122.22.19]:3233\npersistent_keepalive_interval=111\n\
             allowed_ip=192.168.4.6/32\nallowed_ip=-192.168.4.0/24"
        ))
        .expect("is understood");
        assert_eq!(request.listen_port, Some(12912));
        assert!(request.replace_peers && request.peers[0].remove);
        let peer = &request.peers[1];
        assert_eq!(
            peer.endpoint,
            Some("182.122.22.19:3233".parse().expect("an address"))
        );
        assert_eq!(peer.keepalive, Some(111));
        assert_eq!(
            peer.allowed_ips[1],
            ("192.168.4.0/24".parse().expect("a prefix"), Allow::Remove)
        );
    }

    #[test]
    fn bad_values_are_refused_with_their_line() {
        for line in [
            "private_key=12",
            "listen_port=65536",
            "replace_peers=yes",
            &format!("private_key={}", KEY.replace('b', "+")),
        ] {
            assert_eq!(set(line).err(), Some(UapiError::BadValue { line: 2 }), "{line}");
        }
        for line in [
            "endpoint=host:1",
            "allowed_ip=10.0.0.0/33",
            "protocol_version=2",
            "remove=false",
        ] {
            let error = set(&format!("public_key={KEY}\n{line}")).err();
            assert_eq!(error, Some(UapiError::BadValue { line: 3 }), "{line}");
        }
        assert_eq!(set("listen_port").err(), Some(UapiError::NoValue { line: 2 }));
        assert_eq!(
            set("endpoint=1.2.3.4:5").err(),
            Some(UapiError::UnknownKey { line: 2 })
        );
        assert_eq!(Request::parse("got=1").err(), Some(UapiError::NoOperation));
    }

    #[test]
    fn a_key_of_zeros_is_no_key() {
        let request = set(&format!("private_key={}", "0".repeat(64))).expect("is understood");
        assert!(matches!(request.private_key, Some(None)));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(set=1\n)?([a-z_]{1,12}=[0-9a-f:./-]{0,70}\n){0,8}") {
            let _ = Request::parse(&text);
        }
    }
}
