//! What a container has written: bounded, and coming back elsewhere, later and after a loss (runtime EN-17 to EN-19), whichever
//! provider goes on with it.

use std::time::Duration;

use manyhands_blobs::Blobs;
use manyhands_hands::provider::container::Config;
use manyhands_hands::provider::{Checkpoint, Checkpoints, Holds, Origin};
use manyhands_hands::{Provider, Recipe};

use crate::checkpoint::{SESSION, ends_damaged, keep, overtake, rest, sh, start, written};
use crate::containers::Containers;
use crate::host::{Host, run, text};

fn containers(blobs: &Blobs) -> Containers {
    Containers::with(|config| config.blobs = Some(blobs.clone()))
}

/// An engine that does not see this server's folders.
fn apart(blobs: &Blobs) -> Containers {
    Containers::with(|config| {
        config.blobs = Some(blobs.clone());
        config.shared_folders = false;
    })
}

/// Makes files of all kinds.
const MAKE: &str = "mkdir -p ~/.cache closed; echo kept > ~/.cache/f; echo out > /mnt/session/outputs/o; echo t > /tmp/t; \
    echo one > one; ln one two; ln -s one three; chmod 750 one; truncate -s 1G holes; echo x > closed/x; \
    chmod 000 closed/x closed; head -c 3000000 /dev/urandom > large; sha256sum large > sum; mkfifo pipe; \
    touch -d '2001-02-03 04:05:06.789' one; setsid sleep 1000 >/dev/null 2>&1 & true";

/// Looks at them.
const LOOK: &str = "cat ~/.cache/f /mnt/session/outputs/o /tmp/t one two three; stat -c '%u %a %h %s' one holes; \
    stat -c '%a %F' closed pipe; stat -c %.3Y one; echo $(($(stat -c %b holes) < 100)); sha256sum -c sum; pgrep -c sleep; \
    chmod 700 closed; stat -c %a closed/x; chmod 600 closed/x; cat closed/x; chmod 000 closed/x closed; stat -c %a /tmp";

const SEEN: &str = "kept\nout\nt\none\none\none\n1000 750 2 4\n1000 644 1 1073741824\n0 directory\n644 fifo\n981173106.789\n1\n\
    large: OK\n0\n0\nx\n1777";

/// runtime EN-17, security SBX-7: a session goes on in a container, in name spaces, and in a container again, on an engine that
/// shares nothing with this server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_17_either_provider_goes_on_with_the_files_of_the_other() {
    let blobs = Blobs::memory();
    let (one, two) = (containers(&blobs), apart(&blobs));
    let between = Host::with(|config| config.blobs = Some(blobs.clone()));
    let first = start(&one.provider, 1, None).await;
    assert_eq!(first.origin(), Some(Origin::New { expired: false }));
    sh(&first, 1, MAKE).await;
    assert_eq!(first.origin(), None, "a call has seen the files");
    assert_eq!(sh(&first, 1, "date +%z >/dev/null; cat one").await, "one");
    rest(&one.provider).await;
    let kept = keep(&one.provider, 1).await;
    assert!(one.has_stopped(), "it rests as before");

    let second = start(&between.provider, 2, Some(&kept)).await;
    assert_eq!(second.origin(), Some(Origin::Restored));
    assert_eq!(sh(&second, 2, LOOK).await, SEEN);
    sh(&second, 2, "touch here").await;
    between.provider.release(SESSION).await.unwrap();
    let newer = keep(&between.provider, 2).await;
    assert_eq!(newer.sandbox_created_at, kept.sandbox_created_at);

    let third = start(&two.provider, 3, Some(&newer)).await;
    assert_eq!(third.origin(), Some(Origin::Restored));
    assert_eq!(sh(&third, 3, LOOK).await, SEEN);
    sh(&third, 3, "ls here; echo two > one").await;
    two.provider.release(SESSION).await.unwrap();
    let newest = keep(&two.provider, 3).await;

    // The first one's own files are older now, and later its own again, whatever the last checkpoint is.
    let fourth = start(&one.provider, 4, Some(&newest)).await;
    assert_eq!(fourth.origin(), Some(Origin::Restored));
    assert_eq!(sh(&fourth, 4, "cat one; ls here").await, "two\nhere");
    sh(&fourth, 4, "echo three > one").await;
    one.provider.release(SESSION).await.unwrap();
    let fifth = start(&one.provider, 5, Some(&newest)).await;
    assert_eq!(fifth.origin(), Some(Origin::Kept { epoch: 4 }));
    assert_eq!(sh(&fifth, 5, "cat one").await, "three");
}

