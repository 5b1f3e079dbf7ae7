//! Packages → the commands that install them, in the managers' order (runtime EN-7). Pure.
//!
//! A package is one argument behind `--`-less options that were chosen here; that none of them is an option itself is what
//! [`packages::check`](crate::packages::check) has made sure of.

use manyhands_protocol::environment::Packages;

use super::Manager;
use super::sources::Sources;

/// Where packages go when they cannot go where the system's own are.
pub(crate) const PREFIX: &str = "/opt/packages";

/// How apt works in a build.
pub(crate) const APT: &str = "APT::Sandbox::User \"root\";\nAPT::Install-Recommends \"false\";\nAPT::Cmd::Pattern-Only \"true\";\n\
    Acquire::Languages \"none\";\nAcquire::Retries \"2\";\nDpkg::Use-Pty \"false\";\n\
    Dpkg::Options { \"--force-confdef\"; \"--force-confold\"; };\n";

/// Services of packages are not started: nobody would end them.
pub(crate) const NO_SERVICES: &str = "#!/bin/sh\nexit 101\n";

/// What package managers and the scripts of packages need of root.
pub(crate) const CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What apt leaves behind that no session needs.
const LEFT_BEHIND: &str =
    "rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /var/cache/ldconfig/*";

/// Where a layer's packages lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Among those of the system, as on any machine.
    System,
    /// Below [`PREFIX`]; of some managers none.
    Prefix,
}

impl Kind {
    /// Whether a manager can install into such a layer.
    pub(crate) fn takes(self, manager: Manager) -> bool {
        self == Self::System || !matches!(manager, Manager::Apt | Manager::Gem)
    }

    /// What sessions see in their environment beside what they see anyway: names, and values that go before those that
    /// are there, separated by a colon.
    pub(crate) fn paths(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::System => &[("NODE_PATH", "/usr/local/lib/node_modules")],
            Self::Prefix => &[
                ("PATH", "/opt/packages/bin:/opt/packages/python/bin"),
                ("PYTHONPATH", "/opt/packages/python"),
                ("NODE_PATH", "/opt/packages/lib/node_modules"),
            ],
        }
    }
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) manager: Manager,
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
}

/// The commands, in order.
pub(crate) fn steps(packages: &Packages, kind: Kind, sources: &Sources) -> Vec<Step> {
    let wanting = Manager::ALL.into_iter();
    let tidy = Step {
        manager: Manager::Apt,
        words: ["sh", "-c", LEFT_BEHIND].map(str::to_owned).to_vec(),
    };
    wanting
        .filter(|manager| !manager.list(packages).is_empty())
        .flat_map(|manager| {
            let commands = commands(manager, manager.list(packages), kind, sources);
            commands
                .into_iter()
                .map(move |words| Step { manager, words })
        })
        .chain((!packages.apt.is_empty()).then_some(tidy))
        .collect()
}

fn commands(manager: Manager, list: &[String], kind: Kind, sources: &Sources) -> Vec<Vec<String>> {
    let with_all = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned());
        vec![words.chain(list.iter().cloned()).collect::<Vec<_>>()]
    };
    match (manager, kind) {
        (Manager::Apt, _) => {
            let update = ["apt-get", "-q", "update"].map(str::to_owned).to_vec();
            let install = with_all(&["apt-get", "-q", "-y", "install"]);
            [vec![update], install].concat()
        }
        (Manager::Cargo, _) => {
            let root = match kind {
                Kind::System => "/usr/local",
                Kind::Prefix => PREFIX,
            };
            let mut words: Vec<String> = ["cargo", "install", "--root", root]
                .map(str::to_owned)
                .to_vec();
            for setting in sources.cargo_settings() {
                words.extend(["--config".to_owned(), setting]);
            }
            words.extend(list.iter().cloned());
            vec![words]
        }
        (Manager::Gem, _) => {
            let mut words = [
                "gem",
                "install",
                "--no-document",
                "--bindir",
                "/usr/local/bin",
            ]
            .map(str::to_owned)
            .to_vec();
            if let Some(source) = &sources.gem {
                words.extend(["--clear-sources", "--source", source].map(str::to_owned));
            }
            words.extend(list.iter().cloned());
            vec![words]
        }
        // Programs of several modules are not one command's.
        (Manager::Go, _) => {
            let versioned = |package: &String| match package.contains('@') {
                true => package.clone(),
                false => format!("{package}@latest"),
            };
            list.iter()
                .map(|package| vec!["go".to_owned(), "install".to_owned(), versioned(package)])
                .collect()
        }
        (Manager::Npm, _) => with_all(&["npm", "install", "--global", "--no-audit", "--no-fund"]),
        (Manager::Pip, Kind::System) => with_all(&["python3", "-m", "pip", "install"]),
        (Manager::Pip, Kind::Prefix) => with_all(&[
            "python3",
            "-m",
            "pip",
            "install",
            "--target",
            "/opt/packages/python",
        ]),
    }
}

