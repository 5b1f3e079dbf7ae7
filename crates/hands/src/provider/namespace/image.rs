//! A system of the operator's choice in the place of the host's: what sandboxes see as `/usr` and its neighbours comes from a
//! folder, a tarball or a folder in OCI layout (runtime EN-14).
//!
//! A plain folder is used where it is. Anything else is unpacked once, below the data directory, under a name made from its
//! content. It counts as written by a stranger (security INP-3): what it says is only ever looked at beneath a handle, or
//! where no link is on the way.

mod oci;
mod unpack;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::{files, fingerprint};
use unpack::Unpack;

/// What a kernel's name for a layer's compression begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The kinds of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// A folder that is a system's root.
    Folder,
    /// An archive of one: tar, plain or compressed with gzip or zstd.
    Tarball,
    /// A folder in OCI layout.
    Oci,
}

impl Image {
    /// What kind of image is at a path.
    ///
    /// # Errors
    /// Why it can be none, as a sentence without a full stop.
    pub fn check(path: &Path) -> Result<Self, String> {
        if !path.is_absolute() {
            return Err(format!("{} is not an absolute path", path.display()));
        }
        let meta = fs::metadata(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        if meta.is_file() {
            Ok(Self::Tarball)
        } else if path.join("oci-layout").is_file() {
            Ok(Self::Oci)
        } else if meta.is_dir() && path.join("usr").is_dir() && path.join("etc").is_dir() {
            Ok(Self::Folder)
        } else {
            Err(format!(
                "{} is no system's root, no tarball of one and no OCI layout",
                path.display()
            ))
        }
    }
}

/// The root of the image's system, unpacked below `directory` if it has to be and is not yet.
pub(super) fn ensure(image: &Path, directory: &Path) -> io::Result<PathBuf> {
    let kind = Image::check(image).map_err(io::Error::other)?;
    if kind == Image::Folder {
        let root = fs::canonicalize(image)?;
        check_root(&root)?;
        return Ok(root);
    }
    files::private_directory(directory)?;
    let (decides, content) = match kind {
        Image::Oci => (image.join("index.json"), "index"),
        Image::Folder | Image::Tarball => (image.to_owned(), "tar"),
    };
    // Reading a whole image takes seconds: what was read before is known by its looks.
    let meta = fs::metadata(&decides)?;
    let looks = format!(
        "{}\n{:?}",
        decides.display(),
        (
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ino(),
            meta.dev()
        )
    );
    let known = directory.join(format!("known-{:016x}", fingerprint(looks.as_bytes())));
    let name = match fs::read_to_string(&known) {
        Ok(name) => name,
        Err(_) => {
            let name = format!("{content}-{}", digest(File::open(&decides)?)?);
            files::replace(&known, name.as_bytes(), 0o600)?;
            name
        }
    };
    let root = directory.join(&name).join("root");
    if root.is_dir() {
        return Ok(root);
    }
    let trash = directory.join(".trash");
    let aside = directory.join(files::unique());
    files::private_directory(&aside)?;
    let unpacked = (|| {
        let at = aside.join("root");
        fs::create_dir(&at)?;
        let mut into = Unpack::new(&at)?;
        match kind {
            Image::Oci => oci::unpack(image, &mut into)?,
            Image::Folder | Image::Tarball => {
                into.layer(decompressed(File::open(image)?)?, false)?
            }
        }
        into.finish()?;
        check_root(&at)?;
        rustix::fs::syncfs(files::open_directory(&at)?)?;
        fs::rename(&aside, directory.join(&name))
    })();
    match unpacked {
        Ok(()) => {}
        // Another server of the data directory was faster with the same content.
        Err(_) if root.is_dir() => drop(files::discard(&aside, &trash)?),
        Err(error) => {
            // The first error is the one to tell.
            let _ = files::discard(&aside, &trash);
            let _ = files::empty(&trash);
            return Err(error);
        }
    }
    files::empty(&trash)?;
    tracing::info!(image = %image.display(), name, "unpacked an image");
    Ok(root)
}

/// A path of a system's root on which there is no link, or nothing.
pub(super) fn plain(root: &Path, below: &str) -> Option<PathBuf> {
    // The host's own links are the host's own.
    if root == Path::new("/") {
        return Some(root.join(below)).filter(|path| path.exists());
    }
    let mut path = root.to_owned();
    for part in Path::new(below).components() {
        let Component::Normal(part) = part else {
            return None;
        };
        path.push(part);
        if fs::symlink_metadata(&path).ok()?.is_symlink() {
            return None;
        }
    }
    Some(path)
}

/// The `/opt` of an image, which is part of it; the host's is its operator's.
pub(super) fn opt(root: &Path) -> Option<PathBuf> {
    let opt = plain(root, "opt").filter(|_| root != Path::new("/"))?;
    opt.is_dir().then_some(opt)
}

/// Whether what the host itself looks into is there and leads nowhere else.
fn check_root(root: &Path) -> io::Result<()> {
    match ["usr", "etc"]
        .into_iter()
        .find(|name| plain(root, name).is_none_or(|path| !path.is_dir()))
    {
        None => Ok(()),
        Some(name) => Err(bad(&format!("the image has no folder /{name}"))),
    }
}

/// The bytes of a tar, whatever it is compressed with.
fn decompressed(mut file: File) -> io::Result<Box<dyn Read>> {
    let mut magic = [0; 4];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    let file = BufReader::new(file);
    if magic[..read].starts_with(&GZIP) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)))
    } else if magic[..read] == ZSTD {
        Ok(Box::new(zstd::Decoder::with_buffer(file)?))
    } else {
        Ok(Box::new(file))
    }
}

/// The SHA-256 of what is read, in hex.
fn digest(mut from: impl Read) -> io::Result<String> {
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 256 << 10]);
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    let digest = context.finish();
    Ok(digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
