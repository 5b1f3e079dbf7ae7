//! Archives of skills: zips from outside are read under caps, and the one that is kept is written anew (security INP-1, INP-3).

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};

use zip::read::{HasZipMetadata as _, ZipArchive};
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use crate::{ARCHIVE, Entry, FILES, File, Problem, TOTAL, path};

/// Entries of an archive: files, and the folders that some programs list beside them.
const ENTRIES: usize = 2 * FILES;
/// How many times its packed size an archive may have unpacked, beside the first [`FREE`] bytes.
const RATIO: usize = 200;
/// Bytes that may be packed as tightly as they can be.
const FREE: usize = 1 << 20;

/// How a zip's last record begins, how long it is without its comment, and where in it the number of entries is.
const END: ([u8; 4], usize, usize) = (*b"PK\x05\x06", 22, 10);
/// The kind of file in a Unix mode.
const KIND: u32 = 0o170_000;

/// Whether these bytes begin as a zip does.
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&END.0)
}

/// The files of a zip that came from outside. Folders are implied by the files in them.
///
/// # Errors
/// [`Problem::TooLarge`] over a cap in bytes, packed or unpacked; [`Problem::Refused`] for what is no plain file or folder
/// with a safe name, for two entries of one name, and for what two readers could understand differently.
pub fn read(bytes: &[u8]) -> Result<Vec<File>, Problem> {
    if bytes.len() > ARCHIVE {
        return Err(Problem::TooLarge);
    }
    let counted =
        entries(bytes).ok_or_else(|| Problem::refused("is not a complete zip archive"))?;
    if counted > ENTRIES {
        return Err(Problem::refused(format!(
            "the archive has {counted} entries; a skill has at most {FILES} files"
        )));
    }
    let broken = |error: zip::result::ZipError| {
        let why: String = error.to_string().chars().take(200).collect();
        Problem::Refused(format!("the archive cannot be read: {why}"))
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.has_duplicate_names() || archive.len() != counted {
        return Err(Problem::refused("the archive has two entries of one name"));
    }
    // The directory at its end and the heads of its files must say the same, and no bytes may serve twice.
    archive.validate_header_consistency().map_err(broken)?;
    if archive.has_overlapping_files().map_err(broken)? {
        return Err(Problem::refused("entries of the archive overlap"));
    }
    let most = TOTAL.min(bytes.len().saturating_mul(RATIO).saturating_add(FREE));
    let mut total = 0;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let kind = entry.unix_mode().map_or(0, |mode| mode & KIND);
        if entry.get_metadata().is_encrypted() {
            return Err(Problem::at(&name, "is encrypted"));
        }
        match (kind, name.strip_suffix('/')) {
            (0 | 0o040_000, Some(folder)) => {
                path::canonical(folder)?;
                continue;
            }
            (0 | 0o100_000, None) => {}
            _ => return Err(Problem::at(&name, "is neither a plain file nor a folder")),
        }
        let mode = entry.unix_mode().filter(|_| kind != 0);
        let left = most - total;
        let mut content = Vec::new();
        let taken = (&mut entry).take(left as u64 + 1).read_to_end(&mut content);
        taken.map_err(|error| broken(error.into()))?;
        if content.len() > left {
            return Err(Problem::TooLarge);
        }
        total += content.len();
        let file = File::plain(name, content.into());
        files.push(match mode {
            Some(mode) => File {
                executable: mode & 0o111 != 0,
                ..file
            },
            None => file,
        });
    }
    Ok(files)
}

/// How many entries the one last record says that ends where the archive ends. Archives of the large kind have none that
/// counts them, and are not read.
fn entries(bytes: &[u8]) -> Option<usize> {
    let (begins, length, at) = END;
    let window = bytes.len().saturating_sub(length + usize::from(u16::MAX));
    let number = |at: usize| {
        let pair = bytes.get(at..at + 2)?;
        Some(usize::from(u16::from_le_bytes([pair[0], pair[1]])))
    };
    let mut found = (window..bytes.len()).filter(|&place| {
        bytes[place..].starts_with(&begins)
            && number(place + length - 2)
                .is_some_and(|comment| place + length + comment == bytes.len())
    });
    let place = found.next()?;
    let is_only = found.next().is_none();
    let large = place >= 20 && bytes[place - 20..].starts_with(b"PK\x06\x07");
    number(place + at).filter(|_| is_only && !large)
}

/// Writes the archive of a skill's folder.
pub(crate) fn write(top: &str, files: &BTreeMap<String, Entry>) -> Result<Vec<u8>, Problem> {
    let failed = |why: &dyn std::fmt::Display| {
        Problem::Refused(format!("the skill's archive cannot be written: {why}"))
    };
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, Entry { bytes, executable }) in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            // Equal folders have equal archives, whenever they are made.
            .last_modified_time(DateTime::default())
            .unix_permissions(if *executable { 0o755 } else { 0o644 });
        archive
            .start_file(format!("{top}/{path}"), options)
            .map_err(|error| failed(&error))?;
        archive.write_all(bytes).map_err(|error| failed(&error))?;
    }
    Ok(archive
        .finish()
        .map_err(|error| failed(&error))?
        .into_inner())
}

#[cfg(test)]
mod tests;
