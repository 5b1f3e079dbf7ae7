//! What holds wherever blobs are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::TryStreamExt;
use manyhands_blobs::{Blobs, Error, Stored, fresh};
use tokio::io::{AsyncRead, ReadBuf};

/// Sizes around the edges of blocks and parts.
const SIZES: [usize; 9] = [
    0,
    1,
    1000,
    (256 << 10) - 1,
    256 << 10,
    (256 << 10) + 1,
    1 << 20,
    (1 << 20) + 77,
    (9 << 20) + 5,
];

/// Bytes of which no two blocks are alike.
pub(crate) fn content(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut all = Vec::with_capacity(size + 8);
    while all.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(size);
    all
}

pub(crate) async fn put(blobs: &Blobs, name: &str, content: &[u8]) -> Stored {
    let stored = blobs.put(name, content, content.len() as u64).await;
    stored.expect("stored")
}

/// A reader that breaks off.
struct Broken(&'static [u8]);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::Error::other("the cable was cut")));
        }
        buffer.put_slice(std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

/// All of the contract.
pub(crate) async fn holds(blobs: &Blobs) {
    for size in SIZES {
        let (name, content) = (fresh("files"), content(size));
        let stored = put(blobs, &name, &content).await;
        assert_eq!(stored.size, size as u64);
        let whole = blobs.read(&name, &stored, stored.size).await;
        assert_eq!(whole.expect("read"), content, "{size}");
        let reader = blobs.get(&name, &stored).await.expect("there");
        let pieces: Vec<_> = reader.into_stream().try_collect().await.expect("read");
        assert_eq!(pieces.concat(), content, "{size}");
        blobs.delete(&name).await.expect("removed");
    }

    let name = fresh("files");
    let stored = put(blobs, &name, b"abc").await;
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(stored.sha256, digest);
    let other = Stored {
        sha256: "00".repeat(32),
        ..stored.clone()
    };
    let longer = Stored {
        size: 4,
        ..stored.clone()
    };
    for wrong in [other, longer] {
        let read = blobs.read(&name, &wrong, 100).await;
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
    }
    let capped = blobs.read(&name, &stored, 2).await;
    assert_eq!(capped, Err(Error::TooLarge { cap: 2 }));

    let listed = |kind: &'static str| async move {
        let listed: Vec<_> = blobs.list(kind).try_collect().await.expect("listed");
        listed
            .into_iter()
            .map(|listed| listed.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("files").await, std::slice::from_ref(&name));
    assert!(listed("checkpoints").await.is_empty());

    for size in [100, 2 << 20, 20 << 20] {
        let name = fresh("files");
        let over = blobs
            .put(&name, content(size).as_slice(), size as u64 - 1)
            .await;
        assert_eq!(
            over,
            Err(Error::TooLarge {
                cap: size as u64 - 1
            })
        );
        assert_eq!(
            blobs.get(&name, &stored).await.err(),
            Some(Error::Missing { name: name.clone() }),
            "an upload that failed is not there"
        );
    }
    let broken = blobs.put(&fresh("files"), Broken(b"some"), 100).await;
    assert!(matches!(broken, Err(Error::Source { .. })), "{broken:?}");
    let mut abandoned = blobs.create(&fresh("files"), 100 << 20).expect("begun");
    abandoned.write(&content(20 << 20)).await.expect("written");
    assert_eq!(abandoned.size(), 20 << 20);
    drop(abandoned);
    assert_eq!(listed("files").await, std::slice::from_ref(&name));

    blobs.delete(&name).await.expect("removed");
    blobs.delete(&name).await.expect("removing twice is fine");
    let gone = blobs.get(&name, &stored).await.err();
    assert_eq!(gone, Some(Error::Missing { name }));
    assert!(listed("files").await.is_empty());
    let outside = blobs.get("../etc/passwd", &stored).await.err();
    assert!(
        matches!(outside, Some(Error::Invalid { .. })),
        "{outside:?}"
    );
}

/// security STORE-3, INP-4
#[tokio::test]
async fn store_3_a_folder_holds_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    holds(&Blobs::folder(&folder.path().join("deep/blobs")).expect("opened")).await;
}

/// security STORE-3, INP-4
#[tokio::test]
async fn store_3_memory_holds_the_contract() {
    holds(&Blobs::memory()).await;
}