/// security LEASE-1: a container that lives on where its server lost the session is ended before its files are taken for new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_1_a_container_with_older_files_is_not_gone_on_with() {
    let blobs = Blobs::memory();
    let (one, two) = (containers(&blobs), containers(&blobs));
    overtake(&one.provider, &two.provider).await;
    let found = one.provider.find(SESSION, 5).await.unwrap();
    let found = found.expect("it lives");
    assert_eq!(found.origin(), Some(Origin::Kept { epoch: 3 }));
    sh(&found, 5, "true").await;
    one.provider.release(SESSION).await.unwrap();
    assert_eq!(one.provider.unsaved().await.unwrap()[0].epoch, 5);
}

/// runtime EN-18, EN-19, security STORE-3, TOOL-3: a container that somebody has removed comes back from its checkpoint; what
/// is damaged or too old is not gone on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_19_a_lost_container_comes_back_from_its_checkpoint_or_not_at_all() {
    let blobs = Blobs::memory();
    let host = containers(&blobs);
    let kept = written(&host.provider, "kept").await;
    host.remove(SESSION);
    // Its disk, where it has one, outlives it.
    let disk = host
        .data
        .path()
        .join("containers")
        .join(SESSION)
        .join("disk");
    let origin = match disk.exists() {
        true => Origin::Kept { epoch: 1 },
        false => Origin::Restored,
    };
    let again = start(&host.provider, 2, Some(&kept)).await;
    assert_eq!(again.origin(), Some(origin));
    assert_eq!(
        sh(&again, 2, "cat f; ls /mnt/session/uploads").await,
        "kept"
    );
    host.provider.release(SESSION).await.unwrap();

    if disk.exists() {
        std::fs::rename(&disk, disk.with_extension("elsewhere")).unwrap();
        let newer = Checkpoint {
            epoch: 1,
            ..kept.clone()
        };
        let again = start(&host.provider, 3, Some(&newer)).await;
        assert_eq!(again.origin(), Some(Origin::Restored));
        assert_eq!(sh(&again, 3, "cat f").await, "kept");
        host.provider.release(SESSION).await.unwrap();
    }

    ends_damaged(&host.provider, &kept).await;
    host.provider.release(SESSION).await.unwrap();

    let short = |config: &mut Config| {
        config.blobs = Some(blobs.clone());
        config.retention = Duration::ZERO;
    };
    let next = host.beside_with(short);
    let old = start(&next, 11, None).await;
    assert_eq!(old.origin(), Some(Origin::New { expired: true }));
    next.destroy(SESSION).await.unwrap();
    let elsewhere = Containers::with(short);
    let old = start(&elsewhere.provider, 2, Some(&kept)).await;
    assert_eq!(old.origin(), Some(Origin::New { expired: true }));
}

/// security SBX-8: what a server that was killed in a start has left mounted goes with the next start, or the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_8_a_disk_that_stayed_mounted_is_taken_away() {
    let host = Containers::new();
    let sandbox = start(&host.provider, 1, None).await;
    sh(&sandbox, 1, "echo kept > f").await;
    host.provider.release(SESSION).await.unwrap();
    let folder = host.data.path().join("containers").join(SESSION);
    let shown = folder.join("shown");
    if !shown.exists() {
        return;
    }
    let mount = || {
        let nothing = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &shown, "tmpfs", nothing, None).unwrap();
    };
    mount();
    mount();
    let again = start(&host.provider, 2, None).await;
    assert_eq!(sh(&again, 2, "cat f").await, "kept");
    mount();
    host.provider.destroy(SESSION).await.unwrap();
    assert!(!folder.exists());
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounted.contains(&host.data.path().display().to_string()));
}

