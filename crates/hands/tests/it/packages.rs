//! Packages of environments: installed once by the real managers from local sources, seen by sessions read-only.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manyhands_hands::packages::Manager;
use manyhands_hands::provider::Told;
use manyhands_hands::provider::namespace::{Config, ReadOnly, Sources};
use manyhands_hands::{Error, Provider, Recipe};
use manyhands_protocol::environment::Packages;

use crate::host::{Host, run, text};

/// How long the managers may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A folder with one package for apt and one for pip.
pub(crate) struct Repository(tempfile::TempDir);

impl Repository {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"
set -eu
mkdir -p deb/DEBIAN deb/usr/bin deb/etc deb/var/lib/greeter simple/greeter
printf 'Package: greeter\nVersion: 1.0-1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: greets\n' > deb/DEBIAN/control
printf '/etc/greeter.conf\n' > deb/DEBIAN/conffiles
cat > deb/DEBIAN/postinst <<'END'
#!/bin/sh
set -e
chown daemon:daemon /var/lib/greeter
echo "made by $(id -u)" > /var/lib/greeter/made
if [ -e /work ] || unshare -U true 2>/dev/null; then exit 1; fi
END
chmod 755 deb/DEBIAN/postinst
printf '#!/bin/sh\necho "greeter $(cat /etc/greeter.conf)"\n' > deb/usr/bin/greeter
chmod 755 deb/usr/bin/greeter
echo hello > deb/etc/greeter.conf
dpkg-deb --root-owner-group --build deb greeter_1.0-1_all.deb >&2
{ dpkg-deb --field greeter_1.0-1_all.deb
  echo "Filename: ./greeter_1.0-1_all.deb"
  echo "Size: $(stat -c %s greeter_1.0-1_all.deb)"
  echo "SHA256: $(sha256sum greeter_1.0-1_all.deb | cut -d' ' -f1)"; } > Packages
rm -r deb
python3 - <<'END'
import zipfile
with zipfile.ZipFile("greeter-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("greeter.py", "def word():\n    return 'from the wheel'\n\ndef main():\n    print(word())\n")
    wheel.writestr("greeter-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n")
    wheel.writestr("greeter-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("greeter-1.0.dist-info/entry_points.txt", "[console_scripts]\npy-greeter = greeter:main\n")
    wheel.writestr("greeter-1.0.dist-info/RECORD", "")
END
echo '<a href="../../greeter-1.0-py3-none-any.whl">greeter-1.0-py3-none-any.whl</a>' > simple/greeter/index.html
chmod -R a+rX .
"#;
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn host(&self) -> Host {
        self.host_with(|_| {})
    }

    fn host_with(&self, change: impl FnOnce(&mut Config)) -> Host {
        Host::with(|config| {
            change(config);
            config.read_only.push(ReadOnly {
                from: self.0.path().to_owned(),
                to: "/opt/repository".to_owned(),
            });
            config.sources = Sources {
                apt: Some(vec!["deb [trusted=yes] file:/opt/repository ./".to_owned()]),
                pip: Some("file:///opt/repository/simple/".to_owned()),
                ..Sources::default()
            };
        })
    }
}

pub(crate) fn packages(apt: &[&str], pip: &[&str]) -> Packages {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Packages {
        apt: list(apt),
        pip: list(pip),
        ..Packages::default()
    }
}

pub(crate) fn recipe(session: &str, packages: &Packages) -> Recipe {
    let mut recipe = Recipe::new(session, 1);
    recipe.packages = packages.clone();
    recipe
}

pub(crate) fn listener() -> (Told, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let same = Arc::clone(&heard);
    let told: Told = Arc::new(move |text: &str| same.lock().unwrap().push(text.to_owned()));
    (told, heard)
}

fn layers(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.data.path().join("layers")).unwrap();
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("layer-")).collect()
}

