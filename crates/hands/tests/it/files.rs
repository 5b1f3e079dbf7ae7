//! Files that go into a sandbox and come out of it.

use std::os::unix::fs::symlink;
use std::path::Path;

use manyhands_blobs::{Blobs, fresh};
use manyhands_hands::provider::{Capture, Captured, Seen, Upload};
use manyhands_hands::{Output, Provider, Recipe};

use crate::host::{Host, run, text};

/// A host whose provider has blobs.
fn host() -> (Host, Blobs) {
    let blobs = Blobs::memory();
    let shared = blobs.clone();
    (Host::with(|config| config.blobs = Some(shared)), blobs)
}

pub(crate) async fn upload(blobs: &Blobs, path: &str, content: &[u8]) -> Upload {
    let blob = fresh("files");
    let stored = blobs.put(&blob, content, content.len() as u64).await;
    let stored = stored.expect("stored");
    Upload {
        path: path.to_owned(),
        blob,
        size: stored.size,
        sha256: stored.sha256,
    }
}

pub(crate) fn recipe(session: &str, uploads: &[Upload]) -> Recipe {
    Recipe {
        uploads: uploads.to_vec(),
        ..Recipe::new(session, 1)
    }
}

/// runtime FI-1, FI-2, EN-16: there before the first call, at the path asked for, and nobody inside can change it.
#[tokio::test]
async fn fi_2_uploads_are_there_and_read_only() {
    let (host, blobs) = host();
    let large = vec![7; (2 << 20) + 3];
    let uploads = [
        upload(&blobs, "data.csv", b"a,b\n").await,
        upload(&blobs, "deep/er/file", &large).await,
    ];
    let sandbox = host.provider.provision(&recipe("sesn_a", &uploads)).await;
    let sandbox = sandbox.expect("a sandbox");
    let read = run(
        &sandbox,
        "cd /mnt/session/uploads; cat data.csv; stat -c %s deep/er/file",
    )
    .await;
    assert_eq!(text(&read), format!("a,b\n{}", large.len()));
    for attempt in [
        "echo x >> /mnt/session/uploads/data.csv",
        "echo x > /mnt/session/uploads/new",
        "rm -f /mnt/session/uploads/data.csv",
        "chmod u+w /mnt/session/uploads/data.csv",
        "mv /mnt/session/uploads /mnt/session/other",
        "ln -s /etc /mnt/session/uploads/link",
    ] {
        let output = run(&sandbox, &format!("{attempt} 2>&1 && echo DONE; true")).await;
        assert!(!text(&output).contains("DONE"), "{attempt}: {output:?}");
    }
    let again = run(&sandbox, "cat /mnt/session/uploads/data.csv").await;
    assert_eq!(again, Output::text("a,b"));
}

/// runtime FI-4: in a live sandbox, in one that rests, and in one that another server starts.
#[tokio::test]
async fn fi_4_files_come_and_go_while_a_sandbox_lives_and_while_it_rests() {
    let (host, blobs) = host();
    let (one, two) = (
        upload(&blobs, "one", b"1").await,
        upload(&blobs, "d/two", b"22").await,
    );
    let list = "cd /mnt/session/uploads && find . -mindepth 1 | sort | xargs echo";
    host.provider
        .lay("sesn_a", std::slice::from_ref(&one))
        .await
        .expect("nothing is there yet");
    assert!(!host.folder("sesn_a").exists(), "the first start lays them");

    let sandbox = host
        .provider
        .provision(&recipe("sesn_a", std::slice::from_ref(&one)))
        .await;
    let sandbox = sandbox.expect("a sandbox");
    assert_eq!(text(&run(&sandbox, list).await), "./one");
    host.provider
        .lay("sesn_a", &[one.clone(), two.clone()])
        .await
        .expect("laid");
    assert_eq!(text(&run(&sandbox, list).await), "./d ./d/two ./one");
    host.provider
        .lay("sesn_a", std::slice::from_ref(&two))
        .await
        .expect("laid");
    assert_eq!(text(&run(&sandbox, list).await), "./d ./d/two");

    host.provider.release("sesn_a").await.expect("released");
    host.provider
        .lay("sesn_a", std::slice::from_ref(&one))
        .await
        .expect("laid");
    let next = host
        .provider
        .provision(&recipe("sesn_a", std::slice::from_ref(&one)))
        .await;
    let next = next.expect("a sandbox");
    assert_eq!(text(&run(&next, list).await), "./one");
    // A recipe that has changed since is as good as a call.
    let same = host
        .provider
        .provision(&recipe("sesn_a", &[two]))
        .await
        .expect("the same");
    assert_eq!(same.instance(), next.instance());
    assert_eq!(text(&run(&next, list).await), "./d ./d/two");
    let none = host
        .provider
        .provision(&recipe("sesn_a", &[]))
        .await
        .expect("the same");
    assert_eq!(
        text(&run(&none, &format!("{list}; echo none")).await),
        "\nnone"
    );
}

/// A file whose bytes are damaged is not shown as if it were whole; the others are.
#[tokio::test]
async fn store_3_a_damaged_file_is_left_out() {
    let (host, blobs) = host();
    let whole = upload(&blobs, "whole", b"fine").await;
    let damaged = Upload {
        path: "damaged".to_owned(),
        sha256: "00".repeat(32),
        ..whole.clone()
    };
    let missing = Upload {
        path: "missing".to_owned(),
        blob: fresh("files"),
        ..whole.clone()
    };
    let uploads = [damaged, missing, whole];
    let sandbox = host.provider.provision(&recipe("sesn_a", &uploads)).await;
    let sandbox = sandbox.expect("a sandbox");
    assert_eq!(
        run(&sandbox, "ls /mnt/session/uploads").await,
        Output::text("whole")
    );
}

