//! What a disk and a killed process do to blobs in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyhands_blobs::{Blobs, Error, fresh};
use manyhands_testkit::disk;

use crate::contract::{content, put};

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// Everything given away before an error, and the error.
async fn read(blobs: &Blobs, name: &str, stored: &manyhands_blobs::Stored) -> (Vec<u8>, Error) {
    let mut given = Vec::new();
    let mut reader = match blobs.get(name, stored).await {
        Ok(reader) => reader,
        Err(error) => return (given, error),
    };
    loop {
        match reader.next().await {
            Ok(Some(piece)) => given.extend_from_slice(&piece),
            Ok(None) => panic!("damage was served as whole"),
            Err(error) => return (given, error),
        }
    }
}

/// Every single changed byte of a small blob is found before any byte is given away; in a large one, all that is given
/// away is as it was written.
#[tokio::test]
async fn store_3_no_damaged_byte_is_given_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::folder(folder.path()).expect("opened");
    for (size, step) in [(40, 1), ((1 << 20) + 9, 70_001)] {
        let (name, content) = (fresh("files"), content(size));
        let stored = put(&blobs, &name, &content).await;
        let whole = fs::read(file(folder.path(), &name)).expect("its file");
        for at in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(file(folder.path(), &name), &damaged).expect("written");
            let (given, error) = read(&blobs, &name, &stored).await;
            assert!(matches!(error, Error::Damaged { .. }), "{at}: {error:?}");
            assert!(content.starts_with(&given), "byte {at}");
            assert!(size > 1000 || given.is_empty(), "byte {at}");
        }
        let cut = &whole[..whole.len() - 1];
        fs::write(file(folder.path(), &name), cut).expect("written");
        let (given, error) = read(&blobs, &name, &stored).await;
        assert!(given.is_empty() && matches!(error, Error::Damaged { .. }));
    }
}

/// Two blobs of one size, exchanged.
#[tokio::test]
async fn store_3_a_blob_in_anothers_place_is_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::folder(folder.path()).expect("opened");
    let (one, other) = (fresh("files"), fresh("files"));
    let stored = put(&blobs, &one, b"one").await;
    put(&blobs, &other, b"two").await;
    fs::rename(file(folder.path(), &other), file(folder.path(), &one)).expect("moved");
    let (given, error) = read(&blobs, &one, &stored).await;
    assert!(given.is_empty() && matches!(error, Error::Damaged { .. }));
}

/// A process that is killed leaves what it wrote aside: it is in no list, and swept when it is old enough.
#[tokio::test]
async fn log_3_what_a_killed_upload_leaves_is_swept() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::folder(folder.path()).expect("opened");
    let name = fresh("files");
    let mut killed = blobs.create(&name, 100 << 20).expect("begun");
    killed.write(&content(3 << 20)).await.expect("written");
    // Nobody cleans up after a kill -9.
    std::mem::forget(killed);
    let kept = fresh("files");
    let stored = put(&blobs, &kept, b"kept").await;

    assert_eq!(
        blobs.sweep(Duration::from_secs(60)).await,
        Ok(0),
        "it may be going on"
    );
    assert_eq!(blobs.sweep(Duration::ZERO).await, Ok(1));
    assert_eq!(blobs.sweep(Duration::ZERO).await, Ok(0));
    let whole = blobs.read(&kept, &stored, 10).await;
    assert_eq!(whole.expect("untouched"), b"kept"[..]);
}

/// On a disk that is nearly full nothing is begun, what is stored can be read and removed, and then there is room again.
#[test]
fn store_4_a_full_disk_is_said_and_heals() {
    let Some(disk) = disk::small("folder::store_4_a_full_disk_is_said_and_heals", 48) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let blobs = Blobs::folder(&disk.join("blobs")).expect("opened");
        let first = fresh("files");
        let stored = put(&blobs, &first, &content(10 << 20)).await;
        let large = content(20 << 20);
        let over = blobs.put(&fresh("files"), large.as_slice(), 20 << 20).await;
        assert!(matches!(over, Err(Error::NoSpace { .. })), "{over:?}");
        assert!(blobs.read(&first, &stored, 10 << 20).await.is_ok());
        blobs.delete(&first).await.expect("removed");
        put(&blobs, &fresh("files"), &content(10 << 20)).await;
    });
}
