//! What a sandbox leaves for the host to stumble over: links on the way of the next start (security SBX-2, SBX-4), and files
//! that programs would run or read as their configuration (SBX-6).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use manyhands_hands::{Provider, Recipe};

use crate::host::{Host, call, run};

/// Resumes of all the sessions together.
const RESUMES: usize = 200;

const SESSIONS: usize = 4;

/// Bubblewraps before 0.12 go through a link that lies on the way to a mount, with the rights of who starts them. The plan of
/// mounts has none below what a sandbox writes; here a sandbox plants links of every kind and keeps changing them until
/// it is killed, and is started again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_4_links_planted_in_every_folder_and_raced_make_nothing_on_the_host() {
    let trap = tempfile::tempdir().unwrap();
    // Whoever is led here could write.
    fs::set_permissions(trap.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let host = Host::new();
    let target = trap.path().display().to_string();
    let race = |session: String| {
        let (host, target) = (&host, &target);
        async move {
            for round in 0..RESUMES / SESSIONS {
                let sandbox = host.provider.provision(&Recipe::new(&*session, 1)).await;
                let sandbox = sandbox.unwrap();
                // Names that mounts have, and names that a start might make, towards the host as bubblewrap sees it.
                let plant = format!(
                    "[ -L /tmp/agent ] || for f in /workspace /tmp /home/agent /mnt/session/outputs; do \
                     for n in x session outputs uploads tool-output agent .local workspace tmp; do \
                     for r in /oldroot /newroot '' ../../../oldroot; do ln -sfn $r{target} $f/$n; done; done; done; \
                     (while :; do for f in /workspace /tmp /home/agent /mnt/session/outputs; do \
                     ln -sfn /oldroot{target} $f/x; rm -f $f/session; mkdir $f/session; rmdir $f/session; \
                     ln -sfn {target} $f/session; done; done) >/dev/null 2>&1 & echo planted"
                );
                let planted = sandbox
                    .execute(&call(&format!("plant-{round}"), &plant))
                    .await;
                assert!(!planted.unwrap().is_error);
                host.provider.release(&session).await.unwrap();
            }
        }
    };
    let sessions = (0..SESSIONS).map(|number| race(format!("sesn_{number}")));
    futures::future::join_all(sessions).await;
    assert_eq!(fs::read_dir(trap.path()).unwrap().count(), 0);
    // The files of the server's own are as they were.
    for number in 0..SESSIONS {
        let folder = host.folder(&format!("sesn_{number}"));
        for entry in fs::read_dir(folder).unwrap().flatten() {
            assert!(
                !entry.file_type().unwrap().is_symlink(),
                "{:?}",
                entry.path()
            );
        }
    }
    let sandbox = host.sandbox("sesn_0").await;
    assert!(!run(&sandbox, "true").await.is_error);
}

/// Whatever a sandbox leaves under names that programs of the host look for, none of it is run or read by the host: each of these
/// would leave a mark outside, where nothing inside can.
#[tokio::test]
async fn sbx_6_the_host_runs_and_loads_nothing_that_a_sandbox_wrote() {
    let trap = tempfile::tempdir().unwrap();
    fs::set_permissions(trap.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mark = trap.path().join("mark").display().to_string();
    let host = Host::new();
    let plant = format!(
        "for f in /workspace /tmp /home/agent /mnt/session/outputs; do \
         mkdir -p $f/.local/bin $f/.cargo $f/.config/pip $f/bin $f/etc; \
         for n in .bashrc .profile .bash_profile .bash_logout .npmrc .gitconfig .pythonrc sitecustomize.py \
         usercustomize.py .cargo/config.toml .config/pip/pip.conf etc/e2fsck.conf etc/mke2fs.conf manyhands.toml; do \
         printf '#!/bin/sh\\ntouch {mark}\\n' > $f/$n; done; \
         for n in bwrap mkfs.ext4 e2fsck sh bash tar git manyhands manyhands-sandboxd; do \
         printf '#!/bin/sh\\ntouch {mark}\\n' | tee $f/$n $f/bin/$n > $f/.local/bin/$n; chmod +x $f/$n $f/bin/$n $f/.local/bin/$n; \
         done; done; ls /tmp/bin | wc -l"
    );
    for round in 0..3 {
        let sandbox = host.sandbox("sesn_a").await;
        let planted = sandbox
            .execute(&call(&format!("plant-{round}"), &plant))
            .await;
        assert!(!planted.unwrap().is_error);
        host.provider.release("sesn_a").await.unwrap();
        let tree = host.provider.writable("sesn_a").await.unwrap();
        assert!(tree.is_some_and(|tree| tree.open_file("tmp/bin/bwrap".as_ref()).is_ok()));
    }
    assert!(host.provider.probe().await.usable());
    host.provider.destroy("sesn_a").await.unwrap();
    assert_eq!(fs::read_dir(trap.path()).unwrap().count(), 0);
}
