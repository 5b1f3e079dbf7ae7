//! `[sandbox.container]`: sandboxes in containers of Docker's or Podman's.

use std::path::PathBuf;

use manyhands_hands::provider::container::Doorway;
use serde::Deserialize;

use super::{Environment, Error, variable, wrong};

/// Where the engine is named if the file does not.
const ENDPOINT: &str = "DOCKER_HOST";

/// How containers are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The engine's socket; `None` tries the usual places.
    pub endpoint: Option<String>,
    /// The image, which the engine has already.
    pub image: String,
    /// Another run time than the engine's own choice.
    pub runtime: Option<String>,
    /// How a container's users are mapped, in the engine's words.
    pub userns: Option<String>,
    /// How many processors one sandbox may keep busy.
    pub cpus: Option<f64>,
    /// Whether the engine finds this server's folders at the same paths.
    pub shared_folders: bool,
    /// How clients inside get to the way out.
    pub door: Doorway,
    /// A `sandboxd` for the engine's processors.
    pub sandboxd: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ContainerSection {
    endpoint: Option<String>,
    image: Option<String>,
    runtime: Option<String>,
    userns: Option<String>,
    cpus: Option<f64>,
    shared_folders: Option<bool>,
    door: Option<String>,
    sandboxd: Option<PathBuf>,
}

impl ContainerSection {
    pub(super) fn effective(self, environment: Environment<'_>) -> Result<Container, Error> {
        let (name, endpoint) = match self.endpoint {
            Some(endpoint) => ("sandbox.container.endpoint", Some(endpoint)),
            None => (ENDPOINT, variable(environment, ENDPOINT)?),
        };
        // A socket's file says who may use it; an open port would make whoever reaches it root.
        let is_socket = |endpoint: &String| {
            endpoint
                .strip_prefix("unix://")
                .unwrap_or(endpoint)
                .starts_with('/')
        };
        if endpoint
            .as_ref()
            .is_some_and(|endpoint| !is_socket(endpoint))
        {
            return Err(wrong(
                name,
                "must be unix:///PATH; forward another host's engine to a socket here",
            ));
        }
        let image = self.image.filter(|image| !image.is_empty());
        let image = image.ok_or_else(|| {
            wrong(
                "sandbox.container.image",
                "is needed: an image that the container engine has",
            )
        })?;
        if self
            .cpus
            .is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus))
        {
            return Err(wrong(
                "sandbox.container.cpus",
                "must be between 0.01 and 1024",
            ));
        }
        let shared_folders = self.shared_folders.unwrap_or(true);
        let door = self.door.as_deref().unwrap_or("auto");
        let door = Doorway::named(door)
            .filter(|door| shared_folders || *door != Doorway::Folder)
            .ok_or_else(|| {
                let problem = "must be \"auto\", \"streams\", or with shared folders \"folder\"";
                wrong("sandbox.container.door", problem)
            })?;
        if let Some(path) = self.sandboxd.as_ref().filter(|path| !path.is_absolute()) {
            let problem = format!("{} is not an absolute path", path.display());
            return Err(wrong("sandbox.container.sandboxd", problem));
        }
        Ok(Container {
            endpoint,
            image,
            runtime: self.runtime,
            userns: self.userns,
            cpus: self.cpus,
            shared_folders,
            door,
            sandboxd: self.sandboxd,
        })
    }
}
