//! The machine's resolver: its name servers and its hosts file, asked for exactly the names it is given.

use std::io;
use std::net::IpAddr;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};

use crate::dial::Resolve;
use crate::host::Host;

/// How many answers are remembered, for as long as they say.
const REMEMBERED: u64 = 1024;

/// Asks the name servers of `/etc/resolv.conf`, after `/etc/hosts`.
pub struct System(TokioResolver);

impl System {
    /// Reads the machine's configuration.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new() -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.cache_size = REMEMBERED;
        Ok(Self(builder.build().map_err(io::Error::other)?))
    }
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &Host) -> io::Result<Vec<IpAddr>> {
        // The dot ends the name, so that no search domain makes another one of it.
        let answer = self.0.lookup_ip(format!("{host}.")).await;
        Ok(answer.map_err(io::Error::other)?.iter().collect())
    }
}
