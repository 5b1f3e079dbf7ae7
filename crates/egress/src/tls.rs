//! TLS as the proxy speaks it: one implementation, the machine's roots and the operator's.

use std::sync::Arc;

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

/// Towards hosts: certificates are checked by the machine's roots and `extra` ones.
///
/// # Errors
/// When there are no roots at all, or an extra one is none.
pub(crate) fn client(
    extra: Vec<CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = Verifier::new_with_extra_roots(extra, provider())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
