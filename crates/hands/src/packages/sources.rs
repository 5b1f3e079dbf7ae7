//! Where package managers go: as the operator says, else as the host's own configuration does (runtime EN-11). Credentials
//! stay behind: builds run what strangers wrote.

use std::fs;
use std::path::{Path, PathBuf};

use url::Url;

/// Where package managers go. What is absent is the manager's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Lines of a `sources.list`. Absent: those of the host, or of the image.
    pub apt: Option<Vec<String>>,
    /// The index of crates, for example `sparse+https://crates.example.org/`.
    pub cargo: Option<String>,
    /// The source of gems.
    pub gem: Option<String>,
    /// As `GOPROXY`.
    pub go: Option<String>,
    /// The registry of Node packages.
    pub npm: Option<String>,
    /// The index of Python packages.
    pub pip: Option<String>,
}

impl Sources {
    /// What is absent, as the host is configured for whoever runs this server.
    #[must_use]
    pub fn or_of_host(self) -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let from = |names: &[&str], files: &[PathBuf], keys: &[&str]| {
            let named = names.iter().find_map(|name| std::env::var(name).ok());
            let found = named.or_else(|| {
                files
                    .iter()
                    .find_map(|path| setting(&text(path.clone()), keys))
            });
            found.and_then(|url| without_credentials(&url))
        };
        let etc = Path::new("/etc");
        Self {
            apt: self.apt,
            cargo: self.cargo,
            gem: self.gem,
            go: self
                .go
                .or_else(|| from(&["GOPROXY"], &[home.join(".config/go/env")], &["GOPROXY"])),
            npm: self.npm.or_else(|| {
                from(
                    &["npm_config_registry", "NPM_CONFIG_REGISTRY"],
                    &[home.join(".npmrc"), etc.join("npmrc")],
                    &["registry"],
                )
            }),
            pip: self.pip.or_else(|| {
                from(
                    &["PIP_INDEX_URL"],
                    &[
                        home.join(".config/pip/pip.conf"),
                        home.join(".pip/pip.conf"),
                        etc.join("pip.conf"),
                    ],
                    &["index-url", "index_url"],
                )
            }),
        }
    }

    /// The hosts that these sources name, each once: what an environment opens that allows package managers (runtime EN-11).
    pub fn hosts(&self) -> Vec<String> {
        let apt = self.apt.clone().unwrap_or_else(|| {
            let mut lists = vec![PathBuf::from("/etc/apt/sources.list")];
            let more = fs::read_dir("/etc/apt/sources.list.d")
                .into_iter()
                .flatten();
            lists.extend(more.flatten().map(|entry| entry.path()));
            lists.sort();
            let texts = lists
                .iter()
                .filter_map(|path| fs::read_to_string(path).ok());
            texts
                .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
                .collect()
        });
        let mut words: Vec<String> = Vec::new();
        for line in apt
            .iter()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            words.extend(line.split_whitespace().map(str::to_owned));
        }
        for source in [&self.cargo, &self.gem, &self.go, &self.npm, &self.pip] {
            words.extend(
                source
                    .iter()
                    .flat_map(|source| source.split(','))
                    .map(str::to_owned),
            );
        }
        let host = |word: &String| {
            let url = Url::parse(word.trim_start_matches("sparse+")).ok()?;
            let web = matches!(url.scheme(), "http" | "https");
            url.host_str().filter(|_| web).map(str::to_owned)
        };
        let mut hosts: Vec<String> = words.iter().filter_map(host).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// The settings of cargo that lead it there.
    pub(crate) fn cargo_settings(&self) -> Vec<String> {
        let settings = self.cargo.as_ref().map(|index| {
            let index = index.replace(['\\', '"'], "");
            [
                "source.crates-io.replace-with=\"operator\"".to_owned(),
                format!("source.operator.registry=\"{index}\""),
            ]
        });
        settings.into_iter().flatten().collect()
    }

    /// The variables that lead the others there.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let named = [
            ("GOPROXY", &self.go),
            ("npm_config_registry", &self.npm),
            ("PIP_INDEX_URL", &self.pip),
        ];
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
            .collect()
    }
}

/// The value of the first line `key = value` with one of these keys.
fn setting(text: &str, keys: &[&str]) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        keys.contains(&key.trim())
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A source without what it says of its user. A list of sources, as Go has it, stays one.
pub(crate) fn without_credentials(source: &str) -> Option<String> {
    let part = |part: &str| match Url::parse(part) {
        Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
            url.set_username("").ok()?;
            url.set_password(None).ok()?;
            Some(url.to_string())
        }
        Ok(_) => None,
        // A word such as `direct`.
        Err(_) => Some(part.to_owned()),
    };
    let parts: Option<Vec<_>> = source.split(',').map(|each| part(each.trim())).collect();
    parts.map(|parts| parts.join(","))
}

/// Lines of apt's sources without credentials; those of other schemes than apt's usual ones are left out.
pub(crate) fn apt_lines(text: &str) -> String {
    let word = |word: &str| match Url::parse(word) {
        Ok(mut url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            let stripped = url.set_username("").and_then(|()| url.set_password(None));
            stripped.map_or_else(|()| String::new(), |()| url.to_string())
        }
        _ => word.to_owned(),
    };
    let lines = text.lines().map(|line| {
        // What begins with a blank continues a key of several lines.
        if line.starts_with([' ', '\t', '#']) {
            line.to_owned()
        } else {
            line.split(' ').map(word).collect::<Vec<_>>().join(" ")
        }
    });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn en_11_the_hosts_of_package_managers_are_those_of_their_sources() {
        let sources = Sources {
            apt: Some(vec![
                "# deb http://old.example/ x".to_owned(),
                "deb [trusted=yes] https://deb.example/debian stable main".to_owned(),
                "deb file:/srv ./".to_owned(),
                "URIs: http://b.example/x http://a.example".to_owned(),
            ]),
            cargo: Some("sparse+https://crates.example/index/".to_owned()),
            go: Some("https://go.example,direct".to_owned()),
            pip: Some("https://a.example/simple/".to_owned()),
            ..Sources::default()
        };
        let hosts = [
            "a.example",
            "b.example",
            "crates.example",
            "deb.example",
            "go.example",
        ];
        assert_eq!(sources.hosts(), hosts);
    }

    #[test]
    fn en_11_sources_are_read_without_credentials() {
        #[track_caller]
        fn check(given: &str, expected: Option<&str>) {
            assert_eq!(without_credentials(given).as_deref(), expected, "{given}");
        }
        check(
            "https://u:p@h.example/simple",
            Some("https://h.example/simple"),
        );
        check("https://token@h.example/", Some("https://h.example/"));
        check(
            "https://u:p@a.example,https://b.example,direct",
            Some("https://a.example/,https://b.example/,direct"),
        );
        check("file:///etc", None);
        let found = setting(
            "[global]\ncert = x\nindex-url = https://h.example\n",
            &["index-url"],
        );
        assert_eq!(found.as_deref(), Some("https://h.example"));
        assert_eq!(setting("registry-x=1\n", &["registry"]), None);
        let apt = "deb [signed-by=/k] https://u:p@h.example/debian bookworm main\n# note\nURIs: http://u@i.example/x\n";
        assert_eq!(
            apt_lines(apt),
            "deb [signed-by=/k] https://h.example/debian bookworm main\n# note\nURIs: http://i.example/x\n"
        );
    }
}
