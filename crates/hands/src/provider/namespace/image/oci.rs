//! The OCI layout: an index names a manifest, that names layers, and each is a file named after its digest.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

use serde::Deserialize;

use super::unpack::Unpack;
use super::{bad, decompressed, digest};

/// The most that an index or a manifest takes.
const DOCUMENT: u64 = 4 << 20;

/// How deep indexes may lie in each other.
const DEPTH: u32 = 4;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Unpacks the image for this machine's architecture, layer by layer.
pub(super) fn unpack(layout: &Path, into: &mut Unpack) -> io::Result<()> {
    let mut document = read(File::open(layout.join("index.json"))?)?;
    for _ in 0..DEPTH {
        if !document.layers.is_empty() {
            for layer in &document.layers {
                into.layer(decompressed(blob(layout, layer)?)?, true)?;
            }
            return Ok(());
        }
        let fits = |descriptor: &&Descriptor| {
            descriptor.platform.as_ref().is_none_or(|platform| {
                platform.os == "linux" && platform.architecture == architecture()
            })
        };
        let next = document.manifests.iter().find(fits);
        let next = next.ok_or_else(|| bad("the layout has no image for this machine"))?;
        document = read(blob(layout, next)?)?;
    }
    Err(bad("the layout's indexes lie too deep in each other"))
}

/// The name that images have for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn read(file: File) -> io::Result<Document> {
    let mut text = Vec::new();
    file.take(DOCUMENT).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// A blob whose content is what its name says.
fn blob(layout: &Path, descriptor: &Descriptor) -> io::Result<File> {
    let hex = descriptor.digest.strip_prefix("sha256:");
    let is_hex = |hex: &&str| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = hex
        .filter(is_hex)
        .ok_or_else(|| bad("the layout names a blob by no SHA-256"))?;
    let mut file = File::open(layout.join("blobs/sha256").join(hex))?;
    if digest(&file)? != hex {
        return Err(bad("a blob of the layout is damaged"));
    }
    file.rewind()?;
    Ok(file)
}