/// runtime EN-2, EN-7, security SBX-1, SBX-8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_7_packages_are_installed_once_and_seen_by_sessions_read_only() {
    let repository = Repository::new();
    let host = repository.host();
    for manager in Manager::ALL {
        assert_eq!(
            host.provider.installs(manager).await.err(),
            None,
            "{manager}"
        );
    }
    let wanted = packages(&["greeter=1.0-1"], &["greeter==1.0"]);
    let (told, heard) = listener();
    let furnish = |session: &'static str| {
        let (provider, recipe, told) = (
            host.provider.clone(),
            recipe(session, &wanted),
            Arc::clone(&told),
        );
        async move { provider.furnish(&recipe, &told).await }
    };
    let both = tokio::time::timeout(PATIENCE, futures_join(furnish("sesn_a"), furnish("sesn_b")));
    let (one, other) = both.await.expect("in time");
    one.unwrap();
    other.unwrap();
    {
        let heard = heard.lock().unwrap();
        let position = |word: &str| heard.iter().position(|text| text.contains(word));
        assert!(
            position("apt packages") < position("pip packages"),
            "{heard:?}"
        );
    }
    let layer = layers(&host);
    assert_eq!(layer.len(), 1, "built once for both");
    for session in ["sesn_a", "sesn_b"] {
        let sandbox = host
            .provider
            .provision(&recipe(session, &wanted))
            .await
            .unwrap();
        let check = "greeter; py-greeter; python3 -c 'import greeter; print(greeter.word())'; cat /var/lib/greeter/made; \
            dpkg-query -W greeter; id -u; getent passwd agent | cut -d: -f1; \
            touch /usr/bin/x /etc/x /var/lib/x /opt/x 2>&1 | grep -c 'Read-only file system'; \
            ls /opt/repository/Packages; ls /usr/local/etc | wc -l; echo x > /var/tmp/x && cat /tmp/x; \
            grep -c . /proc/self/status | head -c0; grep CapEff /proc/self/status | cut -f2";
        assert_eq!(
            text(&run(&sandbox, check).await),
            "greeter hello\nfrom the wheel\nfrom the wheel\nmade by 0\ngreeter\t1.0-1\n1000\nagent\n4\n\
             /opt/repository/Packages\n0\nx\n0000000000000000"
        );
    }
    // An environment without packages is as before.
    let plain = host.sandbox("sesn_c").await;
    assert_eq!(
        text(&run(&plain, "command -v greeter || echo none").await),
        "none"
    );
    assert_eq!(layers(&host), layer);

    // Kept while a session has it, gone with the last one.
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(layers(&host), layer);
    for session in ["sesn_a", "sesn_b"] {
        host.provider.destroy(session).await.unwrap();
    }
    host.provider
        .unfurnish(std::slice::from_ref(&wanted))
        .await
        .unwrap();
    assert_eq!(layers(&host), layer);
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(layers(&host).len(), 0);
    nothing_is_left(&host);
}

