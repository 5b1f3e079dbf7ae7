//! The packages of environments in containers: an image made from that of sandboxes, by root in a container of its own that
//! ends with the build (runtime EN-7, EN-9). An engine keeps an image for as long as a container is made from it; so packages
//! stay for as long as an environment or a session wants them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptions, ListImagesOptions, RemoveImageOptions, UploadToContainerOptions,
};
use manyhands_protocol::environment::Packages;

use super::doorway::Passage;
use super::engine::{failed, status};
use super::exec::Program;
use super::host::Host;
use super::image::{self, Image};
use super::site::Site;
use super::spec::{self, FILTERS, SANDBOXD, Shared, TRUST, Way};
use super::{Doorway, carriers};
use crate::Error;
use crate::packages::plan::{APT, Kind, NO_SERVICES, Step, environment, steps};
use crate::packages::{self, Manager};
use crate::provider::builds::{Failure, Heard, Telling, each_line, within};
use crate::provider::door::{self, Opened};
use crate::provider::namespace::chain;
use crate::provider::{Limits, Missing, Network, Recipe, Told};

/// Changes when the same packages would be installed differently.
const EDITION: u32 = 1;

/// The name of the images, which the data directory's id ends; the tag tells the content.
const NAME: &str = "localhost/manyhands-packages";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSpace { .. } => Self::NoSpace,
            Error::Packages { manager, why } => Self::Packages { manager, why },
            error => Self::Host(chain(&error)),
        }
    }
}

impl Host {
    /// Whether packages can be installed here: builds need the way out.
    pub(super) fn installs(&self, manager: Manager) -> Result<(), Missing> {
        if self.config.shared_folders || self.config.door != Doorway::Folder {
            return Ok(());
        }
        Err(Missing {
            what: format!("{manager} packages cannot be installed on this server"),
            why: "its container engine does not see its folders, and the way out is to be in one"
                .to_owned(),
            install: "set sandbox.container.door to \"auto\", or put the programs into the image"
                .to_owned(),
        })
    }

    async fn images(&self) -> Result<String, Error> {
        Ok(format!("{NAME}-{}", self.parts().await?.id))
    }

    /// The image with these packages, whether it is there or not.
    async fn image_with(&self, packages: &Packages) -> Result<Image, Error> {
        let base = self.image().await?;
        if packages::is_empty(packages) {
            return Ok(base);
        }
        // What is stored was checked when it came; what is handed to a manager is checked here.
        packages::check(packages)
            .map_err(|refusal| Error::Refused(format!("{}: {}", refusal.at, refusal.why)))?;
        let lists = Manager::ALL.map(|manager| (manager.name(), manager.list(packages)));
        let sources = &self.sources;
        let content = format!("{EDITION}\n{}\n{sources:?}\n{lists:?}", base.name);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok(Image {
            name: format!("{}:{}", self.images().await?, hex.collect::<String>()),
            packaged: true,
            ..base
        })
    }

    /// The image for a recipe's sandbox; `None` when its packages have to be installed first.
    pub(super) async fn image_of(&self, recipe: &Recipe) -> Result<Option<Image>, Error> {
        let image = self.image_with(&recipe.packages).await?;
        let there = !image.packaged || self.engine.has_image(&image.name).await?;
        Ok(there.then_some(image))
    }

    /// Builds the image of a recipe if there is none; see [`Provider::furnish`](crate::Provider::furnish).
    pub(super) async fn furnish(
        self: &Arc<Self>,
        recipe: &Recipe,
        told: Option<&Told>,
    ) -> Result<(), Error> {
        if self.image_of(recipe).await?.is_some() {
            return Ok(());
        }
        let mut wanting = Manager::ALL.into_iter();
        let wanting = wanting.find(|manager| !manager.list(&recipe.packages).is_empty());
        if let Some(manager) = wanting
            && let Err(missing) = self.installs(manager)
        {
            return Err(Error::Packages {
                manager: manager.name(),
                why: missing.why,
            });
        }
        let image = self.image_with(&recipe.packages).await?;
        let (host, packages, network) = (
            Arc::clone(self),
            recipe.packages.clone(),
            recipe.network.clone(),
        );
        let name = image.name.clone();
        let build = |telling| async move {
            let site = Site::new(&host.containers()).await?;
            let built = host.build(&site, &image, &packages, &network, &telling);
            let graph = host.engine.root().await;
            let built = within(graph.as_ref(), built).await;
            site.close(&host.engine).await?;
            built
        };
        self.builds.wait(&name, told, build).await
    }

