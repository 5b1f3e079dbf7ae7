//! What a sandbox has written comes back elsewhere, later and after a loss (runtime EN-17 to EN-19).

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use manyhands_blobs::Blobs;
use manyhands_hands::provider::checkpoint::Unsaved;
use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::provider::{Checkpoint, Checkpoints, Origin};
use manyhands_hands::{Provider, Recipe, Sandbox};

use crate::host::{Host, PATIENCE, text};

pub(crate) const SESSION: &str = "sesn_a";

fn host_with(blobs: &Blobs) -> Host {
    Host::with(|config| config.blobs = Some(blobs.clone()))
}

/// The next server of a host's data directory.
fn next_of(host: &Host, change: impl FnOnce(&mut Config)) -> Namespace {
    let mut config = Config::new(host.data.path());
    change(&mut config);
    Namespace::new(config)
}

pub(crate) fn recipe(epoch: i64, checkpoint: Option<&Checkpoint>) -> Recipe {
    Recipe {
        checkpoint: checkpoint.cloned(),
        ..Recipe::new(SESSION, epoch)
    }
}

/// The session's sandbox for the owner of this epoch, going on with this checkpoint.
pub(crate) async fn start(
    provider: &impl Provider,
    epoch: i64,
    checkpoint: Option<&Checkpoint>,
) -> Arc<dyn Sandbox> {
    let recipe = recipe(epoch, checkpoint);
    provider.provision(&recipe).await.unwrap()
}

/// Brings the session's sandbox, which is at work, to rest.
pub(crate) async fn rest(provider: &(impl Provider + Checkpoints)) {
    assert!(
        provider.unsaved().await.unwrap().is_empty(),
        "it is not at rest"
    );
    let rested = provider.rested();
    provider.release(SESSION).await.unwrap();
    tokio::time::timeout(PATIENCE, rested)
        .await
        .expect("it came to rest");
}

/// A session that was at `one`, then at `two`, and is at `one` again, whose own sandbox had lived on with older files: now that
/// there goes on with those of the second, of which this is the checkpoint.
pub(crate) async fn overtake(
    one: &impl Provider,
    two: &(impl Provider + Checkpoints),
) -> (Arc<dyn Sandbox>, Checkpoint) {
    let first = start(one, 1, None).await;
    sh(&first, 1, "echo one > f").await;
    let second = start(two, 2, None).await;
    sh(&second, 2, "echo two > f").await;
    two.release(SESSION).await.unwrap();
    let kept = keep(two, 2).await;
    let third = start(one, 3, Some(&kept)).await;
    assert_ne!(third.instance(), first.instance());
    assert_eq!(sh(&third, 3, "cat f").await, "two");
    (third, kept)
}

/// Runs a command as the owner of this epoch.
pub(crate) async fn sh(sandbox: &Arc<dyn Sandbox>, epoch: i64, command: &str) -> String {
    let call = manyhands_hands::Call {
        epoch,
        ..crate::host::call(&format!("{epoch} {command}"), command)
    };
    let output = sandbox.execute(&call).await.unwrap();
    text(&output).to_owned()
}

/// Packs the session's files at rest, and notes that.
pub(crate) async fn keep(provider: &impl Checkpoints, epoch: i64) -> Checkpoint {
    let [unsaved]: [Unsaved; 1] = provider.unsaved().await.unwrap().try_into().unwrap();
    assert_eq!((unsaved.session.as_str(), unsaved.epoch), (SESSION, epoch));
    let blob = manyhands_blobs::fresh("checkpoints");
    let saved = provider
        .save(&unsaved, &blob)
        .await
        .unwrap()
        .expect("it is at rest");
    provider.saved(&unsaved).await.unwrap();
    assert!(provider.unsaved().await.unwrap().is_empty());
    assert!(
        provider.save(&unsaved, &blob).await.unwrap().is_none(),
        "nothing new"
    );
    Checkpoint {
        blob,
        size: saved.size,
        sha256: saved.sha256,
        epoch,
        sandbox_created_at: saved.sandbox_created_at,
    }
}

