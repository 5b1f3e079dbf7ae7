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
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EnvironmentsSection {
    image: Option<PathBuf>,
    sources: SourcesSection,
    overlap: bool,
    provision_first: bool,
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

impl EnvironmentsSection {
    pub(super) fn effective(self) -> Result<Environments, Error> {
        if let Some(image) = &self.image {
            Image::check(image).map_err(|why| wrong("environments.image", why))?;
        }
        let SourcesSection {
            apt,
            cargo,
            gem,
            go,
            npm,
            pip,
        } = self.sources;
        // Each is one argument or one line: what breaks out of it would be something else.
        let plain = |name: &str, text: &str| match text.chars().any(char::is_control) {
            true => Err(wrong(
                format!("environments.sources.{name}"),
                "must be one line",
            )),
            false => Ok(()),
        };
        for line in apt.iter().flatten() {
            plain("apt", line)?;
        }
        for (name, text) in [
            ("cargo", &cargo),
            ("gem", &gem),
            ("go", &go),
            ("npm", &npm),
            ("pip", &pip),
        ] {
            if let Some(text) = text {
                plain(name, text)?;
            }
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
            image: self.image,
            sources: Sources {
                apt,
                cargo,
                gem,
                go,
                npm,
                pip,
            },
        })
    }
}