async fn futures_join<A, B>(
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> (A, B) {
    tokio::join!(one, other)
}

/// No process, mount or half-built folder of a build.
fn nothing_is_left(host: &Host) {
    let layers = host.data.path().join("layers");
    let left: Vec<_> = fs::read_dir(&layers)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".building"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let data = host.data.path().to_string_lossy().into_owned();
    assert!(!mounts.contains(&data), "{mounts}");
}

/// runtime EN-9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_9_a_failed_installation_says_what_the_manager_said_and_leaves_nothing() {
    let repository = Repository::new();
    let host = repository.host();
    let (told, _) = listener();
    for (wanted, manager, words) in [
        (
            packages(&["no-such-package"], &[]),
            "apt",
            "no-such-package",
        ),
        (packages(&[], &["greeter==9.9"]), "pip", "greeter==9.9"),
    ] {
        let recipe = recipe("sesn_a", &wanted);
        let furnish = host.provider.furnish(&recipe, &told);
        let error = tokio::time::timeout(PATIENCE, furnish)
            .await
            .expect("in time");
        match error {
            Err(Error::Packages { manager: said, why }) => {
                assert_eq!(said, manager);
                assert!(why.contains(words), "{why}");
                assert!(why.len() <= 1500);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(layers(&host).len(), 0);
    nothing_is_left(&host);
    // The session goes on without them.
    let sandbox = host.sandbox("sesn_a").await;
    assert_eq!(text(&run(&sandbox, "echo fine").await), "fine");
}

/// What is not in a manager's notation never reaches it, also when it is stored.
#[tokio::test]
async fn en_7_what_is_no_package_is_refused_by_the_hands_too() {
    let host = Host::new();
    let (told, _) = listener();
    let wanted = packages(&[], &["--index-url=https://evil.example"]);
    let recipe = recipe("sesn_a", &wanted);
    let refused = host.provider.furnish(&recipe, &told).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let none = Path::new(host.data.path()).join("layers");
    assert!(!none.exists() || layers(&host).is_empty());
}

/// runtime EN-7, EN-9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_7_below_a_prefix_some_managers_work_and_the_others_are_refused_before_a_session_waits()
{
    let repository = Repository::new();
    let host = repository.host_with(|config| config.below_prefix = true);
    for manager in Manager::ALL {
        let missing = host.provider.installs(manager).await.err();
        let refused = matches!(manager, Manager::Apt | Manager::Gem);
        assert_eq!(missing.is_some(), refused, "{manager}: {missing:?}");
        if let Some(missing) = missing {
            assert!(missing.what.contains(manager.name()), "{missing:?}");
            assert!(
                missing.install.starts_with("run the server as root"),
                "{missing:?}"
            );
        }
    }
    let (told, _) = listener();
    let refused = recipe("sesn_a", &packages(&["greeter"], &[]));
    let refused = host.provider.furnish(&refused, &told).await;
    assert!(
        matches!(&refused, Err(Error::Packages { manager: "apt", .. })),
        "{refused:?}"
    );
    let wanted = recipe("sesn_a", &packages(&[], &["greeter"]));
    let sandbox = tokio::time::timeout(PATIENCE, host.provider.provision(&wanted));
    let sandbox = sandbox.await.expect("in time").unwrap();
    let check = "py-greeter; python3 -c 'import greeter; print(greeter.word())'; \
        touch /opt/packages/x 2>&1 | grep -c 'Read-only file system'";
    assert_eq!(
        text(&run(&sandbox, check).await),
        "from the wheel\nfrom the wheel\n1"
    );
    nothing_is_left(&host);
}

/// runtime EN-14, security INP-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_14_an_image_takes_the_place_of_the_hosts_system() {
    let repository = Repository::new();
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
set -eu
mkdir -p root/usr/bin root/etc root/opt
copy() { mkdir -p "root$(dirname "$2")"; cp -L "$1" "root$2"; }
libraries() { for library in $(ldd "$1" | grep -o '/[^ ]*'); do copy "$library" "/usr${library#/usr}"; done; }
for program in bash cat ls mkdir chmod; do copy /usr/bin/$program /usr/bin/$program; libraries /usr/bin/$program; done
libraries "$SANDBOXD"
for link in bin lib lib64; do mkdir -p root/usr/$link; ln -s usr/$link root/$link; done
# A package manager that knows one package.
cat > root/usr/bin/python3 <<'END'
#!/bin/bash
[ "$*" = "-m pip install greeter" ] || exit 1
mkdir -p /usr/local/bin
echo '#!/bin/bash
echo from the script' > /usr/local/bin/py-greeter
chmod 755 /usr/local/bin/py-greeter
END
chmod 755 root/usr/bin/python3
echo small > root/opt/name
tar -C root -cf image.tar .
"#;
    let made = Command::new("sh")
        .args(["-c", script])
        .env("SANDBOXD", crate::host::program("manyhands-sandboxd"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let host = repository.host_with(|config| {
        config.image = Some(folder.path().join("image.tar"));
    });
    // The repository is shown below /opt, which then belongs to the operator.
    let plain = host.sandbox("sesn_a").await;
    assert_eq!(
        text(&run(&plain, "ls /usr/bin; ls /opt; cat /etc/hostname").await),
        "bash\ncat\nchmod\nls\nmkdir\npython3\nrepository\nsandbox"
    );
    let wanted = recipe("sesn_b", &packages(&[], &["greeter"]));
    let sandbox = tokio::time::timeout(PATIENCE, host.provider.provision(&wanted));
    let sandbox = sandbox.await.expect("in time").unwrap();
    assert_eq!(
        text(
            &run(
                &sandbox,
                "py-greeter; cat /opt/name; ls /opt/repository/Packages"
            )
            .await
        ),
        "from the script\nsmall\n/opt/repository/Packages"
    );
}

/// runtime EN-7, security SBX-8: what waits for a session has its environment's packages, and they stay for as long.
#[tokio::test]
async fn en_7_a_sandbox_that_waited_has_the_packages() {
    let repository = Repository::new();
    let host = repository.host_with(|config| config.warm = 1);
    let wanted = packages(&[], &["greeter"]);
    let recipe = |session| Recipe {
        environment_id: Some("env_a".to_owned()),
        ..recipe(session, &wanted)
    };
    let first = recipe("sesn_0");
    let made = tokio::time::timeout(PATIENCE, host.provider.provision(&first)).await;
    made.expect("it ends").unwrap();
    host.provider.refilled().await;
    let waits = crate::pool::waiting(&host);
    assert_eq!(waits.len(), 1);
    host.provider.destroy("sesn_0").await.unwrap();
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(layers(&host).len(), 1, "what waits has it");
    let sandbox = host.provider.provision(&recipe("sesn_a")).await.unwrap();
    assert!(!crate::pool::waiting(&host).contains(&waits[0]), "taken");
    assert_eq!(text(&run(&sandbox, "py-greeter").await), "from the wheel");
    host.provider.close().await;
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(layers(&host).len(), 1, "the session has it");
    host.provider.destroy("sesn_a").await.unwrap();
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(layers(&host).len(), 0);
}
