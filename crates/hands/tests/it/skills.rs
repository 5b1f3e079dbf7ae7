//! Skills in sandboxes: there before the first call, with their execute bits, and nobody inside changes them.

use bytes::Bytes;
use manyhands_blobs::{Blobs, fresh};
use manyhands_hands::skills::{Skill, of_repository};
use manyhands_hands::{Provider, Recipe};
use manyhands_skills::{File, Folder};

use crate::containers::Containers;
use crate::host::{Host, run, text};
use crate::pool::waiting;

async fn skill(blobs: &Blobs, name: &str, script: &str) -> Skill {
    let file = |path: &str, text: &str| {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        File::plain(format!("{name}/{path}"), bytes)
    };
    let head = format!("---\nname: {name}\ndescription: For tests.\n---\nBody.\n");
    let folder = Folder::new([
        file("SKILL.md", &head),
        file("scripts/deep/run.sh", script),
        file("data", "1"),
    ]);
    let archive = folder.unwrap().archive().unwrap();
    let blob = fresh("skills");
    let stored = blobs.put(&blob, &archive[..], 1 << 20).await.unwrap();
    Skill {
        name: name.to_owned(),
        blob,
        size: stored.size,
        sha256: stored.sha256,
    }
}

fn recipe(session: &str, skills: &[Skill]) -> Recipe {
    Recipe {
        skills: skills.to_vec(),
        ..Recipe::new(session, 1)
    }
}

const LIST: &str = "cd /mnt/skills && find . -type f -printf '%P %m\\n' | sort";
const LAID: &str = "one/SKILL.md 444\none/data 444\none/scripts/deep/run.sh 555\n\
    two/SKILL.md 444\ntwo/data 444\ntwo/scripts/deep/run.sh 555";
const ATTEMPTS: &str = "for c in 'echo x >> one/SKILL.md' 'echo x > new' 'echo x > one/new' 'rm -f one/data' \
    'chmod u+w one/data' 'chmod u+w one' 'mv one other' 'ln -s /etc link' 'mkdir three' 'rm -rf one' \
    'mount -o remount,rw /mnt/skills' 'umount /mnt/skills'; do \
    (cd /mnt/skills; eval $c) 2>/dev/null && echo $c; done";
const SCRIPT: &str = "#!/bin/sh\necho \"ran $0\"\n";

/// What holds in every sandbox with these two skills.
async fn check(provider: &dyn Provider, skills: &[Skill]) {
    let sandbox = provider.provision(&recipe("sesn_a", skills)).await.unwrap();
    assert_eq!(text(&run(&sandbox, LIST).await), LAID);
    let ran = run(
        &sandbox,
        "/mnt/skills/one/scripts/deep/run.sh; cat /mnt/skills/two/data",
    )
    .await;
    assert_eq!(text(&ran), "ran /mnt/skills/one/scripts/deep/run.sh\n1");
    assert_eq!(text(&run(&sandbox, ATTEMPTS).await), "(no output)");
    assert_eq!(text(&run(&sandbox, LIST).await), LAID);
    provider.release("sesn_a").await.unwrap();
    let again = provider.provision(&recipe("sesn_a", skills)).await.unwrap();
    assert_eq!(text(&run(&again, LIST).await), LAID, "they are there again");
    provider.destroy("sesn_a").await.unwrap();
}

/// runtime SK-3, EN-16, security INP-7
#[tokio::test]
async fn sk_3_skills_are_there_and_read_only() {
    let blobs = Blobs::memory();
    let shared = blobs.clone();
    let host = Host::with(|config| config.blobs = Some(shared));
    let two = [
        skill(&blobs, "one", SCRIPT).await,
        skill(&blobs, "two", SCRIPT).await,
    ];
    check(&host.provider, &two).await;

    // One whose bytes are damaged is left out, and the next start tries again (security STORE-3); what a dead server has left
    // aside is in nobody's way.
    let mut damaged = two.clone();
    damaged[0].sha256 = "00".repeat(32);
    let sandbox = host
        .provider
        .provision(&recipe("sesn_b", &damaged))
        .await
        .unwrap();
    assert_eq!(text(&run(&sandbox, "ls /mnt/skills").await), "two");
    host.provider.release("sesn_b").await.unwrap();
    let again = host
        .provider
        .provision(&recipe("sesn_b", &two))
        .await
        .unwrap();
    assert_eq!(text(&run(&again, LIST).await), LAID);
}

/// runtime SK-3: one that waited has them as well.
#[tokio::test]
async fn sk_3_a_sandbox_that_waited_gets_its_skills() {
    let blobs = Blobs::memory();
    let shared = blobs.clone();
    let host = Host::with(|config| {
        config.warm = 1;
        config.blobs = Some(shared);
    });
    let of_environment = |session: &str, skills: &[Skill]| Recipe {
        environment_id: Some("env_a".to_owned()),
        ..recipe(session, skills)
    };
    host.provider
        .provision(&of_environment("sesn_0", &[]))
        .await
        .unwrap();
    host.provider.refilled().await;
    let before = waiting(&host);
    assert_eq!(before.len(), 1);
    let two = [
        skill(&blobs, "one", SCRIPT).await,
        skill(&blobs, "two", SCRIPT).await,
    ];
    let sandbox = host
        .provider
        .provision(&of_environment("sesn_a", &two))
        .await
        .unwrap();
    assert_eq!(text(&run(&sandbox, LIST).await), LAID);
    host.provider.refilled().await;
    assert_ne!(waiting(&host), before, "it was taken");
}

/// runtime SK-3, EN-16, security INP-7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sk_3_skills_are_in_a_container_and_read_only() {
    let blobs = Blobs::memory();
    let shared = blobs.clone();
    let host = Containers::with(|config| config.blobs = Some(shared));
    let two = [
        skill(&blobs, "one", SCRIPT).await,
        skill(&blobs, "two", SCRIPT).await,
    ];
    check(&host.provider, &two).await;
}

/// runtime SK-6: exactly the documented place, once, and only what is a skill.
#[tokio::test]
async fn sk_6_the_skills_of_a_repository_are_found() {
    let host = Host::with(|_| {});
    let sandbox = host
        .provider
        .provision(&Recipe::new("sesn_a", 1))
        .await
        .unwrap();
    let place = "mkdir -p /workspace/r/.claude/skills && cd /workspace/r/.claude/skills";
    let write = "put() { mkdir -p \"$1\"; printf -- '---\\nname: %s\\ndescription: %s\\n---\\nBody\\n' \"$2\" \"$3\" > \"$1/SKILL.md\"; }";
    let files = "put zeta zeta last; put alpha other-name first; put a/deep deep no; put ../../skills/b b no; put bad 'Not A Slug' no; \
        mkdir empty none; echo text > none/SKILL.md; ln -s ../skills/alpha linked; mkdir pipe; mkfifo pipe/SKILL.md";
    run(
        &sandbox,
        &format!("{place}; {write}; {files}; mkdir -p /workspace/empty"),
    )
    .await;
    let found = of_repository(&sandbox, 1, "sesrsc_1", "/workspace/r")
        .await
        .unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|skill| {
            (
                &*skill.manifest.name,
                &*skill.manifest.description,
                &*skill.path,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "other-name",
                "first",
                "/workspace/r/.claude/skills/alpha/SKILL.md"
            ),
            ("zeta", "last", "/workspace/r/.claude/skills/zeta/SKILL.md"),
        ]
    );
    let none = of_repository(&sandbox, 1, "sesrsc_2", "/workspace/empty")
        .await
        .unwrap();
    assert_eq!(none, []);
}
