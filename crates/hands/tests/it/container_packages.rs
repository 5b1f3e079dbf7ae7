//! Packages of environments in containers: installed once by the real manager of the image, from a local source.

use std::sync::Arc;

use manyhands_hands::packages::Manager;
use manyhands_hands::provider::container::{Config, Doorway};
use manyhands_hands::provider::namespace::Sources;
use manyhands_hands::{Error, Gate, Provider};
use manyhands_protocol::environment::Packages;
use manyhands_testkit::containers::{Engine, IMAGE};
use rustix::fs::{FlockOperation, flock};

use crate::containers::Containers;
use crate::door::{Porter, limited};
use crate::host::{run, text};
use crate::packages::{PATIENCE, Repository, listener, packages, recipe};

/// The engine's image with a repository for apt in it.
const SHELF: &str = "localhost/with-repository";

fn host_with(change: impl FnOnce(&mut Config)) -> Containers {
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        let (repository, engine) = (Repository::new(), Engine::shared());
        let from = format!("{}/.", repository.path().display());
        engine.podman(&["create", "--name", "shelf", IMAGE, "true"]);
        engine.podman(&["cp", &from, "shelf:/opt/repository"]);
        engine.podman(&["commit", "--quiet", "shelf", SHELF]);
        engine.podman(&["rm", "shelf"]);
    });
    Containers::with(|config| {
        config.image = Some(SHELF.to_owned());
        config.sources = Sources {
            apt: Some(vec!["deb [trusted=yes] file:/opt/repository ./".to_owned()]),
            ..Sources::default()
        };
        change(config);
    })
}

/// The images of packages that the engine has for this data directory.
fn images(host: &Containers) -> usize {
    let format = "--format={{.Repository}}";
    let all = host.engine.podman(&["images", format]);
    let own = format!("localhost/manyhands-packages-{}", host.id());
    all.lines().filter(|line| *line == own).count()
}

/// Nothing of a build is there any more.
fn nothing_is_left(host: &Containers) {
    let containers = host.listed("{{.Names}}");
    let building = containers.iter().any(|name| name.contains("making"));
    assert!(!building, "{containers:?}");
    let entries = std::fs::read_dir(host.data.path().join("containers")).unwrap();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with(".making"), "{name}");
    }
}

/// runtime EN-2, EN-7, security SBX-1, SBX-8: installed by root once, seen by all sessions, changed by none, and gone when
/// neither an environment nor a session wants it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_7_packages_are_installed_once_in_an_image_of_containers() {
    let host = host_with(|_| {});
    for manager in Manager::ALL {
        assert_eq!(host.provider.installs(manager).await.err(), None);
    }
    let wanted = packages(&["greeter=1.0-1"], &[]);
    let (told, heard) = listener();
    let furnish = |session: &'static str| {
        let (provider, told) = (host.provider.clone(), Arc::clone(&told));
        let recipe = recipe(session, &wanted);
        async move { provider.furnish(&recipe, &told).await }
    };
    let both = async { tokio::join!(furnish("sesn_a"), furnish("sesn_b")) };
    let (one, other) = tokio::time::timeout(PATIENCE, both).await.expect("in time");
    one.unwrap();
    other.unwrap();
    let heard = heard.lock().unwrap().clone();
    let step = "installing apt packages, step 2 of 3";
    assert!(heard.iter().any(|text| text.starts_with(step)), "{heard:?}");
    assert_eq!(images(&host), 1);
    nothing_is_left(&host);
    let check = "greeter; cat /var/lib/greeter/made; stat -c %U /var/lib/greeter; touch /usr/bin/x 2>&1 | grep -c Read-only; \
                 id -u; ls /tmp /var/lib/apt/lists; echo $NODE_PATH; env | grep -c DEBIAN_FRONTEND";
    for session in ["sesn_a", "sesn_b"] {
        let sandbox = host.provider.provision(&recipe(session, &wanted)).await;
        let said = run(&sandbox.unwrap(), check).await;
        assert_eq!(
            text(&said),
            "greeter hello\nmade by 0\ndaemon\n1\n1000\n/tmp:\n\n/var/lib/apt/lists:\n/usr/local/lib/node_modules\n0"
        );
    }
    // Without packages there are none.
    let plain = host.sandbox("sesn_c").await;
    let said = run(&plain, "command -v greeter || echo none").await;
    assert_eq!(text(&said), "none");
    host.provider
        .unfurnish(std::slice::from_ref(&wanted))
        .await
        .unwrap();
    host.provider.destroy("sesn_a").await.unwrap();
    host.provider.release("sesn_b").await.unwrap();
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(images(&host), 1, "a session at rest wants it");
    host.provider.destroy("sesn_b").await.unwrap();
    host.provider.unfurnish(&[wanted]).await.unwrap();
    assert_eq!(images(&host), 1, "an environment wants it");
    host.provider.unfurnish(&[]).await.unwrap();
    assert_eq!(images(&host), 0);
}

