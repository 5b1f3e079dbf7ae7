//! Files that go into a container and come out of it.

use manyhands_blobs::{Blobs, Stored};
use manyhands_hands::Provider;
use manyhands_hands::provider::{Capture, Seen, Upload};

use crate::containers::Containers;
use crate::files::{recipe, upload};
use crate::host::{run, text};

/// A host whose provider has blobs.
fn with_blobs() -> (Containers, Blobs) {
    let blobs = Blobs::memory();
    let shared = blobs.clone();
    (
        Containers::with(|config| config.blobs = Some(shared)),
        blobs,
    )
}

/// runtime FI-1, FI-2, FI-4: files are there before the first call and read-only, and come and go while a sandbox lives and
/// while it rests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fi_4_files_come_and_go_in_a_container_and_nobody_inside_changes_them() {
    let (host, blobs) = with_blobs();
    let large = vec![7; (2 << 20) + 3];
    let (one, two) = (
        upload(&blobs, "one", b"1").await,
        upload(&blobs, "d/two", &large).await,
    );
    let list = "cd /mnt/session/uploads && find . -type f -printf '%P %s ' | tr ' ' '\\n' | sort | xargs echo";
    host.provider
        .lay("sesn_a", std::slice::from_ref(&one))
        .await
        .unwrap();
    let sandbox = host
        .provider
        .provision(&recipe("sesn_a", &[one.clone(), two.clone()]))
        .await
        .unwrap();
    assert_eq!(
        text(&run(&sandbox, list).await),
        format!("1 {} d/two one", large.len())
    );
    let tried = "for c in 'echo x >> one' 'echo x > new' 'rm -f one' 'chmod u+w one' 'ln -s /etc link' 'mv d e'; do \
                 (cd /mnt/session/uploads; eval $c) 2>/dev/null && echo $c; done";
    assert_eq!(text(&run(&sandbox, tried).await), "(no output)");
    host.provider
        .lay("sesn_a", std::slice::from_ref(&two))
        .await
        .unwrap();
    assert_eq!(
        text(&run(&sandbox, list).await),
        format!("{} d/two", large.len())
    );
    host.provider.release("sesn_a").await.unwrap();
    host.provider.lay("sesn_a", &[]).await.unwrap();
    let again = host
        .provider
        .provision(&recipe("sesn_a", std::slice::from_ref(&one)))
        .await
        .unwrap();
    assert_eq!(text(&run(&again, list).await), "1 one");
    // One whose bytes are not what they were is left out, and the rest is there (security STORE-3).
    let damaged = Upload {
        sha256: "0".repeat(64),
        ..two
    };
    host.provider.lay("sesn_a", &[one, damaged]).await.unwrap();
    assert_eq!(text(&run(&again, list).await), "1 one");
}

/// runtime FI-5, FI-6, security SBX-4: regular files are handed over, once, from a live container and from one at rest; no
/// link is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fi_5_outputs_leave_a_container_and_no_link_is_followed() {
    let (host, blobs) = with_blobs();
    assert_eq!(
        host.provider.capture("sesn_a", &[]).await.unwrap(),
        Capture::default()
    );
    let sandbox = host.sandbox("sesn_a").await;
    let made = "cd /mnt/session/outputs; mkdir d; echo report > d/report.txt; ln -s /etc/passwd link; ln -s /etc folder; \
                mkfifo pipe; head -c 300000 /dev/zero > big; echo x > $'a\\nb'";
    run(&sandbox, made).await;
    let capture = host.provider.capture("sesn_a", &[]).await.unwrap();
    let paths: Vec<_> = capture
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.size))
        .collect();
    assert_eq!(paths, [("a%0Ab", 2), ("big", 300_000), ("d/report.txt", 7)]);
    assert!(!capture.unsteady && capture.same.is_empty());
    let report = &capture.files[2];
    let stored = Stored {
        size: report.size,
        sha256: report.sha256.clone(),
    };
    assert_eq!(
        &blobs.read(&report.blob, &stored, 100).await.unwrap()[..],
        b"report\n"
    );
    let seen: Vec<Seen> = capture
        .files
        .iter()
        .map(|file| Seen {
            path: file.path.clone(),
            stamp: file.stamp.clone(),
            sha256: file.sha256.clone(),
        })
        .collect();
    assert_eq!(
        host.provider.capture("sesn_a", &seen).await.unwrap(),
        Capture::default()
    );
    run(
        &sandbox,
        "cd /mnt/session/outputs; touch d/report.txt; echo more >> big",
    )
    .await;
    host.provider.release("sesn_a").await.unwrap();
    let changed = host.provider.capture("sesn_a", &seen).await.unwrap();
    let paths = |files: &[manyhands_hands::provider::Captured]| -> Vec<_> {
        files.iter().map(|file| file.path.clone()).collect()
    };
    assert_eq!(paths(&changed.files), ["big"]);
    assert_eq!(changed.same.len(), 1, "{changed:?}");
    assert!(host.has_stopped(), "it rests as before");
}