    async fn build(
        &self,
        site: &Site,
        image: &Image,
        packages: &Packages,
        network: &Network,
        telling: &Telling,
    ) -> Result<(), Failure> {
        let parts = self.parts().await?;
        let (_, tag) = image.name.rsplit_once(':').unwrap_or_default();
        let mut door = match (&self.config.gate, &parts.trust, self.passage().await?) {
            (Some(gate), Some(trusted), Some(passage)) => {
                let name = format!("packages-{}", &tag[tag.len().saturating_sub(12)..]);
                let opened = Opened::new(&**gate, &site.held.0, &name, network)?;
                let way = match passage {
                    Passage::Folder => Way::Folder(Shared {
                        door: std::fs::canonicalize(site.path.join(door::FOLDER))?,
                        trust: std::fs::canonicalize(&trusted.folder)?,
                    }),
                    Passage::Streams => Way::Streams,
                };
                Some((opened, way))
            }
            _ => None,
        };
        let way = door.as_ref().map(|(_, way)| way);
        let base = self.image().await?;
        let body = spec::building(&self.config, &base, &Limits::default(), way);
        site.create(&self.engine, &parts.id, body).await?;
        self.fill(&site.name).await?;
        self.engine.start(&site.name).await?;
        if let Some((opened, Way::Streams)) = &mut door {
            let folder = door::make(&site.held.0)?;
            opened.carried_by(carriers::start(&self.engine, &site.name, folder));
        }
        let way = door.as_ref().map(|(_, way)| way);
        let steps = steps(packages, Kind::System, &self.sources);
        for (done, step) in steps.iter().enumerate() {
            let numbers = (done + 1, steps.len());
            self.step(&site.name, step, numbers, way, telling).await?;
        }
        // Nothing is left that could still write.
        self.engine.kill(&site.name).await?;
        drop(door);
        let (repo, tag) = (self.images().await?, tag.to_owned());
        let options = CommitContainerOptions {
            container: Some(site.name.clone()),
            repo: Some(repo),
            tag: Some(tag),
            pause: false,
            ..CommitContainerOptions::default()
        };
        let docker = self.engine.docker().await?;
        let kept = docker.commit_container(options, ContainerConfig::default());
        let kept = kept.await;
        kept.map_err(|error| failed("keep the packages", &error))?;
        Ok(())
    }

    /// Puts what managers read into a container that was not started yet.
    async fn fill(&self, name: &str) -> Result<(), Error> {
        let mut read = vec![
            ("etc/apt/apt.conf.d/90sandbox", APT.to_owned(), 0o644),
            ("usr/sbin/policy-rc.d", NO_SERVICES.to_owned(), 0o755),
        ];
        if let Some(lines) = &self.sources.apt {
            read.push(("etc/apt/sources.list", lines.join("\n") + "\n", 0o644));
        }
        let packed = image::files(&read)
            .map_err(|error| Error::io("pack what package managers read", error))?;
        let options = UploadToContainerOptions {
            path: "/".to_owned(),
            ..UploadToContainerOptions::default()
        };
        let docker = self.engine.docker().await?;
        let body = bollard::body_full(packed.into());
        let filled = docker.upload_to_container(name, Some(options), body).await;
        filled.map_err(|error| failed("tell package managers where to go", &error))
    }

    /// Runs one step; its last words are the error's.
    async fn step(
        &self,
        name: &str,
        step: &Step,
        numbers: (usize, usize),
        way: Option<&Way>,
        telling: &Telling,
    ) -> Result<(), Failure> {
        let mut heard = Heard::new(step.manager, numbers, telling);
        let mut words = vec![SANDBOXD, "run"];
        if self.parts().await?.filtered {
            words.extend(FILTERS.iter().flat_map(|path| ["--filter", path]));
        }
        // The other way belongs to process 1.
        if let Some(Way::Folder(_)) = way {
            words.extend(["--door", door::SOCKET]);
        }
        words.push("--");
        words.extend(step.words.iter().map(String::as_str));
        let mut variables = environment(Kind::System, &self.sources);
        if let Some(way) = way {
            variables.extend(way.environment());
            // Node alone would not know what this host trusts beside the usual.
            let inside = match way {
                Way::Folder(_) => door::TRUST,
                Way::Streams => TRUST,
            };
            let roots = format!("{inside}/roots.pem");
            variables.push(("NODE_EXTRA_CA_CERTS".to_owned(), roots));
        }
        let program = Program {
            user: 0,
            words: &words,
            variables: &variables,
        };
        let (streams, id) = self
            .engine
            .begin(name, &program)
            .await
            .map_err(Failure::Host)?;
        each_line(streams.output, |line| heard.line(line)).await?;
        match self.engine.ended_with(&id).await? {
            0 => Ok(()),
            code => Err(heard.failure(format!("{} ended: exit status {code}", step.words[0]))),
        }
    }

    /// Removes the images that nobody wants.
    pub(super) async fn unfurnish(&self, wanted: &[Packages]) -> Result<(), Error> {
        if !self.containers().exists() {
            return Ok(());
        }
        let mut names = HashSet::new();
        for packages in wanted {
            // One that is refused now was built by an earlier version, if at all.
            if let Ok(image) = self.image_with(packages).await {
                names.insert(image.name);
            }
        }
        let docker = self.engine.docker().await?;
        let options = ListImagesOptions {
            filters: Some(HashMap::from([(
                "reference".to_owned(),
                vec![self.images().await?],
            )])),
            ..ListImagesOptions::default()
        };
        let listed = docker.list_images(Some(options)).await;
        let listed = listed.map_err(|error| failed("list images", &error))?;
        let own = self.images().await? + ":";
        for name in listed.into_iter().flat_map(|image| image.repo_tags) {
            if !name.starts_with(&own) || names.contains(&name) {
                continue;
            }
            let options = Some(RemoveImageOptions::default());
            match docker.remove_image(&name, options, None).await {
                Ok(_) => tracing::info!(name, "removed packages that nobody wants"),
                // A session's container is made from it; or another server was faster.
                Err(error) if matches!(status(&error), Some(409 | 404)) => {}
                Err(error) => return Err(failed(&format!("remove {name}"), &error)),
            }
        }
        Ok(())
    }
}