/// The checkpoint of a session whose sandbox has written this to `f`, and rests.
pub(crate) async fn written(provider: &(impl Provider + Checkpoints), text: &str) -> Checkpoint {
    let sandbox = start(provider, 1, None).await;
    sh(&sandbox, 1, &format!("echo {text} > f")).await;
    provider.release(SESSION).await.unwrap();
    keep(provider, 1).await
}

/// A checkpoint that is another than was written down is not gone on with.
pub(crate) async fn ends_damaged(provider: &impl Provider, kept: &Checkpoint) {
    let damaged = Checkpoint {
        sha256: "0".repeat(64),
        epoch: 9,
        ..kept.clone()
    };
    let fresh = start(provider, 10, Some(&damaged)).await;
    assert_eq!(fresh.origin(), Some(Origin::New { expired: false }));
    assert_eq!(sh(&fresh, 10, "ls /workspace | wc -l").await, "0");
}

/// runtime EN-17, LC-18, security SBX-7, LEASE-1: another host goes on with the files, then the first one again with what the
/// second one has made of them.
#[tokio::test]
async fn en_17_another_host_goes_on_with_the_files() {
    let blobs = Blobs::memory();
    let (one, two) = (host_with(&blobs), host_with(&blobs));
    let first = start(&one.provider, 1, None).await;
    assert_eq!(first.origin(), Some(Origin::New { expired: false }));
    let first = start(&one.provider, 2, None).await;
    assert_eq!(
        first.origin(),
        Some(Origin::New { expired: false }),
        "nobody has used it"
    );
    let make = "mkdir -p ~/.cache; echo kept > ~/.cache/f; echo out > /mnt/session/outputs/o; \
                cd /workspace; echo one > one; ln one two; ln -s one three; chmod 750 one; truncate -s 1G holes; \
                setsid sleep 1000 >/dev/null 2>&1 & echo $BASHPID > /tmp/pid";
    sh(&first, 2, make).await;
    assert_eq!(first.origin(), None, "a call has seen the files");
    rest(&one.provider).await;
    let kept = keep(&one.provider, 2).await;

    let second = start(&two.provider, 3, Some(&kept)).await;
    assert_eq!(second.origin(), Some(Origin::Restored));
    assert_ne!(second.instance(), first.instance());
    let look = "cat ~/.cache/f /mnt/session/outputs/o one two three; stat -c '%u %a %h %s' one holes; \
                echo $(($(stat -c %b holes) < 100)); pgrep -c sleep";
    let seen = sh(&second, 3, look).await;
    assert_eq!(
        seen,
        "kept\nout\none\none\none\n1000 750 2 4\n1000 644 1 1073741824\n1\n0"
    );
    sh(&second, 3, "echo two > one; rm two").await;
    two.provider.release(SESSION).await.unwrap();
    let newer = keep(&two.provider, 3).await;
    assert_eq!(
        newer.sandbox_created_at, kept.sandbox_created_at,
        "it is one sandbox"
    );

    // The first host's own files are older now.
    let third = start(&one.provider, 4, Some(&newer)).await;
    assert_eq!(third.origin(), Some(Origin::Restored));
    assert_eq!(
        sh(&third, 4, "cat one; ls /workspace").await,
        "two\nholes\none\nthree"
    );
    // Its own again, whatever the last checkpoint is.
    sh(&third, 4, "echo three > one").await;
    one.provider.release(SESSION).await.unwrap();
    let fourth = start(&one.provider, 5, Some(&newer)).await;
    assert_eq!(fourth.origin(), Some(Origin::Kept { epoch: 4 }));
    assert_eq!(sh(&fourth, 5, "cat one").await, "three");
    one.provider.destroy(SESSION).await.unwrap();
    two.provider.destroy(SESSION).await.unwrap();
}

