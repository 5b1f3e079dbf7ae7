//! `[egress]`: what sandboxes, and the tools of the server itself, may reach beyond what is open to everybody.

use std::path::PathBuf;

use manyhands_egress::address::Allowed;
use manyhands_egress::host::Pattern;
use serde::Deserialize;

use super::{Error, wrong};

/// The ports that are always open (security NET-4).
const PORTS: [u16; 2] = [80, 443];

/// The way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Networks that may be dialled although they are not global, as they were written (security NET-3).
    pub allow_addresses: Vec<String>,
    /// The ports that may be dialled: 80, 443 and the operator's.
    pub ports: Vec<u16>,
    /// Hosts whose TLS is not inspected where it otherwise is (security NET-4).
    pub tunnel_hosts: Vec<Pattern>,
    /// Whether the secrets of environment credentials are put into requests that are not encrypted (security CRED-4).
    pub substitute_in_plain_http: bool,
    /// The hosts that `allow_package_managers` opens; absent: those of the host's own package managers.
    pub package_hosts: Option<Vec<Pattern>>,
    /// Certificates in PEM that are trusted beside the system's: an operator's own authority.
    pub ca_file: Option<PathBuf>,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            allow_addresses: Vec::new(),
            ports: PORTS.to_vec(),
            tunnel_hosts: Vec::new(),
            substitute_in_plain_http: false,
            package_hosts: None,
            ca_file: None,
        }
    }
}

impl Egress {
    /// The networks that may be dialled although they are not global.
    ///
    /// # Errors
    /// The text that is no network; [`Config::load`](super::Config::load) has refused it already.
    pub fn allowed(&self) -> Result<Allowed, Error> {
        Allowed::parse(&self.allow_addresses)
            .map_err(|error| wrong("egress.allow_addresses", error.to_string()))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EgressSection {
    allow_addresses: Vec<String>,
    ports: Vec<u16>,
    tunnel_hosts: Vec<String>,
    substitute_in_plain_http: bool,
    package_hosts: Option<Vec<String>>,
    ca_file: Option<PathBuf>,
}

impl EgressSection {
    pub(super) fn effective(self) -> Result<Egress, Error> {
        let mut ports = [&PORTS[..], &self.ports[..]].concat();
        ports.sort_unstable();
        ports.dedup();
        if ports.first() == Some(&0) {
            return Err(wrong("egress.ports", "0 is no port"));
        }
        let package_hosts = self.package_hosts;
        let package_hosts = package_hosts.map(|hosts| patterns("egress.package_hosts", &hosts));
        let egress = Egress {
            allow_addresses: self.allow_addresses,
            ports,
            tunnel_hosts: patterns("egress.tunnel_hosts", &self.tunnel_hosts)?,
            substitute_in_plain_http: self.substitute_in_plain_http,
            package_hosts: package_hosts.transpose()?,
            ca_file: self.ca_file,
        };
        egress.allowed()?;
        Ok(egress)
    }
}

fn patterns(setting: &str, hosts: &[String]) -> Result<Vec<Pattern>, Error> {
    let parse = |host: &String| {
        Pattern::parse(host).map_err(|error| wrong(setting, format!("{host:?}: {error}")))
    };
    hosts.iter().map(parse).collect()
}
