//! What stays and what goes: releases, idle ends, removals, sweeps.

use std::fs;
use std::os::unix::fs::symlink;

use manyhands_hands::{Output, Provider, Recipe};

use crate::host::{Host, IDLE, call, pass, run, text, until_given_up, until_gone};

#[tokio::test]
async fn en_17_files_outlive_the_processes() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    let folders = ["/workspace", "/tmp", "/home/agent", "/mnt/session/outputs"];
    for folder in folders {
        run(&sandbox, &format!("echo kept > {folder}/file")).await;
    }
    let pid = host.process("sesn_a").unwrap();
    host.provider.release("sesn_a").await.unwrap();
    until_gone(pid);
    let next = host.sandbox("sesn_a").await;
    assert_ne!(next.instance(), sandbox.instance());
    for folder in folders {
        assert_eq!(
            text(&run(&next, &format!("cat {folder}/file")).await),
            "kept"
        );
    }
    assert_eq!(host.read("sesn_a", "outputs/file").await, "kept\n");
}

/// A link that a sandbox leaves must not lead the next start's mounts out of it.
#[tokio::test]
async fn sbx_4_links_left_behind_do_not_lead_the_next_start_astray() {
    let host = Host::new();
    let outside = tempfile::tempdir().unwrap();
    let sandbox = host.sandbox("sesn_a").await;
    let target = outside.path().display();
    run(&sandbox, &format!("ln -s {target} /workspace/session; ln -s {target} /tmp/tool-output; ln -s {target} ~/.local")).await;
    host.provider.release("sesn_a").await.unwrap();
    let next = host.sandbox("sesn_a").await;
    assert_eq!(run(&next, "echo fine").await, Output::text("fine"));
    run(&next, "seq 1 100000").await;
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_idle_sandbox_ends_and_a_busy_one_does_not() {
    let host = Host::with(|config| config.idle = IDLE);
    let sandbox = host.sandbox("sesn_a").await;
    let pid = host.process("sesn_a").unwrap();
    // Longer than the limit, and then long enough for an end that must not come.
    let busy = run(&sandbox, "sleep 1; echo kept > file; echo done");
    let (done, ()) = tokio::join!(busy, pass(IDLE));
    assert_eq!(done, Output::text("done"));
    assert_eq!(host.process("sesn_a"), Some(pid));
    pass(IDLE).await;
    until_given_up(&sandbox).await;
    until_gone(pid);
    let next = host.sandbox("sesn_a").await;
    assert_ne!(next.instance(), sandbox.instance());
    assert_eq!(run(&next, "cat file").await, Output::text("kept"));
}

#[tokio::test]
async fn sbx_8_a_removal_leaves_nothing() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    // Something that tries to stay: a daemon, a folder without rights, a deep tree, a link.
    let mess = "setsid -f sleep 100000; mkdir -p a/b/c; touch a/b/c/d; chmod 0 a/b; ln -s /etc link; \
        for i in $(seq 300); do mkdir d; cd d; done";
    run(&sandbox, mess).await;
    let pid = host.process("sesn_a").unwrap();
    let groups: Vec<_> = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))
        .unwrap()
        .lines()
        .filter_map(|line| {
            line.rsplit('/')
                .next()
                .filter(|name| name.starts_with("manyhands-"))
                .map(str::to_owned)
        })
        .collect();
    host.provider.destroy("sesn_a").await.unwrap();
    until_gone(pid);
    let left: Vec<_> = fs::read_dir(host.data.path().join("sandboxes"))
        .unwrap()
        .flatten()
        .collect();
    for entry in left {
        assert_eq!(
            fs::read_dir(entry.path()).unwrap().count(),
            0,
            "{:?}",
            entry.path()
        );
    }
    for group in groups {
        for mount in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(
                !mount.path().join(&group).exists(),
                "{group} in {:?}",
                mount.path()
            );
        }
    }
    let again = host.sandbox("sesn_a").await;
    assert_eq!(run(&again, "ls -A").await, Output::text("(no output)"));
}

#[tokio::test]
async fn sbx_8_a_sweep_removes_what_belongs_to_no_session() {
    let host = Host::new();
    host.sandbox("sesn_kept").await;
    let gone = host.sandbox("sesn_gone").await;
    let [kept_pid, gone_pid] =
        ["sesn_kept", "sesn_gone"].map(|session| host.process(session).unwrap());
    // What a server that was killed during a removal leaves.
    let trash = host.data.path().join("sandboxes/.trash/left");
    fs::create_dir_all(&trash).unwrap();
    symlink("/etc", trash.join("link")).unwrap();
    assert_eq!(
        host.provider.sessions().await.unwrap(),
        ["sesn_gone", "sesn_kept"]
    );
    host.provider
        .sweep(&["sesn_gone".to_owned()])
        .await
        .unwrap();
    until_gone(gone_pid);
    assert!(!host.folder("sesn_gone").exists() && !trash.exists());
    assert_eq!(host.process("sesn_kept"), Some(kept_pid));
    assert!(gone.execute(&call("call", "true")).await.is_err());
    assert_eq!(
        run(&host.sandbox("sesn_kept").await, "echo fine").await,
        Output::text("fine")
    );
}

/// runtime EN-2, SC-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_2_sessions_share_nothing() {
    let host = Host::new();
    let sessions: Vec<_> = (0..6).map(|number| format!("sesn_{number}")).collect();
    let provider = &host.provider;
    let started = sessions.iter().map(|session| async move {
        let sandbox = provider
            .provision(&Recipe::new(session.as_str(), 1))
            .await
            .unwrap();
        run(
            &sandbox,
            &format!("echo {session} > mine; ls /workspace /tmp; cat mine"),
        )
        .await
    });
    for (session, output) in sessions
        .iter()
        .zip(futures::future::join_all(started).await)
    {
        assert_eq!(
            output,
            Output::text(format!("/tmp:\n\n/workspace:\nmine\n{session}"))
        );
    }
}
