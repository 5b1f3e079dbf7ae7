//! TLS as this house speaks it: one implementation, the machine's roots and the operator's.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::WantsServerCert;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig};
use rustls_platform_verifier::Verifier;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Towards sandboxes.
///
/// # Errors
/// When the provider speaks no version of TLS.
pub(crate) fn server() -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, rustls::Error> {
    Ok(ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth())
}

/// Towards hosts, as the proxy speaks: HTTP/1.1 alone.
///
/// # Errors
/// As [`verifier`].
pub(crate) fn client(
    extra: Vec<CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = config(extra)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Towards hosts, as the server's own clients speak: HTTP/2 where the host does.
///
/// # Errors
/// As [`verifier`].
pub(crate) fn own_client(
    extra: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = config(extra)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn config(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier(extra)?)
        .with_no_client_auth())
}

/// Checks certificates by the machine's roots and `extra` ones. Reading the machine's costs more than all else that a client
/// is made of, so that a process has one verifier for each set of extra ones, of which a configuration names one at most.
///
/// # Errors
/// When there are no roots at all, or an extra one is none. That is not remembered.
fn verifier(extra: Vec<CertificateDer<'static>>) -> Result<Arc<Verifier>, rustls::Error> {
    static READ: LazyLock<Mutex<HashMap<Vec<CertificateDer<'static>>, Arc<Verifier>>>> =
        LazyLock::new(Mutex::default);
    // Who comes while they are read waits for them instead of reading them too.
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(verifier) = read.get(&extra) {
        return Ok(Arc::clone(verifier));
    }
    let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), provider())?;
    let verifier = Arc::new(verifier);
    read.insert(extra, Arc::clone(&verifier));
    Ok(verifier)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn authorities_are_read_once_for_each_set_of_them() {
        let home = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(manyhands_protocol::time::SystemClock);
        let own = crate::authority::Authority::open(home.path(), clock).expect("an authority");
        let own = CertificateDer::from_pem_slice(own.pem().as_bytes()).expect("a certificate");
        let machine = verifier(Vec::new()).expect("the machine's");
        let both = verifier(vec![own.clone()]).expect("the machine's and one more");
        assert!(!Arc::ptr_eq(&machine, &both));
        for (extra, first) in [(Vec::new(), machine), (vec![own], both)] {
            let again = verifier(extra).expect("a second time");
            assert!(Arc::ptr_eq(&again, &first));
        }
        let no_certificate = CertificateDer::from(b"none".to_vec());
        for _ in 0..2 {
            verifier(vec![no_certificate.clone()]).expect_err("no certificate");
        }
    }
}
