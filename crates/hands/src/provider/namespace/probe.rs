//! What this host has for sandboxes: asked in full by `doctor`, and cheaply before each launch (security SBX-2).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::process::Command;

use super::launch::explain;
use super::process::{Preparation, User, prepare};
use crate::provider::{Helper, Missing};

/// Options that a bubblewrap must know; older ones lack some.
const NEEDED: [&str; 5] = [
    "--ro-bind-fd",
    "--disable-userns",
    "--add-seccomp-fd",
    "--size",
    "--args",
];

/// The numbers of a version.
type Version = (u32, u32, u32);

/// Versions with a known way out that our layout does not close: from the first number up to, not including, the second.
const ESCAPES: [(Version, Version, &str); 2] = [
    (
        (0, 0, 0),
        (0, 3, 3),
        "its set-up can be led astray by other users of the host (CVE-2019-12439)",
    ),
    (
        (0, 4, 0),
        (0, 4, 1),
        "it can be made to keep root's rights (CVE-2020-5291)",
    ),
];

/// From this version on, a link left in a writable folder can no longer lead the set-up astray.
const LINKS_MENDED: Version = (0, 12, 0);

/// A helper that hangs is as good as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bubblewrap that has been asked what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bubblewrap {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Remembers the last good answer for as long as the file stays the same.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<(Identity, Bubblewrap)>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity(PathBuf, SystemTime, u64);

impl Cache {
    /// The bubblewrap to use. Asks the program itself only when its file has changed.
    pub(super) async fn bubblewrap(&self, given: Option<&Path>) -> Result<Bubblewrap, Missing> {
        let path = find(given).ok_or_else(missing)?;
        let meta = std::fs::metadata(&path).map_err(|_| missing())?;
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let identity = Identity(path.clone(), modified, meta.len());
        if let Some((known, answer)) = &*self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            && *known == identity
        {
            return Ok(answer.clone());
        }
        let answer = ask(path).await?;
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some((identity, answer.clone()));
        Ok(answer)
    }
}

fn find(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = given {
        return path.is_file().then(|| path.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders
        .chain([PathBuf::from("/usr/bin")])
        .map(|folder| folder.join("bwrap"))
        .find(|path| path.is_file())
}

fn missing() -> Missing {
    Missing {
        what: "bubblewrap is missing".to_owned(),
        why: "there is no program \"bwrap\"".to_owned(),
        install: "install it with \"apt-get install bubblewrap\"".to_owned(),
    }
}

async fn ask(path: PathBuf) -> Result<Bubblewrap, Missing> {
    let unusable = |why: String| Missing {
        what: "bubblewrap does not work".to_owned(),
        why,
        install: "install it anew with \"apt-get install --reinstall bubblewrap\"".to_owned(),
    };
    let (version, _) = run(Command::new(&path).arg("--version"))
        .await
        .map_err(unusable)?;
    let (help, _) = run(Command::new(&path).arg("--help"))
        .await
        .map_err(unusable)?;
    let lacking: Vec<_> = NEEDED
        .into_iter()
        .filter(|option| !help.contains(option))
        .collect();
    if !lacking.is_empty() {
        return Err(Missing {
            what: "bubblewrap is too old".to_owned(),
            why: format!("{} lacks {}", version.trim(), lacking.join(", ")),
            install: "update it to the newest version of your distribution, at least 0.8.0 with its security updates"
                .to_owned(),
        });
    }
    let said = version.trim().trim_start_matches("bubblewrap ");
    let version = said.split(' ').next().unwrap_or_default().to_owned();
    if let Some(why) = escape(&version) {
        return Err(Missing {
            what: "bubblewrap is not safe to use".to_owned(),
            why: format!("version {version}: {why}"),
            install: "update it to the newest version of your distribution".to_owned(),
        });
    }
    Ok(Bubblewrap { path, version })
}

impl Bubblewrap {
    /// For the probe.
    pub(super) fn helper(&self) -> Helper {
        Helper {
            name: "bubblewrap",
            version: self.version.clone(),
            path: self.path.display().to_string(),
        }
    }

    /// What an operator should know about this version.
    pub(super) fn note(&self) -> Option<String> {
        (number(&self.version)? < LINKS_MENDED).then(|| {
            format!(
                "bubblewrap {} can be led astray by links below a writable mount; sandboxes are laid out so that no \
                 mount lies there. Versions from 0.12 on are mended.",
                self.version
            )
        })
    }

    /// Whether it can really make name spaces here, as the given host user.
    pub(super) async fn try_it(&self, user: Option<u32>) -> Result<(), Missing> {
        let mut command = Command::new(&self.path);
        command.args([
            "--unshare-user",
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--disable-userns",
        ]);
        command.args([
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
        ]);
        command.args([
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--",
            "/usr/bin/true",
        ]);
        command.env_clear().current_dir("/");
        let user = user.map(|id| User {
            id,
            stage: None,
            space: None,
        });
        prepare(
            &mut command,
            Preparation {
                user,
                ..Preparation::default()
            },
        );
        run(&mut command)
            .await
            .map(drop)
            .map_err(|why| explain(&why))
    }
}

/// The known way out of sandboxes of this version, or that it cannot be told whether there is one.
fn escape(version: &str) -> Option<&'static str> {
    let Some(number) = number(version) else {
        return Some("it does not say which version it is");
    };
    ESCAPES
        .iter()
        .find(|(from, before, _)| (*from..*before).contains(&number))
        .map(|(_, _, why)| *why)
}

/// The numbers of a version; a third one that is absent is zero.
fn number(version: &str) -> Option<Version> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((
        parts.next()??,
        parts.next()??,
        parts.next().unwrap_or(Some(0))?,
    ))
}

