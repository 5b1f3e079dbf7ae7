//! Files that are brought among the blobs as they are, one behind the other, from both kinds of sandboxes.

use manyhands_blobs::{Blobs, Stored};
use manyhands_hands::provider::{Join, Joined};
use manyhands_hands::{Provider, Recipe};

use crate::containers::Containers;
use crate::host::{Host, run};

/// What joins the two files of a clone.
const FILES: [&str; 2] = ["packed-refs", "objects/pack/one.pack"];
const FOLDER: &str = "/workspace/tools/.git";
const PACK: usize = 300_000;

/// What no sandbox may see of the host's, at this path.
const SECRET: &str = "the host's own";

fn join<'a>(folder: &'a str, files: &'a [&'a str]) -> Join<'a> {
    Join {
        folder,
        files,
        least: 1,
        cap: 1 << 20,
    }
}

/// What holds in every sandbox. `trap` is a folder of the host's with readable files of the names that are joined.
async fn check(provider: &dyn Provider, blobs: &Blobs, trap: &str) {
    let sesn = "sesn_a";
    let usual = join(FOLDER, &FILES);
    assert_eq!(
        provider.join(sesn, &usual).await.unwrap(),
        None,
        "no sandbox"
    );
    let sandbox = provider.provision(&Recipe::new(sesn, 1)).await.unwrap();
    let inside = async |command: &str| {
        let output = run(&sandbox, &format!("(set -e; {command})")).await;
        assert!(!output.is_error, "{command}: {output:?}");
    };
    inside(&format!(
        "mkdir -p {FOLDER}/objects/pack; cd {FOLDER}; echo refs > packed-refs; head -c {PACK} /dev/zero | tr '\\0' p > objects/pack/one.pack"
    ))
    .await;
    let joined = provider.join(sesn, &usual).await.unwrap();
    let Joined {
        blob,
        size,
        head,
        sha256,
    } = joined.expect("joined");
    assert_eq!((head, size), (5, PACK as u64 + 5));
    let stored = Stored { size, sha256 };
    let whole = blobs.read(&blob, &stored, 1 << 20).await.unwrap();
    let expected = [b"refs\n".to_vec(), vec![b'p'; PACK]].concat();
    assert!(whole == expected, "as they are, one behind the other");
    assert!(blob.starts_with("repositories/"), "{blob}");

    // Too few bytes, too many, and what is not there.
    let all = size;
    for (least, cap, kept) in [
        (all, all, true),
        (all + 1, all + 1, false),
        (1, all - 1, false),
    ] {
        let bounds = Join {
            least,
            cap,
            ..usual
        };
        let found = provider.join(sesn, &bounds).await.unwrap();
        assert_eq!(found.is_some(), kept, "{least} {cap}");
    }
    let absent = join(FOLDER, &["packed-refs", "objects/pack/two.pack"]);
    assert_eq!(provider.join(sesn, &absent).await.unwrap(), None);

    // Places that are not below the workspace, however they are written, although there are such files.
    inside(&format!(
        "for at in /home/agent /tmp /mnt/session/outputs; do mkdir -p $at/objects/pack; cp -r {FOLDER}/. $at; done; cp -r {FOLDER}/. /workspace"
    ))
    .await;
    for folder in [
        "/workspace",
        "/workspace/",
        "/home/agent",
        "/tmp",
        "/mnt/session/outputs",
        "/workspace/../home/agent",
        "/workspace/tools/../../home/agent",
        "/workspace/..",
        "workspace/tools/.git",
        "/",
        "",
        trap,
    ] {
        let found = provider.join(sesn, &join(folder, &FILES)).await;
        assert_eq!(found.unwrap(), None, "{folder}");
    }

    // Links, a pipe and a folder where the files or their folders are; each leads to what is there under its name.
    let away = "/home/agent";
    for (number, plant) in [
        format!("ln -sfn {away}/packed-refs packed-refs"),
        format!("ln -sfn {trap}/packed-refs packed-refs"),
        format!("ln -sfn ../../../../../..{trap}/packed-refs packed-refs"),
        format!("ln -sfn /proc/self/root{trap}/packed-refs packed-refs"),
        format!("ln -sfn {away}/objects/pack/one.pack objects/pack/one.pack"),
        format!("rm -r objects; ln -s {away}/objects objects"),
        format!("rm -r objects; ln -s {trap}/objects objects"),
        format!("rm -r objects/pack; ln -s {away}/objects/pack objects/pack"),
        "rm packed-refs; mkfifo packed-refs".to_owned(),
        "rm packed-refs; mkdir packed-refs".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = format!("/workspace/planted-{number}/.git");
        inside(&format!(
            "mkdir -p {folder}; cp -r {FOLDER}/. {folder}; cd {folder}; {plant}"
        ))
        .await;
        let found = provider.join(sesn, &join(&folder, &FILES)).await;
        assert_eq!(found.unwrap(), None, "{plant}");
    }
    for (name, to) in [("own", away), ("host", trap), ("up", "../../home/agent")] {
        let folder = format!("/workspace/{name}");
        inside(&format!("ln -sfn {to} {folder}")).await;
        let found = provider.join(sesn, &join(&folder, &FILES)).await;
        assert!(!matches!(found, Ok(Some(_))), "{name}: {found:?}");
    }
    // A folder on the way that leads to the host's.
    let (above, name) = trap.rsplit_once('/').unwrap();
    inside(&format!("ln -sfn {above} /workspace/above")).await;
    let through = format!("/workspace/above/{name}");
    let found = provider.join(sesn, &join(&through, &FILES)).await;
    assert!(!matches!(found, Ok(Some(_))), "{found:?}");
    // It is as it was for all that.
    assert!(provider.join(sesn, &usual).await.unwrap().is_some());
    provider.destroy(sesn).await.unwrap();
    assert_eq!(
        provider.join(sesn, &usual).await.unwrap(),
        None,
        "it is gone"
    );
}

/// A folder that everybody on this machine may read.
fn trap() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let trap = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(trap.path().join("objects/pack")).unwrap();
    for name in FILES {
        std::fs::write(trap.path().join(name), SECRET).unwrap();
    }
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(trap.path(), open).unwrap();
    trap
}

/// security SBX-4, SBX-6, runtime GH-3: two files of a sandbox as they are, and nothing that a link leads to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_4_files_of_a_sandbox_are_joined_and_no_link_is_followed() {
    let (blobs, trap) = (Blobs::memory(), trap());
    let shared = blobs.clone();
    let host = Host::with(|config| config.blobs = Some(shared));
    check(&host.provider, &blobs, &trap.path().display().to_string()).await;
}

/// security SBX-4, SBX-6, runtime GH-3: as above, of a container.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_4_files_of_a_container_are_joined_and_no_link_is_followed() {
    let (blobs, trap) = (Blobs::memory(), trap());
    let shared = blobs.clone();
    let host = Containers::with(|config| config.blobs = Some(shared));
    check(&host.provider, &blobs, &trap.path().display().to_string()).await;
}
