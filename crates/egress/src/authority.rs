//! The deployment's own authority: made once, its key only here, and leaves for hosts that a session may reach (security
//! CRED-10).

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_protocol::Timestamp;
use manyhands_protocol::time::SharedClock;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};

use crate::host::Host;
use crate::policy::Allowed;

/// The file in the data directory: the certificate and the key, readable by the server alone.
const FILE: &str = "egress-authority.pem";
/// How many leaves are remembered; the oldest makes room.
const LEAVES: usize = 512;
const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no authority. Stop and tell the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file cannot be read or written.
    #[error("{path}: the authority of the egress proxy cannot be kept")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its file holds no certificate with a key.
    #[error(
        "{path} holds no authority: remove it and a new one is made, which sandboxes trust when they start anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take the certificate.
    #[error("a certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// The authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// The one key of all leaves, which lives as long as the process.
    leaf: KeyPair,
    leaves: Mutex<Leaves>,
    clock: SharedClock,
}

#[derive(Default)]
struct Leaves {
    made: HashMap<Host, (Timestamp, Arc<ServerConfig>)>,
    order: VecDeque<Host>,
}

impl Authority {
    /// The authority of this data directory, made if there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(directory: &Path, clock: SharedClock) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let file = |source| Error::File {
            path: path.clone(),
            source,
        };
        if !path.try_exists().map_err(file)? {
            let text = make(&clock)?;
            keep(directory, &path, &text).map_err(file)?;
        }
        let text = fs::read_to_string(&path).map_err(file)?;
        Self::read(&text, clock).ok_or(Error::Damaged { path })?
    }

    /// None when the text holds no certificate with its key.
    fn read(text: &str, clock: SharedClock) -> Option<Result<Self, Error>> {
        let (pem, key) = text.split_at(text.find("-----BEGIN PRIVATE KEY")?);
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = KeyPair::from_pem(key).ok()?;
        let pem = pem.to_owned();
        Some(KeyPair::generate().map_err(Error::from).map(|leaf| Self {
            issuer: Issuer::new(authority_params(&key), key),
            certificate,
            pem,
            leaf,
            leaves: Mutex::default(),
            clock,
        }))
    }

    /// The certificate that clients have to trust, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What the proxy shows as this host: made for the host of a decision only.
    ///
    /// # Errors
    /// [`Error::Certificate`], [`Error::Tls`].
    pub fn leaf(&self, allowed: &Allowed) -> Result<Arc<ServerConfig>, Error> {
        let host = &allowed.target().host;
        let now = self.clock.now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = leaves.made.get(host)
            && now < made.after(DAY)
            && *made <= now
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.sign(host, now)?);
        if leaves
            .made
            .insert(host.clone(), (now, config.clone()))
            .is_none()
        {
            leaves.order.push_back(host.clone());
        }
        if leaves.order.len() > LEAVES
            && let Some(oldest) = leaves.order.pop_front()
        {
            leaves.made.remove(&oldest);
        }
        Ok(config)
    }

    fn sign(&self, host: &Host, now: Timestamp) -> Result<ServerConfig, Error> {
        let mut params = CertificateParams::new(vec![host.to_string()])?;
        params.distinguished_name = name("Manyhands egress");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = validity(now, 30);
        let leaf = params.signed_by(&self.leaf, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf.serialize_der()));
        let chain = vec![leaf.into(), self.certificate.clone()];
        let mut config = crate::tls::server()?.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection shows its name and is checked by itself: nothing is resumed.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From the day before, for clocks that disagree, for so many days.
fn validity(now: Timestamp, days: u32) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let at = |instant: Timestamp| {
        let seconds = instant.as_micros().div_euclid(1_000_000);
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    let before = Timestamp::from_micros(now.as_micros() - DAY.as_micros() as i64);
    (at(before), at(now.after(DAY * days)))
}

/// The same for the same key, so that leaves name their issuer as its certificate does.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key_raw());
    let mark: String = digest.as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = name(&format!("Manyhands egress authority {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make(clock: &SharedClock) -> Result<String, Error> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(&key);
    (params.not_before, params.not_after) = validity(clock.now(), 3650);
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// Writes the file whole or not at all. Who comes second keeps the first one's.
fn keep(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let aside = directory.join(format!("{FILE}.{}", std::process::id()));
    drop(fs::remove_file(&aside));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::File::open(directory)?.sync_all(),
    }
}