/// A sandbox that lives on where its server lost the session to another host is ended before its files are taken for new.
#[tokio::test]
async fn lease_1_a_sandbox_with_older_files_is_not_gone_on_with() {
    let blobs = Blobs::memory();
    let (one, two) = (host_with(&blobs), host_with(&blobs));
    let (third, kept) = overtake(&one.provider, &two.provider).await;

    // Without a newer one nothing better is known than what lives here, and its owner is told how old that is. Looking for
    // it is not using it.
    let found = one
        .provider
        .find(SESSION, 5)
        .await
        .unwrap()
        .expect("it lives");
    assert_eq!(found.origin(), Some(Origin::Kept { epoch: 3 }));
    let fourth = start(&one.provider, 5, Some(&kept)).await;
    assert_eq!(fourth.instance(), third.instance());
    assert_eq!(fourth.origin(), Some(Origin::Kept { epoch: 3 }));
    let newer = Checkpoint { epoch: 4, ..kept };
    let fifth = start(&one.provider, 6, Some(&newer)).await;
    assert_ne!(fifth.instance(), fourth.instance());
    assert_eq!(fifth.origin(), Some(Origin::Restored));
    assert_eq!(sh(&fifth, 6, "cat f").await, "two");
    // What is used by a new owner is as new as the owner, and what was not used yet is as it was started.
    let sixth = start(&one.provider, 7, Some(&newer)).await;
    assert_eq!(sixth.origin(), Some(Origin::Kept { epoch: 6 }));
    sh(&sixth, 7, "true").await;
    one.provider.release(SESSION).await.unwrap();
    assert_eq!(one.provider.unsaved().await.unwrap()[0].epoch, 7);
    one.provider.destroy(SESSION).await.unwrap();
    two.provider.destroy(SESSION).await.unwrap();
}

/// runtime EN-17: what a server that died has left is found by the next one of the data directory.
#[tokio::test]
async fn en_17_the_next_server_packs_what_is_left() {
    let blobs = Blobs::memory();
    let host = host_with(&blobs);
    let sandbox = start(&host.provider, 1, None).await;
    sh(&sandbox, 1, "echo kept > f").await;
    let next = next_of(&host, |config| config.blobs = Some(blobs.clone()));
    let unsaved = next.unsaved().await.unwrap();
    assert_eq!(unsaved.len(), 1, "nobody knows yet whether it is at rest");
    let blob = manyhands_blobs::fresh("checkpoints");
    assert_eq!(
        next.save(&unsaved[0], &blob).await.unwrap(),
        None,
        "it lives"
    );
    host.provider.release(SESSION).await.unwrap();
    let kept = keep(&next, 1).await;
    let elsewhere = host_with(&blobs);
    let restored = start(&elsewhere.provider, 2, Some(&kept)).await;
    assert_eq!(sh(&restored, 2, "cat f").await, "kept");
    elsewhere.provider.destroy(SESSION).await.unwrap();
}

/// runtime EN-17: a call that comes while files are packed gets its sandbox, with all of them.
#[tokio::test]
async fn en_17_a_call_goes_before_packing() {
    let host = host_with(&Blobs::memory());
    let sandbox = start(&host.provider, 1, None).await;
    sh(
        &sandbox,
        1,
        "for i in $(seq 30); do head -c 1000000 /dev/urandom > f$i; done",
    )
    .await;
    host.provider.release(SESSION).await.unwrap();
    let unsaved = host.provider.unsaved().await.unwrap();
    let blob = manyhands_blobs::fresh("checkpoints");
    let (saved, again) = tokio::join!(
        host.provider.save(&unsaved[0], &blob),
        start(&host.provider, 2, None)
    );
    assert_eq!(saved.unwrap(), None, "it gave way");
    assert_eq!(sh(&again, 2, "cat f* | wc -c").await, "30000000");
    host.provider.release(SESSION).await.unwrap();
    keep(&host.provider, 2).await;
    host.provider.destroy(SESSION).await.unwrap();
}

/// runtime EN-18: what is too old is gone for good, on its host and elsewhere.
#[tokio::test]
async fn en_18_files_that_are_too_old_are_not_gone_on_with() {
    let blobs = Blobs::memory();
    let host = host_with(&blobs);
    let kept = written(&host.provider, "old").await;
    let short = |config: &mut Config| {
        config.blobs = Some(blobs.clone());
        config.retention = Duration::ZERO;
    };
    let (here, elsewhere) = (next_of(&host, short), Host::with(short));
    for provider in [&here, &elsewhere.provider] {
        let fresh = provider.provision(&recipe(2, Some(&kept))).await.unwrap();
        assert_eq!(fresh.origin(), Some(Origin::New { expired: true }));
        assert_eq!(sh(&fresh, 2, "ls /workspace | wc -l").await, "0");
        provider.destroy(SESSION).await.unwrap();
    }
}

