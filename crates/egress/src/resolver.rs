//! The machine's resolver: its name servers and its hosts file, asked for exactly the names it is given.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;

use crate::dial::Resolve;
use crate::host::Host;

/// How many answers are remembered, for as long as they say.
const REMEMBERED: u64 = 1024;
/// Where name servers listen: their file has no way to say otherwise.
const PORT: u16 = 53;

/// Asks the name servers of `/etc/resolv.conf`, after `/etc/hosts`. A file that has changed is read again: machines move.
pub struct System {
    path: PathBuf,
    port: u16,
    made: Mutex<(Option<SystemTime>, TokioResolver)>,
}

impl System {
    /// Reads the machine's configuration. Without one no name is resolved but those of `/etc/hosts`.
    ///
    /// # Errors
    /// When no resolver can be made at all.
    pub fn new() -> io::Result<Self> {
        Self::with_file(Path::new("/etc/resolv.conf"), PORT)
    }

    fn with_file(path: &Path, port: u16) -> io::Result<Self> {
        let changed = changed(path);
        Ok(Self {
            path: path.to_owned(),
            port,
            made: Mutex::new((changed, make(path, port)?)),
        })
    }

    /// The resolver of the file as it is now. The former one stays when the new one cannot be made.
    fn current(&self) -> TokioResolver {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(&self.path);
        if made.0 != changed {
            made.0 = changed;
            match make(&self.path, self.port) {
                Ok(resolver) => made.1 = resolver,
                Err(error) => tracing::error!(%error, "the changed name servers cannot be used"),
            }
        }
        made.1.clone()
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn make(path: &Path, port: u16) -> io::Result<TokioResolver> {
    let read = fs::read(path).and_then(|text| parse_resolv_conf(text).map_err(io::Error::other));
    let (config, mut options) = read.unwrap_or_else(|error| {
        let path = path.display();
        tracing::warn!(%path, %error, "there are no name servers: sandboxes reach no names");
        Default::default()
    });
    // Exactly the name that was checked is asked for: nothing is appended to it.
    let mut servers = config.name_servers().to_vec();
    for connection in servers
        .iter_mut()
        .flat_map(|server| &mut server.connections)
    {
        connection.port = port;
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    options.cache_size = REMEMBERED;
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    *builder.options_mut() = options;
    builder.build().map_err(io::Error::other)
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &Host) -> io::Result<Vec<IpAddr>> {
        let answer = self.current().lookup_ip(format!("{host}.")).await;
        Ok(answer.map_err(io::Error::other)?.iter().collect())
    }
}

#[cfg(test)]
mod tests;