async fn run(command: &mut Command) -> Result<(String, String), String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended
        .map_err(|_| "it does not end".to_owned())?
        .map_err(|error| error.to_string())?;
    let [out, err] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    if output.status.success() {
        return Ok((out, err));
    }
    let said = err.trim();
    Err(if said.is_empty() {
        output.status.to_string()
    } else {
        said.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bwrap");
        install(&path, &format!("#!/bin/sh\n{text}\n"));
        (directory, path)
    }

    /// Puts a program there. By another process: a child that a test beside this one forks would hold what is written
    /// open, and that cannot be run.
    fn install(path: &Path, text: &str) {
        let words = path.with_extension("words");
        std::fs::write(&words, text).unwrap();
        let mut install = std::process::Command::new("install");
        let installed = install.arg(&words).arg(path).status().unwrap();
        assert!(installed.success());
    }

    #[tokio::test]
    async fn sbx_2_a_missing_or_unfit_helper_says_what_to_install() {
        async fn check(path: &Path, what: &str, install: &str) {
            let missing = Cache::default().bubblewrap(Some(path)).await.unwrap_err();
            assert_eq!(missing.what, what);
            assert!(missing.install.contains(install), "{missing:?}");
        }
        check(
            Path::new("/nowhere/bwrap"),
            "bubblewrap is missing",
            "apt-get install bubblewrap",
        )
        .await;
        let (_old, path) = program("echo bubblewrap 0.4.1");
        check(&path, "bubblewrap is too old", "at least 0.8.0").await;
        let all = NEEDED.join(" ");
        let (_flawed, path) = program(&format!("echo bubblewrap 0.4.0 {all}"));
        check(&path, "bubblewrap is not safe to use", "newest version").await;
        let (_broken, path) = program("exit 3");
        check(
            &path,
            "bubblewrap does not work",
            "apt-get install --reinstall",
        )
        .await;
    }

    #[tokio::test]
    async fn sbx_2_the_answer_is_kept_until_the_file_changes() {
        let options = NEEDED.join(" ");
        let (_directory, path) = program(&format!(
            "echo asked >> \"$0.log\"; echo bubblewrap 0.11.2 {options}"
        ));
        let log = path.with_extension("log");
        let asked = || std::fs::read_to_string(&log).unwrap().lines().count();
        let cache = Cache::default();
        let answer = cache.bubblewrap(Some(&path)).await.unwrap();
        assert!(answer.version.starts_with("0.11.2"));
        let once = asked();
        assert_eq!(cache.bubblewrap(Some(&path)).await.unwrap(), answer);
        assert_eq!(asked(), once);
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("0.11.2", "0.12");
        install(&path, &text);
        assert!(
            cache
                .bubblewrap(Some(&path))
                .await
                .unwrap()
                .version
                .starts_with("0.12")
        );
    }

    #[test]
    fn versions_with_the_flaw_are_noted() {
        #[track_caller]
        fn check(version: &str, noted: bool) {
            let bwrap = Bubblewrap {
                path: PathBuf::new(),
                version: version.to_owned(),
            };
            assert_eq!(bwrap.note().is_some(), noted, "{version}");
        }
        check("0.8.0", true);
        check("0.11.0", true);
        check("0.12.0", false);
        check("1.0", false);
    }

    #[test]
    fn sbx_2_versions_with_a_known_way_out_and_unknown_ones_stop_the_launch() {
        #[track_caller]
        fn check(version: &str, refused: bool) {
            assert_eq!(escape(version).is_some(), refused, "{version}");
        }
        check("0.3.2", true);
        check("0.3.3", false);
        check("0.4.0", true);
        check("0.4.1", false);
        check("0.8.0", false);
        check("0.12", false);
        check("unknown", true);
        check("", true);
        check("0.x.1", true);
    }
}
