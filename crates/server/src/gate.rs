//! The way out of sandboxes: what `hands` asks for, answered by the proxy of `egress` (security NET-1).

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use anyhow::Context as _;
use manyhands_egress::dial::Dialler;
use manyhands_egress::host::Pattern;
use manyhands_egress::policy::Operator;
use manyhands_egress::proxy::{Proxy, Settings};
use manyhands_egress::secrets::Secrets;
use manyhands_hands::Gate;
use manyhands_hands::provider::{Door, Network};
use manyhands_protocol::time::SharedClock;

use crate::authorities;
use crate::config::Config;

/// The proxy as the gate of this server's sandboxes.
struct Guarded {
    proxy: Proxy,
    /// What clients inside trust, as PEM: the proxy's authority, then the operator's own.
    trusted: String,
}

/// The gate of the configuration.
///
/// # Errors
/// What is in the way, and what to do about it.
pub(crate) fn gate(
    config: &Config,
    clock: &SharedClock,
    secrets: Arc<dyn Secrets>,
) -> anyhow::Result<Arc<dyn Gate>> {
    manyhands_egress::install_crypto();
    manyhands_store::make_folder(&config.data_dir).with_context(|| {
        format!(
            "the data directory {} cannot be made",
            config.data_dir.display()
        )
    })?;
    let egress = &config.egress;
    let roots = authorities::of(egress)?;
    let own: String = roots.iter().map(authorities::pem).collect();
    let dialler = Dialler::system(egress.allowed()?)
        .context("the machine's name servers cannot be read from /etc/resolv.conf")?;
    let proxy = Proxy::new(Settings {
        roots,
        operator: operator(config),
        secrets,
        substitute_in_plain_http: egress.substitute_in_plain_http,
        ..Settings::new(config.data_dir.clone(), dialler, Arc::clone(clock))
    });
    let proxy = proxy.context("the egress proxy cannot be made")?;
    let trusted = format!("{}{own}", proxy.authority());
    Ok(Arc::new(Guarded { proxy, trusted }))
}

/// What the operator says about all sandboxes.
pub(crate) fn operator(config: &Config) -> Operator {
    Operator {
        ports: config.egress.ports.clone(),
        package_hosts: package_hosts(config),
        tunnel_hosts: config.egress.tunnel_hosts.clone(),
    }
}

/// What `allow_package_managers` opens: as the operator says, else where the host's own package managers go (runtime EN-11).
fn package_hosts(config: &Config) -> Vec<Pattern> {
    if let Some(listed) = &config.egress.package_hosts {
        return listed.clone();
    }
    let hosts = config.environments.sources.clone().or_of_host().hosts();
    let parse = |host: String| {
        let refused = |error| tracing::warn!(host, %error, "a source of packages stays closed");
        Pattern::parse(&host).map_err(refused).ok()
    };
    hosts.into_iter().filter_map(parse).collect()
}

impl Gate for Guarded {
    fn open(&self, session: &str, network: &Network, socket: UnixListener) -> io::Result<Door> {
        let policy = self.proxy.policy(&network.networking, &network.mcp_hosts);
        Ok(Box::new(self.proxy.open(session, policy, socket)?))
    }

    fn authority(&self) -> String {
        self.trusted.clone()
    }
}
