//! Whom clients inside trust, and what those of them need that do not find a proxy by themselves.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::namespace::{files, fingerprint};

/// Where distributions keep the roots of the system, below `/etc`.
const ROOTS: [&str; 4] = [
    "ssl/certs/ca-certificates.crt",
    "pki/tls/certs/ca-bundle.crt",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
];

/// Files that every sandbox with a way out sees at [`TRUST`](super::TRUST).
pub(in crate::provider) struct Trust {
    /// The gate's authority.
    authority: String,
    /// The authority, then the roots of the host's system.
    pub(in crate::provider) roots: Vec<u8>,
}

impl Trust {
    /// What a gate with this authority and a system with this `/etc` make.
    ///
    /// # Errors
    /// When the system's roots are there but cannot be read.
    pub(in crate::provider) fn new(authority: String, etc: &Path) -> io::Result<Self> {
        let mut roots = authority.clone().into_bytes();
        let found = ROOTS.map(|name| etc.join(name)).into_iter();
        if let Some(found) = found.into_iter().find(|path| path.is_file()) {
            roots.push(b'\n');
            roots.extend(fs::read(found)?);
        }
        Ok(Self { authority, roots })
    }

    /// The files, by their names.
    pub(in crate::provider) fn files(&self) -> [(&'static str, &[u8]); 3] {
        [
            ("authority.pem", self.authority.as_bytes()),
            ("node.cjs", include_bytes!("node.cjs")),
            ("roots.pem", &self.roots),
        ]
    }

    /// A folder below `directory` with the files, made now if there is none that fits.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::provider) fn folder(&self, directory: &Path) -> io::Result<PathBuf> {
        let all = self.files().map(|(_, content)| content).concat();
        let path = directory.join(format!("trust-{:016x}", fingerprint(&all)));
        if path.is_dir() {
            return Ok(path);
        }
        files::private_directory(directory)?;
        let aside = directory.join(files::unique());
        fs::create_dir(&aside)?;
        for (name, content) in self.files() {
            files::replace(&aside.join(name), content, 0o644)?;
        }
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755))?;
        match fs::rename(&aside, &path) {
            // Another server of the data directory was faster with the same content.
            Err(_) if path.is_dir() => fs::remove_dir_all(&aside)?,
            other => other?,
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_1_the_authority_comes_before_the_roots_of_the_system() {
        let home = tempfile::tempdir().unwrap();
        let (etc, made) = (home.path().join("etc"), home.path().join("made"));
        let alone = Trust::new("own".to_owned(), &etc).unwrap();
        assert_eq!(alone.roots, b"own");
        files::replace(&etc.join(ROOTS[0]), b"system", 0o644).unwrap();
        let trust = Trust::new("own".to_owned(), &etc).unwrap();
        let folder = trust.folder(&made).unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("roots.pem"), "own\nsystem");
        assert_eq!(read("authority.pem"), "own");
        assert!(read("node.cjs").contains("CONNECT"));
        assert_eq!(trust.folder(&made).unwrap(), folder, "made once");
        assert_ne!(alone.folder(&made).unwrap(), folder);
        assert_eq!(
            fs::read_dir(&made).unwrap().count(),
            2,
            "nothing is left over"
        );
    }
}