async fn capture(host: &Host, seen: &[Seen]) -> Capture {
    let captured = host.provider.capture("sesn_a", seen).await;
    captured.expect("captured")
}

fn paths(capture: &Capture) -> Vec<&str> {
    capture
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}

fn seen(captured: &Captured) -> Seen {
    Seen {
        path: captured.path.clone(),
        stamp: captured.stamp.clone(),
        sha256: captured.sha256.clone(),
    }
}

/// runtime FI-5: what is new or changed, whole, also when the processes have ended.
#[tokio::test]
async fn fi_5_new_and_changed_outputs_are_captured() {
    let (host, blobs) = host();
    assert_eq!(
        capture(&host, &[]).await,
        Capture::default(),
        "nothing is there"
    );
    let sandbox = host.sandbox("sesn_a").await;
    run(&sandbox, "cd /mnt/session/outputs; echo hello > a.txt; mkdir -p d; head -c 3000000 /dev/urandom > d/b; : > empty").await;
    let sum = run(&sandbox, "sha256sum /mnt/session/outputs/d/b").await;
    host.provider.release("sesn_a").await.expect("released");
    let first = capture(&host, &[]).await;
    assert_eq!(paths(&first), ["a.txt", "d/b", "empty"]);
    assert!(!first.unsteady && first.same.is_empty());
    assert!(text(&sum).starts_with(&first.files[1].sha256));
    let large = &first.files[1];
    let stored = manyhands_blobs::Stored {
        size: large.size,
        sha256: large.sha256.clone(),
    };
    let read = blobs.read(&large.blob, &stored, 4 << 20).await;
    assert_eq!(read.expect("whole").len(), 3_000_000);

    let known: Vec<Seen> = first.files.iter().map(seen).collect();
    assert_eq!(capture(&host, &known).await, Capture::default());
    let sandbox = host.sandbox("sesn_a").await;
    run(
        &sandbox,
        "cd /mnt/session/outputs; echo again > a.txt; touch d/b; rm empty; echo new > c",
    )
    .await;
    let second = capture(&host, &known).await;
    assert_eq!(paths(&second), ["a.txt", "c"]);
    let same: Vec<&str> = second.same.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(same, ["d/b"], "it was touched and not changed");
}

/// security SBX-4: whatever a sandbox leaves there, only its own regular files come out.
#[tokio::test]
async fn sbx_4_a_capture_follows_no_link_and_opens_no_pipe() {
    let (host, _) = host();
    let secret = host.data.path().join("secret");
    std::fs::write(&secret, "the server's").expect("written");
    let sandbox = host.sandbox("sesn_a").await;
    let mess = format!(
        "cd /mnt/session/outputs; ln -s {0} link; ln -s {1} folder; mkfifo pipe; ln -s /etc/passwd passwd; \
         ln -s ../../../../../../secret up; ln -s . loop; mkdir closed; echo x > closed/file; chmod 0 closed; \
         echo fine > file; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; \
         printf x > $'new\\nline'; printf y > $'\\xff'",
        secret.display(),
        host.data.path().display(),
    );
    run(&sandbox, &mess).await;
    let captured = capture(&host, &[]).await;
    let mut found = paths(&captured);
    // Root is let in where the sandbox's own user has shut itself out.
    found.retain(|path| *path != "closed/file");
    assert_eq!(found, ["%FF", "file", "new%0Aline"]);
}

/// The same while links and files change places all the time.
#[tokio::test]
async fn sbx_4_a_race_of_links_lets_nothing_of_the_host_out() {
    let (host, blobs) = host();
    let secret = host.data.path().join("secret");
    std::fs::write(&secret, "the server's").expect("written");
    let sandbox = host.sandbox("sesn_a").await;
    let swap = format!(
        "cd /mnt/session/outputs; echo mine > file; ln -s {} link; \
         (while :; do mv -T link x; mv -T file link; mv -T x file; done) >/dev/null 2>&1 & echo started",
        secret.display()
    );
    assert_eq!(run(&sandbox, &swap).await, Output::text("started"));
    for _ in 0..50 {
        for file in capture(&host, &[]).await.files {
            let stored = manyhands_blobs::Stored {
                size: file.size,
                sha256: file.sha256,
            };
            let read = blobs.read(&file.blob, &stored, 100).await.expect("whole");
            assert_eq!(read, b"mine\n"[..], "{}", file.path);
        }
    }
    let tree = host
        .provider
        .writable("sesn_a")
        .await
        .expect("there")
        .expect("files");
    symlink_is_refused(&tree);
}

/// The handle itself: a link that the test has put there.
fn symlink_is_refused(tree: &manyhands_hands::provider::namespace::Tree) {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let root = format!("/proc/self/fd/{}", tree.as_fd().as_raw_fd());
    symlink("/etc/passwd", Path::new(&root).join("outputs/passwd")).expect("a link");
    assert!(tree.open_file(Path::new("outputs/passwd")).is_err());
}

/// Too many, too deep and too long names are left out; the others come.
#[tokio::test]
async fn fi_5_a_capture_has_bounds() {
    let (host, _) = host();
    let sandbox = host.sandbox("sesn_a").await;
    run(
        &sandbox,
        "cd /mnt/session/outputs; for i in $(seq 1100); do : > f$i; done",
    )
    .await;
    assert_eq!(capture(&host, &[]).await.files.len(), 1000);
    run(
        &sandbox,
        "cd /mnt/session/outputs; rm f*; truncate -s 501M huge; truncate -s 20M large",
    )
    .await;
    let captured = capture(&host, &[]).await;
    assert_eq!(paths(&captured), ["large"]);
    assert_eq!(captured.files[0].size, 20 << 20);
}