/// runtime EN-3: where its files do not go with it, a container at rest is made anew for what its environment has become.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_3_a_container_at_rest_gets_the_packages_that_its_environment_has_by_then() {
    let host = host_with(|_| {});
    let plain = host.sandbox("sesn_a").await;
    run(&plain, "echo kept > f; mkdir ~/d").await;
    let wanted = recipe("sesn_a", &packages(&["greeter"], &[]));
    let living = host.provider.provision(&wanted).await.unwrap();
    assert_eq!(living.instance(), plain.instance(), "it lives");
    host.provider.release("sesn_a").await.unwrap();
    let made = tokio::time::timeout(PATIENCE, host.provider.provision(&wanted));
    let made = made.await.expect("in time").unwrap();
    let said = run(&made, "cat f; ls -d ~/d; command -v greeter || echo none").await;
    let greeter = match rustix::process::geteuid().is_root() {
        true => "/usr/bin/greeter",
        false => "none",
    };
    assert_eq!(text(&said), format!("kept\n/home/agent/d\n{greeter}"));
}

/// runtime EN-9, security NET-1: a failure says whose it is and why, and leaves nothing; a build has a door of its own, with the
/// policy of the environment; where there can be none, nothing is installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_9_a_failed_build_says_why_and_its_way_out_is_the_environments() {
    for door in [Doorway::Folder, Doorway::Streams] {
        failed_build(door).await;
    }
}

async fn failed_build(door: Doorway) {
    let porter = Porter::new("gate");
    let gate: Arc<dyn Gate> = porter.clone();
    let host = host_with(|config| {
        config.gate = Some(gate);
        config.door = door;
        config.sources.apt = Some(vec!["deb http://a.example.com/debian x main".to_owned()]);
    });
    let (told, _) = listener();
    let mut wanted = limited("sesn_a", 1, "a.example.com");
    wanted.packages = packages(&["greeter"], &[]);
    let failed = tokio::time::timeout(PATIENCE, host.provider.furnish(&wanted, &told));
    let failed = failed.await.expect("in time").unwrap_err();
    let Error::Packages { manager, why } = &failed else {
        panic!("{failed:?}");
    };
    assert_eq!(*manager, "apt");
    assert!(why.contains("a.example.com"), "{why}");
    let opened = porter.opened();
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(opened[0].0.starts_with("packages-"), "{opened:?}");
    assert_eq!(opened[0].1, wanted.network);
    assert_eq!((porter.open_doors(), images(&host)), (0, 0));
    nothing_is_left(&host);
    // The image has Python and no pip.
    wanted.packages = packages(&[], &["greeter"]);
    let failed = host.provider.furnish(&wanted, &told).await.unwrap_err();
    assert!(
        matches!(&failed, Error::Packages { manager: "pip", why } if why.contains("No module named pip")),
        "{failed:?}"
    );
    let hostile = Packages {
        npm: vec!["--prefix=/".to_owned()],
        ..Packages::default()
    };
    let refused = recipe("sesn_a", &hostile);
    let refused = host.provider.furnish(&refused, &told).await;
    assert!(matches!(refused, Err(Error::Refused(_))));

    let apart = host_with(|config| {
        config.shared_folders = false;
        config.door = Doorway::Folder;
    });
    assert!(apart.provider.installs(Manager::Apt).await.is_err());
    let refused = recipe("sesn_a", &packages(&["greeter"], &[]));
    let refused = apart.provider.furnish(&refused, &told).await.unwrap_err();
    assert!(matches!(refused, Error::Packages { manager: "apt", .. }));
}

/// security SBX-8: a build whose server was killed is removed by the next one, and no other build is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_8_what_a_killed_build_has_left_is_removed_and_a_running_one_is_not() {
    let host = host_with(|_| {});
    host.sandbox("sesn_a").await;
    let (id, containers) = (host.id(), host.data.path().join("containers"));
    let make = |site: &str| {
        let labels = [
            format!("--label=manyhands.data={id}"),
            format!("--label=manyhands.site={site}"),
        ];
        let name = format!("--name=manyhands-making-{id}-{site}");
        host.engine
            .podman(&["create", &labels[0], &labels[1], &name, SHELF, "true"]);
    };
    for site in ["kept", "left", "bare"] {
        make(site);
    }
    let folder = |site: &str| containers.join(format!(".making-{site}"));
    for site in ["kept", "left", "empty"] {
        std::fs::create_dir(folder(site)).unwrap();
    }
    let lock = std::fs::File::create(folder("kept").join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    host.provider.sweep(&[]).await.unwrap();
    let mut left = host.listed("{{.Names}}");
    left.retain(|name| name.contains("making"));
    assert_eq!(left, [format!("manyhands-making-{id}-kept")]);
    assert!(folder("kept").exists() && !folder("left").exists() && !folder("empty").exists());
    assert_eq!(host.provider.sessions().await.unwrap(), ["sesn_a"]);
    drop(lock);
    host.provider.sweep(&[]).await.unwrap();
    nothing_is_left(&host);
}