/// The environment of the commands. Caches go to what ends with the build.
pub(crate) fn environment(kind: Kind, sources: &Sources) -> Vec<(String, String)> {
    let (prefix, programs) = match kind {
        Kind::System => ("/usr/local", "/usr/local/bin"),
        Kind::Prefix => (PREFIX, "/opt/packages/bin"),
    };
    let mut environment = vec![
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin:/usr/local/cargo/bin",
        ),
        ("HOME", "/tmp/home"),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("CARGO_HOME", "/tmp/cargo"),
        ("CARGO_TARGET_DIR", "/tmp/cargo-target"),
        ("GOPATH", "/tmp/go"),
        ("GOCACHE", "/tmp/go-cache"),
        ("GOFLAGS", "-modcacherw"),
        ("GOTOOLCHAIN", "local"),
        ("GOBIN", programs),
        ("npm_config_prefix", prefix),
        ("npm_config_cache", "/tmp/npm"),
        ("npm_config_update_notifier", "false"),
        ("npm_config_fetch_retries", "1"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("PIP_NO_INPUT", "1"),
        ("PIP_PROGRESS_BAR", "off"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect::<Vec<_>>();
    environment.extend(sources.environment());
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Packages {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Packages {
            pip: list(&["requests==2.32.3", "rich"]),
            apt: list(&["jq", "tree"]),
            npm: list(&["typescript"]),
            go: list(&["example.com/a", "example.com/b@v1.2.3"]),
            gem: list(&["rake"]),
            cargo: list(&["just@1.2.3"]),
            ..Packages::default()
        }
    }

    #[track_caller]
    fn check(kind: Kind, sources: &Sources, expected: &[&str]) {
        let lines: Vec<_> = steps(&packages(), kind, sources)
            .iter()
            .map(|step| step.words.join(" "))
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn en_7_managers_run_in_alphabetical_order() {
        let order: Vec<_> = steps(&packages(), Kind::System, &Sources::default())
            .iter()
            .map(|step| step.manager)
            .collect();
        let (tidy, order) = order.split_last().unwrap();
        assert_eq!(*tidy, Manager::Apt, "last of all");
        let mut sorted = order.to_vec();
        sorted.sort_by_key(|manager| manager.name());
        assert_eq!(order, sorted);
        check(
            Kind::System,
            &Sources::default(),
            &[
                "apt-get -q update",
                "apt-get -q -y install jq tree",
                "cargo install --root /usr/local just@1.2.3",
                "gem install --no-document --bindir /usr/local/bin rake",
                "go install example.com/a@latest",
                "go install example.com/b@v1.2.3",
                "npm install --global --no-audit --no-fund typescript",
                "python3 -m pip install requests==2.32.3 rich",
                &format!("sh -c {LEFT_BEHIND}"),
            ],
        );
        assert_eq!(
            steps(&Packages::default(), Kind::System, &Sources::default()),
            []
        );
    }

    #[test]
    fn en_7_without_a_range_of_users_packages_go_below_a_prefix() {
        let taken = Manager::ALL.map(|manager| Kind::Prefix.takes(manager));
        assert_eq!(taken, [false, true, false, true, true, true]);
        assert_eq!(
            Manager::ALL.map(|manager| Kind::System.takes(manager)),
            [true; 6]
        );
        let environment = environment(Kind::Prefix, &Sources::default());
        let value = |name: &str| {
            let found = environment.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("GOBIN"), Some("/opt/packages/bin"));
        assert_eq!(value("npm_config_prefix"), Some(PREFIX));
    }

    #[test]
    fn en_11_managers_go_where_the_operator_says() {
        let sources = Sources {
            cargo: Some("sparse+https://crates.example/index/".to_owned()),
            gem: Some("https://gems.example".to_owned()),
            ..Sources::default()
        };
        let steps = steps(&packages(), Kind::System, &sources);
        let line = |manager: Manager| {
            let step = steps.iter().find(|step| step.manager == manager);
            step.map(|step| step.words.join(" ")).unwrap_or_default()
        };
        assert_eq!(
            line(Manager::Cargo),
            "cargo install --root /usr/local --config source.crates-io.replace-with=\"operator\" \
             --config source.operator.registry=\"sparse+https://crates.example/index/\" just@1.2.3"
        );
        assert_eq!(
            line(Manager::Gem),
            "gem install --no-document --bindir /usr/local/bin --clear-sources --source https://gems.example rake"
        );
    }
}
