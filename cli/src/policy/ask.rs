//! What is asked about, as the command line has it.

use std::str::FromStr;

use hauberk_policy::connection;
use hauberk_policy::dns_name::NamePattern;
use hauberk_policy::ports::{Protocol, Traffic};

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End(pub connection::End);

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((namespace, name)) = text.split_once('/') {
            if namespace.is_empty() || name.is_empty() || name.contains('/') {
                return Err(format!("{text:?} is no pod; write NAMESPACE/NAME"));
            }
            return Ok(Self(connection::End::Pod(namespace.into(), name.into())));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self(connection::End::Address(address)));
        }
        match NamePattern::parse(text) {
            Ok(NamePattern::Exactly(name)) => Ok(Self(connection::End::Name(name))),
            Ok(NamePattern::Below(_)) | Err(_) => Err(format!(
                "{text:?} is no pod (NAMESPACE/NAME), no address and no DNS name"
            )),
        }
    }
}

/// A port and a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub Traffic);

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(port, protocol)| {
            let protocol = Protocol::by_name(&protocol.to_ascii_uppercase())?;
            let port = port.parse().ok().filter(|port| *port > 0)?;
            Some(Traffic { protocol, port })
        });
        parsed
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no port; write PORT/TCP, PORT/UDP or PORT/SCTP, as 80/TCP"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_pod_an_address_or_a_name() {
        let end = |text: &str| text.parse::<End>().map(|end| end.0);
        assert_eq!(end("x/web"), Ok(connection::End::Pod("x".into(), "web".into())));
        assert_eq!(
            end("fd00::1"),
            Ok(connection::End::Address("fd00::1".parse().unwrap()))
        );
        assert_eq!(
            end("API.example.com."),
            Ok(connection::End::Name("api.example.com".into()))
        );
        for wrong in ["", "x/", "/web", "a/b/c", "*.example.com", "a b"] {
            assert!(end(wrong).unwrap_err().contains(&format!("{wrong:?}")));
        }
    }

    #[test]
    fn a_port_has_a_number_and_a_protocol_with_ports() {
        let port = |text: &str| text.parse::<Port>().map(|port| port.0);
        let traffic = |protocol, port| Ok(Traffic { protocol, port });
        assert_eq!(port("80/TCP"), traffic(Protocol::Tcp, 80));
        assert_eq!(port("65535/udp"), traffic(Protocol::Udp, 65535));
        for wrong in ["80", "0/TCP", "65536/TCP", "80/ICMP", "/TCP", "http/TCP"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