/// runtime EN-17: a call that comes while files are packed gets its sandbox, with all of them; what is kept makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_17_a_call_goes_before_packing_a_container_and_what_is_kept_makes_room() {
    let host = containers(&Blobs::memory());
    let sandbox = start(&host.provider, 1, None).await;
    let fill = "for i in $(seq 30); do head -c 1000000 /dev/urandom > f$i; done";
    sh(&sandbox, 1, fill).await;
    assert_eq!(host.provider.shed(u64::MAX).await.unwrap(), 0, "it lives");
    host.provider.release(SESSION).await.unwrap();
    assert_eq!(host.provider.shed(u64::MAX).await.unwrap(), 0, "unkept");
    let unsaved = host.provider.unsaved().await.unwrap();
    let blob = manyhands_blobs::fresh("checkpoints");
    let (saved, again) = tokio::join!(
        host.provider.save(&unsaved[0], &blob),
        start(&host.provider, 2, None)
    );
    assert_eq!(saved.unwrap(), None, "it gave way");
    assert_eq!(sh(&again, 2, "cat f* | wc -c").await, "30000000");
    host.provider.release(SESSION).await.unwrap();
    let kept = keep(&host.provider, 2).await;
    assert_eq!(host.provider.shed(0).await.unwrap(), 0, "there is room");
    assert_eq!(host.provider.shed(u64::MAX).await.unwrap(), 1);
    let again = start(&host.provider, 3, Some(&kept)).await;
    assert_eq!(again.origin(), Some(Origin::Restored));
    assert_eq!(sh(&again, 3, "cat f* | wc -c").await, "30000000");
}

/// security SBX-3, runtime EN-14: all folders of a sandbox together have one bound of bytes and of files where this server is
/// root beside its engine, and `doctor` says so; nothing of it is left on the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_3_a_container_cannot_fill_its_hosts_disk() {
    let disk = |probe: manyhands_hands::Probe| {
        let found = probe.limits.iter().find(|limit| limit.name == "disk");
        found.map(|limit| limit.holds)
    };
    let soft = apart(&Blobs::memory());
    assert_eq!(disk(soft.provider.probe().await), Some(Holds::Soft));
    let host = Containers::new();
    let bounded = disk(host.provider.probe().await) == Some(Holds::Hard);
    assert_eq!(bounded, rustix::process::geteuid().is_root());
    if !bounded {
        return;
    }
    let mut recipe = Recipe::new(SESSION, 1);
    recipe.limits.disk_bytes = 32 << 20;
    let sandbox = host.provider.provision(&recipe).await.unwrap();
    let fill = "for at in /workspace /tmp /home/agent /mnt/session/outputs; do head -c 12M /dev/zero > $at/f || echo full; done \
                2>&1 | grep -o -e full -e 'No space left on device' | sort | uniq -c | sed 's/^ *//'; stat -c %s /workspace/f";
    let said = run(&sandbox, fill).await;
    assert_eq!(text(&said), "2 No space left on device\n2 full\n12582912");
    run(&sandbox, "rm /tmp/f /home/agent/f /mnt/session/outputs/f").await;
    let many = "mkdir m; for i in $(seq 4000); do : > m/$i || break; done 2>&1 | grep -o 'No space left on device'; ls m | wc -l";
    let said = run(&sandbox, many).await;
    let (why, count) = text(&said).split_once('\n').expect("two lines");
    assert_eq!(why, "No space left on device");
    assert!(count.parse::<u32>().unwrap() < 2500, "{count}");
    // Another start shows the same disk, and nothing stays mounted for this host to see.
    let mounted = || {
        let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.contains(&host.data.path().display().to_string())
    };
    assert!(!mounted());
    host.provider.release(SESSION).await.unwrap();
    recipe.epoch = 2;
    let again = host.provider.provision(&recipe).await.unwrap();
    assert_eq!(sh(&again, 2, "stat -c %s f").await, "12582912");
    host.provider.destroy(SESSION).await.unwrap();
    assert!(!mounted());
    assert!(!host.data.path().join("containers").join(SESSION).exists());
}
