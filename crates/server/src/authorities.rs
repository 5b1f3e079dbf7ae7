//! `egress.ca_file`: the operator's own authorities, which sandboxes, their proxy and the server's own requests trust beside
//! those of the machine.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::Egress;
use crate::failure::Failure;

/// The longest file of certificates that is read, in bytes (security INP-1).
const LONGEST: u64 = 1 << 20;

/// The authorities of the configuration; without the setting none.
///
/// # Errors
/// What is wrong with the file, and what to do about it.
pub(crate) fn of(egress: &Egress) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(egress
        .ca_file
        .as_deref()
        .map(read)
        .transpose()?
        .unwrap_or_default())
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
pub(crate) fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
