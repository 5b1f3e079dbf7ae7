//! The way out of sandboxes: what `hands` asks for, answered by the proxy of `egress` (security NET-1).

use std::io;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use manyhands_egress::dial::Dialler;
use manyhands_egress::host::Pattern;
use manyhands_egress::policy::Operator;
use manyhands_egress::proxy::{Proxy, Settings};
use manyhands_egress::secrets::Secrets;
use manyhands_hands::Gate;
use manyhands_hands::provider::{Door, Network};
use manyhands_protocol::time::SharedClock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::Config;
use crate::failure::Failure;

/// The longest file of certificates that is read, in bytes (security INP-1).
const LONGEST: u64 = 1 << 20;

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
    let roots = egress.ca_file.as_deref().map(read).transpose()?;
    let roots = roots.unwrap_or_default();
    let own: String = roots.iter().map(pem).collect();
    let dialler = Dialler::system(egress.allowed()?)
        .context("the machine's name servers cannot be read from /etc/resolv.conf")?;
    let proxy = Proxy::new(Settings {
        roots,
        operator: Operator {
            ports: egress.ports.clone(),
            package_hosts: package_hosts(config),
            tunnel_hosts: egress.tunnel_hosts.clone(),
        },
        secrets,
        substitute_in_plain_http: egress.substitute_in_plain_http,
        ..Settings::new(config.data_dir.clone(), dialler, Arc::clone(clock))
    });
    let proxy = proxy.context("the egress proxy cannot be made")?;
    let trusted = format!("{}{own}", proxy.authority());
    Ok(Arc::new(Guarded { proxy, trusted }))
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

/// The certificates of an operator's file.
fn read(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let wrong = |problem: String| {
        let message = format!("egress.ca_file: {}: {problem}", path.display());
        Failure::new(
            message,
            "name a file of certificates in PEM, or remove the setting",
        )
    };
    let mut text = String::new();
    let opened = std::fs::File::open(path);
    let length = opened.and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    match length.map_err(|error| wrong(error.to_string()))? {
        length if length as u64 > LONGEST => return Err(wrong("it is too long".to_owned()).into()),
        _ => {}
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates.map_err(|error| wrong(error.to_string()))? {
        none if none.is_empty() => Err(wrong("it holds no certificate".to_owned()).into()),
        certificates => Ok(certificates),
    }
}

/// A certificate as text, of which nothing else of its file becomes a part: sandboxes read it.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// security NET-4, CRED-1: of an operator's file the certificates alone are shown to sandboxes.
    #[test]
    fn net_4_the_operators_authority_is_read_strictly_and_shown_without_its_key() {
        let home = tempfile::tempdir().expect("a folder");
        let authority = manyhands_egress::authority::Authority::open(
            home.path(),
            Arc::new(manyhands_protocol::time::SystemClock),
        );
        let certificate = authority.expect("an authority").pem().to_owned();
        let path = home.path().join("own.pem");
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        std::fs::write(&path, format!("{key}{certificate}")).expect("written");
        let found = read(&path).expect("certificates");
        let shown: String = found.iter().map(pem).collect();
        let plain = |text: &str| text.replace(['\r', '\n'], "");
        assert_eq!(plain(&shown), plain(&certificate));

        for (content, problem) in [
            (key.to_owned(), "no certificate"),
            ("x".repeat(2 << 20), "too long"),
            (certificate.replace("MII", "M!I"), "ca_file"),
        ] {
            std::fs::write(&path, content).expect("written");
            let error = read(&path).expect_err(problem).to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(read(&home.path().join("none")).is_err());
    }
}
