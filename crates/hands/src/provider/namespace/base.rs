//! The `/etc` of sandboxes: made of what is written here and a short list of the host's files, never bound from the
//! host's own, which may hold secrets (architecture: "a synthesised `/etc`").

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{files, fingerprint};

/// What this file writes itself.
const WRITTEN: &[(&str, &str)] = &[
    (
        "passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:1000:1000:Agent:/home/agent:/bin/bash\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost\n"),
    ("hostname", "sandbox\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files\nnetworks: files\nprotocols: files\n\
        services: files\n",
    ),
    ("resolv.conf", ""),
    ("shells", "/bin/sh\n/bin/bash\n"),
    ("timezone", "Etc/UTC\n"),
    ("host.conf", "multi on\n"),
];

/// Links this file makes.
const LINKS: &[(&str, &str)] = &[
    ("os-release", "../usr/lib/os-release"),
    ("localtime", "/usr/share/zoneinfo/Etc/UTC"),
    ("mtab", "../proc/self/mounts"),
];

/// What is copied from the host's `/etc` where it exists: what the linker, the certificate stores and the language
/// run times need. A name that ends in `*` stands for all that begin so. None of these holds a credential.
const COPIED: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl",
    "ca-certificates",
    "ca-certificates.conf",
    "pki",
    "crypto-policies",
    "debian_version",
    "protocols",
    "services",
    "mime.types",
    "magic",
    "magic.mime",
    "terminfo",
    "fonts",
    "perl",
    "python3*",
    "java-*",
    "ImageMagick-*",
    "xml",
    "sgml",
];

/// Never copied, wherever they are: keys, and the many links to manual pages.
const LEFT_OUT: &[&str] = &["private", "*.gz"];

/// What tells whether a base is still that of this host.
const WITNESSES: &[&str] = &[
    "ld.so.cache",
    "alternatives",
    "ssl/certs",
    "ca-certificates.conf",
];

/// Changes when what this file writes changes.
const EDITION: u32 = 1;

/// The base made of the host's `etc`, below `directory`; made now if there is none that fits.
///
/// `roots` are the certificates that clients inside trust, where these are others than the host's.
pub(super) fn ensure(etc: &Path, directory: &Path, roots: Option<&[u8]>) -> io::Result<PathBuf> {
    let trusted = roots.map(|roots| format!("-{:016x}", fingerprint(roots)));
    let trusted = trusted.unwrap_or_default();
    let name = format!("etc-{EDITION}-{:016x}{trusted}", witness(etc));
    let path = directory.join(&name);
    if path.is_dir() {
        return Ok(path);
    }
    files::private_directory(directory)?;
    let aside = directory.join(files::unique());
    let trash = directory.join(".trash");
    build(etc, &aside)?;
    if let Some(roots) = roots {
        trust(&aside, roots)?;
    }
    match fs::rename(&aside, &path) {
        // Another server of the data directory was faster with the same content.
        Err(error) if path.is_dir() => {
            tracing::debug!(%error, "the base of sandboxes was made twice");
            files::discard(&aside, &trash)?;
        }
        other => other?,
    }
    files::empty(&trash)?;
    Ok(path)
}

fn build(etc: &Path, to: &Path) -> io::Result<()> {
    directory(to)?;
    for (name, content) in WRITTEN {
        file(&to.join(name), content.as_bytes())?;
    }
    for (name, target) in LINKS {
        symlink(target, to.join(name))?;
    }
    for entry in fs::read_dir(etc)?.flatten() {
        let name = entry.file_name();
        let wanted = name
            .to_str()
            .is_some_and(|name| COPIED.iter().any(|pattern| matches(pattern, name)));
        if wanted {
            copy(&entry.path(), &to.join(&name))?;
        }
    }
    Ok(())
}

/// Puts certificates in the place of the system's, where clients look that are told nothing.
fn trust(base: &Path, roots: &[u8]) -> io::Result<()> {
    // A link would lead out of the base; its clients are told by their environment.
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let (ssl, certificates) = (base.join("ssl"), base.join("ssl/certs"));
    for path in [&ssl, &certificates] {
        match directory(path) {
            Err(_) if is_directory(path) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
    }
    files::replace(&certificates.join("ca-certificates.crt"), roots, 0o644)
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        (None, None) => pattern == name,
    }
}

/// Copies files that everybody may read, links as they are, and directories.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    if LEFT_OUT.iter().any(|pattern| matches(pattern, &name)) {
        return Ok(());
    }
    let meta = fs::symlink_metadata(from)?;
    let public = meta.mode() & 0o004 != 0;
    if meta.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if meta.is_dir() && public {
        directory(to)?;
        for entry in fs::read_dir(from)?.flatten() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else if meta.is_file() && public {
        file(to, &fs::read(from)?)
    } else {
        Ok(())
    }
}

fn directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn file(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// A number that changes when the host's files have.
fn witness(etc: &Path) -> u64 {
    let parts = WITNESSES
        .iter()
        .flat_map(|name| match fs::metadata(etc.join(name)) {
            Ok(meta) => [
                meta.mtime() as u64,
                meta.mtime_nsec() as u64,
                meta.size(),
                meta.ino(),
            ],
            Err(_) => [0; 4],
        });
    fingerprint(&parts.flat_map(u64::to_ne_bytes).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_holds_what_it_should_and_nothing_private() {
        let home = tempfile::tempdir().unwrap();
        let (etc, bases) = (home.path().join("etc"), home.path().join("bases"));
        for (path, mode) in [
            ("shadow", 0o640),
            ("npmrc", 0o644),
            ("passwd", 0o644),
            ("ssl/certs/a.pem", 0o644),
            ("ssl/private/key.pem", 0o600),
            ("alternatives/page.1.gz", 0o644),
            ("ssl/secret.pem", 0o600),
            ("python3.11/debian_config", 0o644),
            ("ld.so.cache", 0o644),
        ] {
            let path = etc.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "host").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let base = ensure(&etc, &bases, None).unwrap();
        for absent in [
            "shadow",
            "npmrc",
            "ssl/private",
            "ssl/secret.pem",
            "alternatives/page.1.gz",
        ] {
            assert!(!base.join(absent).exists(), "{absent}");
        }
        for present in ["ssl/certs/a.pem", "python3.11/debian_config", "ld.so.cache"] {
            assert_eq!(fs::read_to_string(base.join(present)).unwrap(), "host");
        }
        assert!(
            fs::read_to_string(base.join("passwd"))
                .unwrap()
                .contains("agent:x:1000")
        );
        assert_eq!(fs::read_to_string(base.join("resolv.conf")).unwrap(), "");

        assert_eq!(ensure(&etc, &bases, None).unwrap(), base, "made once");
        fs::write(etc.join("ld.so.cache"), "the host was updated").unwrap();
        let next = ensure(&etc, &bases, None).unwrap();
        assert_ne!(next, base);
        assert_eq!(
            fs::read_to_string(next.join("ld.so.cache")).unwrap(),
            "the host was updated"
        );
    }
}
