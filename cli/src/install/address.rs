//! Where nodes reach the API server: directly, never by the Service `kubernetes`, which keyd must not depend on.
//!
//! In this order: the ConfigMap kube-public/cluster-info, by which kubeadm's nodes join; the address that kubectl uses,
//! unless it is one of this machine alone.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::Api;
use kube::config::Kubeconfig;
use kube::{Client, Config, Error};

use super::InstallError;
use crate::cluster::request;

/// What clients assume for `https`.
const HTTPS: u16 = 443;
/// What API servers usually have.
const USUAL: u16 = 6443;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of an URL as kubeconfigs have it.
    fn of_url(url: &str) -> Option<Self> {
        let url = Config::new(url.parse().ok()?).cluster_url;
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        let port = url.port_u16().unwrap_or(HTTPS);
        Some(Self { host, port })
    }

    fn is_of_this_machine(&self) -> bool {
        let loopback = self
            .host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        loopback || self.host == "localhost"
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "write HOST or HOST:PORT, without https://";
        let (host, port) = match text.rsplit_once(':') {
            // Its colons are the address's own.
            _ if text.ends_with(']') || text.parse::<Ipv6Addr>().is_ok() => (text, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| EXPECTED)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_valid = match bare {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None if port.is_none() && host.parse::<Ipv6Addr>().is_ok() => true,
            None => is_name(host),
        };
        match is_valid && port != Some(0) {
            true => Ok(Self {
                host: bare.unwrap_or(host).to_owned(),
                port: port.unwrap_or(USUAL),
            }),
            false => Err(EXPECTED),
        }
    }
}

/// Letters, digits, dots and dashes.
fn is_name(text: &str) -> bool {
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends_well(text.chars().next())
        && ends_well(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Asks the cluster; `url` is what this command reaches it by.
pub async fn find(client: &Client, url: &str) -> Result<Address, InstallError> {
    if let Some(address) = of_cluster_info(client).await? {
        return Ok(address);
    }
    let kubectls = Address::of_url(url).filter(|address| !address.is_of_this_machine());
    match kubectls {
        Some(address) if !is_service(client, &address).await? => Ok(address),
        _ => Err(InstallError::NoAddress(url.to_owned())),
    }
}

async fn of_cluster_info(client: &Client) -> Result<Option<Address>, InstallError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let map = match maps.get_opt("cluster-info").await {
        // It is for nodes that join, and not every administrator may read it.
        Err(Error::Api(status)) if status.code == 403 => None,
        found => found.map_err(request("read kube-public/cluster-info"))?,
    };
    let text = map.and_then(|map| map.data?.remove("kubeconfig"));
    let config = text.and_then(|text| Kubeconfig::from_yaml(&text).ok());
    let server = config.and_then(|config| config.clusters.into_iter().next()?.cluster?.server);
    Ok(server
        .and_then(|server| Address::of_url(&server))
        .filter(|address| !address.is_of_this_machine()))
}

/// Whether the address is that of the Service `kubernetes`, by which pods reach it.
async fn is_service(client: &Client, address: &Address) -> Result<bool, InstallError> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = services
        .get_opt("kubernetes")
        .await
        .map_err(request("read the Service kubernetes"))?;
    let addresses = service
        .and_then(|service| service.spec?.cluster_ips)
        .unwrap_or_default();
    Ok(addresses.contains(&address.host) || address.host.starts_with("kubernetes.default"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_of_both_families_parse_and_urls_do_not() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", 6443),
            ("10.0.0.1:443", "10.0.0.1", 443),
            ("api.example.com:8443", "api.example.com", 8443),
            ("fd00::1", "fd00::1", 6443),
            ("[fd00::1]", "fd00::1", 6443),
            ("[fd00::1]:443", "fd00::1", 443),
        ] {
            let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
        }
        for wrong in [
            "",
            "https://a",
            "a:0",
            "a:b",
            "a/b",
            "-a",
            "[10.0.0.1]",
            "a b",
            "a\n",
            "x:y:1",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_kubeconfigs_url_gives_an_address_and_loopback_is_told() {
        let address = |url| Address::of_url(url).expect("a URL");
        assert_eq!(
            address("https://api.example.com").to_string(),
            "api.example.com:443"
        );
        assert_eq!(address("https://[fd00::1]:6443").to_string(), "[fd00::1]:6443");
        assert!(address("https://127.0.0.1:36000/").is_of_this_machine());
        assert!(address("https://[::1]:36000").is_of_this_machine());
        assert!(!address("https://10.0.0.1:6443").is_of_this_machine());
    }
}
