//! The command as a shell runs it, with this machine's git and hosts that are folders: what is borrowed, and from whom not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A host with one repository, and a place to clone to.
struct World {
    home: tempfile::TempDir,
}

/// Runs a script of the test's own; what it says.
#[track_caller]
fn shell(at: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-e", "-c", script])
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "host")
        .env("GIT_AUTHOR_EMAIL", "host@example.com")
        .env("GIT_COMMITTER_NAME", "host")
        .env("GIT_COMMITTER_EMAIL", "host@example.com")
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a clone is, but for how it is packed and when it was made.
const STATE: &str = "git for-each-ref; git symbolic-ref HEAD; git rev-parse HEAD; git status --short --branch; cat .git/config; \
     ls -A . .git .git/objects/info; git cat-file --batch-all-objects --batch-check; git fsck --full 2>&1";

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        shell(
            home.path(),
            "git init -q -b main work; cd work
             for n in 1 2 3 4; do head -c 100000 /dev/urandom > file$n; git add .; git commit -qm $n; done
             git tag -a v1 -m v1; git branch side HEAD~1; cd ..; git clone -q --bare work host.git",
        );
        Self { home }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn shell(&self, script: &str) -> String {
        shell(self.home.path(), script)
    }

    /// Clones to a new place; how, and what the clone is then.
    #[track_caller]
    fn clone(&self, name: &str, shown: Option<Shown>) -> (Made, String) {
        let repository = Repository {
            id: format!("sesrsc_{name}"),
            url: format!("file://{}", self.at("host.git").display()),
            mount_path: self.at(&format!("places/{name}")).display().to_string(),
            checkout: None,
        };
        // The one thing that differs from a sandbox: the host is a folder.
        let command = super::clone(&repository, shown.as_ref());
        let command = command.replace("protocol.https.allow", "protocol.file.allow");
        let said = self.shell(&format!("set +e\n{command}\nexit 0"));
        let made = outcome(&said).expect("a clone");
        let left = self.shell("ls -A places | grep cloning || true");
        assert_eq!(left, "");
        let place = Path::new(&repository.mount_path);
        let state = shell(place, STATE);
        assert!(!place.join(".git/objects/info/alternates").exists());
        (made, state)
    }

    /// Keeps the references and the pack of a clone, as the server does.
    fn keep(&self, name: &str, made: &Made) -> Shown {
        let Made::New(pack) = made else {
            panic!("{made:?}")
        };
        let git = self.at(&format!("places/{name}/.git"));
        let references = fs::read(git.join("packed-refs")).expect("references");
        let pack = fs::read(git.join(format!("objects/pack/pack-{pack}.pack"))).expect("a pack");
        self.show("kept", &references, &pack)
    }

    fn show(&self, name: &str, references: &[u8], pack: &[u8]) -> Shown {
        fs::write(self.at(name), [references, pack].concat()).expect("written");
        Shown {
            path: self.at(name).display().to_string(),
            head: references.len() as u64,
        }
    }
}

/// runtime GH-3: what comes of borrowing is what comes of the host alone.
#[test]
fn gh_3_a_clone_that_borrows_is_the_clone_that_does_not() {
    let world = World::new();
    let (made, plain) = world.clone("first", None);
    let shown = world.keep("first", &made);
    assert_eq!(
        world.clone("same", Some(shown.clone())),
        (Made::Borrowed, plain)
    );

    world.shell(
        "cd work; echo more > more; git add .; git commit -qm more; git push -q ../host.git main",
    );
    let (_, plain) = world.clone("alone", None);
    let (made, borrowed) = world.clone("more", Some(shown.clone()));
    assert_eq!((made, borrowed), (Made::Borrowed, plain));

    world.shell("cd work; head -c 300000 /dev/urandom > large; git add .; git commit -qm large; git push -q ../host.git main");
    let (_, plain) = world.clone("alone_again", None);
    let (made, borrowed) = world.clone("large", Some(shown));
    assert_eq!((made, borrowed), (Made::Outgrown, plain));
}

/// runtime GH-3, security SBX-6: what the host has taken back is not in a clone, whoever has kept it.
#[test]
fn gh_3_what_the_host_does_not_show_any_more_is_gone() {
    let world = World::new();
    let (made, _) = world.clone("first", None);
    let shown = world.keep("first", &made);
    let gone = world.shell("cd work; git rev-parse main v1; git reset -q --hard HEAD~2; git push -qf ../host.git main :side :v1");
    let (_, plain) = world.clone("alone", None);
    let (made, borrowed) = world.clone("later", Some(shown));
    assert_eq!((made, &borrowed), (Made::Outgrown, &plain));
    assert!(gone.lines().count() == 2 && gone.lines().all(|name| !borrowed.contains(name)));
}

/// security SBX-6, INP-5, STORE-3: whatever is shown, the clone is the host's.
#[test]
fn sbx_6_what_is_forged_is_not_used() {
    let world = World::new();
    let (made, plain) = world.clone("first", None);
    let shown = world.keep("first", &made);
    let all = fs::read(world.at("kept")).expect("kept");
    let (references, pack) = all.split_at(shown.head as usize);
    let mut flipped = pack.to_vec();
    flipped[pack.len() / 2] ^= 1;
    let foreign = world.shell(
        "git init -q -b main foreign; cd foreign; echo x > x; git add .; git commit -qm x; git rev-parse HEAD
         git pack-objects --all --stdout </dev/null > ../foreign.pack",
    );
    let foreign = foreign.trim();
    let foreign_pack = fs::read(world.at("foreign.pack")).expect("a pack");
    let text = String::from_utf8(references.to_vec()).expect("text");
    let up = format!("{foreign} refs/heads/../../../up\n");
    let twice = format!("{text}{foreign} refs/heads/foreign\n");
    let forged: [(&str, &[u8], &[u8]); 9] = [
        ("nothing", b"", b""),
        ("no_pack", references, b""),
        ("short", references, &pack[..pack.len() / 2]),
        ("flipped", references, &flipped),
        ("noise", &[0xff; 64], pack),
        ("another", references, &foreign_pack),
        ("missing", twice.as_bytes(), pack),
        ("up", up.as_bytes(), &foreign_pack),
        ("text", b"#!/bin/sh\necho\n", b"ref: /etc/passwd\n"),
    ];
    for (name, references, pack) in forged {
        let shown = world.show(name, references, pack);
        let (made, state) = world.clone(&format!("from_{name}"), Some(shown));
        assert!(matches!(made, Made::Unusable(Some(_))), "{name}: {made:?}");
        assert_eq!(state, plain, "{name}");
    }
    let absent = Shown {
        path: world.at("absent").display().to_string(),
        head: 9,
    };
    let (made, state) = world.clone("from_absent", Some(absent));
    assert!(matches!(made, Made::Unusable(Some(_))));
    assert_eq!(state, plain);

    // A sound repository that is another one, and one with objects that nothing names: none of them comes along.
    let own = format!("{foreign} refs/remotes/origin/main\n");
    let shown = world.show("sound", own.as_bytes(), &foreign_pack);
    let (made, state) = world.clone("from_sound", Some(shown));
    assert_eq!((made, &state), (Made::Outgrown, &plain));
    let main = world.shell("git -C host.git rev-parse main");
    let less = format!("{} refs/remotes/origin/main\n", main.trim());
    let shown = world.show("hidden", less.as_bytes(), pack);
    world.shell("git -C host.git update-ref -d refs/tags/v1");
    let (_, plain) = world.clone("without_tag", None);
    let (made, state) = world.clone("from_hidden", Some(shown));
    assert_eq!((made, state), (Made::Borrowed, plain));
}
