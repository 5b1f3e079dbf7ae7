//! `[environments]`: what the sandboxes of environments are made of beside what the environments say.

use std::path::PathBuf;

use manyhands_brain::Provisioning;
use manyhands_hands::provider::namespace::{Image, Sources};
use serde::Deserialize;

use super::{Error, wrong};

/// What sandboxes are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environments {
    /// The system that sandboxes see in the place of this host's: a folder, a tarball, or a folder in OCI layout.
    pub image: Option<PathBuf>,
    /// Where package managers go.
    pub sources: Sources,
    /// When a session's first sandbox is made.
    pub provisioning: Provisioning,
    /// How many started sandboxes wait for the sessions of an environment that is in use.
    pub warm: u32,
}

/// The most of them: each has processes, memory and a file system.
const WARM: u32 = 64;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EnvironmentsSection {
    image: Option<PathBuf>,
    sources: SourcesSection,
    overlap: bool,
    provision_first: bool,
    warm: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SourcesSection {
    apt: Option<Vec<String>>,
    cargo: Option<String>,
    gem: Option<String>,
    go: Option<String>,
    npm: Option<String>,
    pip: Option<String>,
}

impl From<SourcesSection> for Sources {
    fn from(section: SourcesSection) -> Self {
        Self {
            apt: section.apt,
            cargo: section.cargo,
            gem: section.gem,
            go: section.go,
            npm: section.npm,
            pip: section.pip,
        }
    }
}

/// Where the package managers go that have one place each, by their names.
pub(super) fn urls(sources: &Sources) -> [(&'static str, &Option<String>); 5] {
    [
        ("cargo", &sources.cargo),
        ("gem", &sources.gem),
        ("go", &sources.go),
        ("npm", &sources.npm),
        ("pip", &sources.pip),
    ]
}

impl EnvironmentsSection {
    /// With or without containers for sandboxes.
    pub(super) fn effective(self, containers: bool) -> Result<Environments, Error> {
        if let Some(image) = &self.image {
            Image::check(image).map_err(|why| wrong("environments.image", why))?;
        }
        let sources = Sources::from(self.sources);
        // Each is one argument or one line: what breaks out of it would be something else.
        let plain = |name: &str, text: &str| match text.chars().any(char::is_control) {
            true => Err(wrong(
                format!("environments.sources.{name}"),
                "must be one line",
            )),
            false => Ok(()),
        };
        for line in sources.apt.iter().flatten() {
            plain("apt", line)?;
        }
        for (name, url) in urls(&sources) {
            url.as_deref().map_or(Ok(()), |url| plain(name, url))?;
        }
        if containers && self.warm > 0 {
            return Err(wrong("environments.warm", "is for name spaces"));
        }
        if self.warm > WARM {
            return Err(wrong(
                "environments.warm",
                format!("must be at most {WARM}"),
            ));
        }
        let provisioning = match (self.overlap, self.provision_first) {
            (true, true) => {
                let why = "has no effect with environments.provision_first: choose one";
                return Err(wrong("environments.overlap", why));
            }
            (true, false) => Provisioning::BesideFirstRequest,
            (false, true) => Provisioning::BeforeFirstRequest,
            (false, false) => Provisioning::AtFirstCall,
        };
        Ok(Environments {
            provisioning,
            warm: self.warm,
            image: self.image,
            sources,
        })
    }
}