/// runtime CONFLICT-9, EN-18: the time runs from the making of a sandbox on, however often and wherever it is used.
#[tokio::test]
async fn conflict_9_use_makes_no_sandbox_younger() {
    let blobs = Blobs::memory();
    let host = host_with(&blobs);
    let first = written(&host.provider, "first").await;
    let again = start(&host.provider, 2, Some(&first)).await;
    sh(&again, 2, "echo second > f").await;
    host.provider.release(SESSION).await.unwrap();
    let second = keep(&host.provider, 2).await;
    assert_eq!(second.sandbox_created_at, first.sandbox_created_at);
    let other = host_with(&blobs);
    let elsewhere = start(&other.provider, 3, Some(&second)).await;
    assert_eq!(sh(&elsewhere, 3, "cat f").await, "second");
    sh(&elsewhere, 3, "echo third > f").await;
    other.provider.release(SESSION).await.unwrap();
    let third = keep(&other.provider, 3).await;
    assert_eq!(third.sandbox_created_at, first.sandbox_created_at);
    host.provider.destroy(SESSION).await.unwrap();
    other.provider.destroy(SESSION).await.unwrap();
}

/// runtime EN-19, security TOOL-3, STORE-3: files that are gone come from the checkpoint; what cannot be read is not
/// served, and the session goes on.
#[tokio::test]
async fn en_19_lost_files_come_from_the_checkpoint_or_not_at_all() {
    let blobs = Blobs::memory();
    let host = host_with(&blobs);
    let kept = written(&host.provider, "kept").await;

    // Somebody has removed the folder.
    fs::rename(host.folder(SESSION), host.data.path().join("elsewhere")).unwrap();
    let again = start(&host.provider, 2, Some(&kept)).await;
    assert_eq!(again.origin(), Some(Origin::Restored));
    assert_eq!(sh(&again, 2, "cat f").await, "kept");
    host.provider.release(SESSION).await.unwrap();

    // A disk that is damaged beyond repair, where there are disks.
    let disk = host.folder(SESSION).join("disk");
    if disk.exists() {
        let size = fs::metadata(&disk).unwrap().len();
        let other = disk.with_extension("other");
        fs::write(&other, "nothing of a file system").unwrap();
        fs::File::options()
            .write(true)
            .open(&other)
            .unwrap()
            .set_len(size)
            .unwrap();
        fs::rename(&other, &disk).unwrap();
        let again = start(
            &host.provider,
            3,
            Some(&Checkpoint {
                epoch: 2,
                ..kept.clone()
            }),
        )
        .await;
        assert_eq!(again.origin(), Some(Origin::Restored));
        assert_eq!(sh(&again, 3, "cat f").await, "kept");
        host.provider.release(SESSION).await.unwrap();
    }

    // The checkpoint is another than was written down.
    ends_damaged(&host.provider, &kept).await;
    host.provider.destroy(SESSION).await.unwrap();
}

/// Files that are kept make room when the disk is short; others stay.
#[tokio::test]
async fn en_17_files_that_are_kept_make_room() {
    let host = host_with(&Blobs::memory());
    let sandbox = start(&host.provider, 1, None).await;
    sh(&sandbox, 1, "echo kept > f").await;
    assert_eq!(
        host.provider.shed(u64::MAX).await.unwrap(),
        0,
        "it is alive"
    );
    host.provider.release(SESSION).await.unwrap();
    assert_eq!(
        host.provider.shed(u64::MAX).await.unwrap(),
        0,
        "it is not kept"
    );
    let kept = keep(&host.provider, 1).await;
    assert_eq!(host.provider.shed(0).await.unwrap(), 0, "there is room");
    assert_eq!(host.provider.shed(u64::MAX).await.unwrap(), 1);
    assert!(!host.folder(SESSION).join("writable").exists());
    let again = start(&host.provider, 2, Some(&kept)).await;
    assert_eq!(again.origin(), Some(Origin::Restored));
    assert_eq!(sh(&again, 2, "cat f").await, "kept");
    host.provider.destroy(SESSION).await.unwrap();
}
