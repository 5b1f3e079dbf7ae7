//! The container engine: Docker's API as Docker and Podman speak it, over a socket of this host.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, ListContainersOptions, LogsOptions,
    RemoveContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt as _;
use tokio::sync::OnceCell;

use crate::Error;
use crate::provider::Missing;
use crate::provider::namespace::files;

/// How long one request may take. Making an image takes the longest.
const REQUEST_LIMIT: u64 = 120;

/// Between two looks at an engine that cannot be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// How much is kept of what a program says before it ends, in bytes.
pub(super) const LAST_WORDS: usize = 2048;

/// Where engines listen, where nobody says otherwise.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];

/// The way to an engine. Clones share the connection.
#[derive(Clone)]
pub(super) struct Engine {
    endpoint: Option<String>,
    docker: Arc<OnceCell<Docker>>,
}

/// What an engine says of itself.
pub(super) struct About {
    pub(super) name: String,
    pub(super) version: String,
    /// As Go names processors.
    pub(super) processor: String,
}

impl Engine {
    /// The engine at `unix://PATH` or `PATH`, else at the first of the usual places.
    pub(super) fn new(endpoint: Option<String>) -> Self {
        Self {
            endpoint,
            docker: Arc::default(),
        }
    }

    /// Where its socket is.
    pub(super) fn socket(&self) -> String {
        let usual = || {
            let found = SOCKETS.into_iter().find(|path| Path::new(path).exists());
            found.unwrap_or(SOCKETS[0]).to_owned()
        };
        let given = self.endpoint.clone().unwrap_or_else(usual);
        given.strip_prefix("unix://").unwrap_or(&given).to_owned()
    }

    /// The connection, made if there is none, in the newest version that both sides speak.
    pub(super) async fn docker(&self) -> Result<&Docker, Error> {
        let connect = async || {
            let socket = self.socket();
            let docker = Docker::connect_with_unix(&socket, REQUEST_LIMIT, API_DEFAULT_VERSION)
                .map_err(|error| unreachable_at(&socket, &error))?;
            let agreed = docker.negotiate_version().await;
            agreed.map_err(|error| unreachable_at(&socket, &error))
        };
        self.docker.get_or_try_init(connect).await
    }

    pub(super) async fn about(&self) -> Result<About, Error> {
        let said = self.docker().await?.version().await;
        let said = said.map_err(|error| failed("ask the container engine", &error))?;
        let component = said.components.into_iter().flatten().next();
        Ok(About {
            name: component.map_or_else(|| "container engine".to_owned(), |it| it.name),
            version: said.version.unwrap_or_default(),
            processor: said.arch.unwrap_or_default(),
        })
    }

    /// Whether users inside are others outside, whatever a container says: then what the engine and this server call a user
    /// differs.
    pub(super) async fn maps_users(&self) -> Result<bool, String> {
        let docker = self.docker().await.map_err(|error| error.to_string())?;
        let about = docker.info().await.map_err(|error| error.to_string())?;
        let options = about.security_options.unwrap_or_default();
        let maps = |option: &String| option.contains("rootless") || option.contains("userns");
        Ok(options.iter().any(maps))
    }

    /// What a container carries under this label.
    pub(super) async fn label(&self, name: &str, label: &str) -> Result<Option<String>, Error> {
        match self.docker().await?.inspect_container(name, None).await {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels);
                Ok(labels.and_then(|mut labels| labels.remove(label)))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failed(&format!("look at {name}"), &error)),
        }
    }

    /// Where it keeps what it has, if that is a folder of this host.
    pub(super) async fn root(&self) -> Option<OwnedFd> {
        let about = self.docker().await.ok()?.info().await.ok()?;
        files::open_directory(Path::new(&about.docker_root_dir?)).ok()
    }

    pub(super) async fn has_image(&self, name: &str) -> Result<bool, Error> {
        match self.docker().await?.inspect_image(name).await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(failed(&format!("look at the image {name}"), &error)),
        }
    }

    /// Whether a container runs; `None` when there is none of this name.
    pub(super) async fn runs(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.docker().await?.inspect_container(name, None).await {
            Ok(found) => Ok(Some(
                found.state.and_then(|state| state.running) == Some(true),
            )),
            Err(error) if status(&error) == Some(404) => Ok(None),
            // Podman's own word for one that has ended and is not cleared up yet.
            Err(bollard::errors::Error::JsonDataError { message, .. })
                if message.contains("unknown variant `stopped`") =>
            {
                Ok(Some(false))
            }
            Err(error) => Err(failed(&format!("look at {name}"), &error)),
        }
    }

    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<(), Error> {
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..CreateContainerOptions::default()
        };
        match self
            .docker()
            .await?
            .create_container(Some(options), body)
            .await
        {
            Ok(_) => Ok(()),
            // Another server of the data directory was faster; what it made is what we would make.
            Err(error) if status(&error) == Some(409) => Ok(()),
            Err(error) => Err(failed(&format!("make {name}"), &error)),
        }
    }

    pub(super) async fn start(&self, name: &str) -> Result<(), Error> {
        match self.docker().await?.start_container(name, None).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(304) => Ok(()),
            Err(error) => Err(failed(&format!("start {name}"), &error)),
        }
    }

    /// Ends everything inside, and returns when it has ended. Nothing to end is fine.
    pub(super) async fn kill(&self, name: &str) -> Result<(), Error> {
        let options = KillContainerOptions {
            signal: "KILL".to_owned(),
        };
        let docker = self.docker().await?;
        let killed = docker.kill_container(name, Some(options)).await;
        match self.runs(name).await? {
            Some(true) => {}
            Some(false) | None => return Ok(()),
        }
        killed.map_err(|error| failed(&format!("end {name}"), &error))?;
        self.ended(name).await;
        Ok(())
    }

    /// Returns once a container does not run any more. While the engine cannot be asked it counts as running.
    pub(super) async fn ended(&self, name: &str) {
        loop {
            match self.runs(name).await {
                Ok(Some(false) | None) => return,
                Ok(Some(true)) => {}
                Err(error) => {
                    tracing::debug!(%error, name, "the container engine does not answer");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            let Ok(docker) = self.docker().await else {
                continue;
            };
            let options = WaitContainerOptions {
                condition: "not-running".to_owned(),
            };
            // An exit status other than 0 is an error here; one that is none is looked into by the next round.
            let waited = std::pin::pin!(docker.wait_container(name, Some(options)))
                .next()
                .await;
            if let Some(Err(error)) = waited
                && !matches!(
                    error,
                    bollard::errors::Error::DockerContainerWaitError { .. }
                )
            {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Removes a container with its volumes, running or not. None is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Error> {
        match self.try_remove(name).await {
            // Podman cannot kill one that ends by itself at the same moment, and says so of its removal.
            Err(_) if self.runs(name).await? == Some(false) => self.try_remove(name).await,
            removed => removed,
        }
    }

    async fn try_remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            ..RemoveContainerOptions::default()
        };
        let docker = self.docker().await?;
        match docker.remove_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(failed(&format!("remove {name}"), &error)),
        }
    }

    /// The containers that carry this label, running or not: for each, its labels and when it was made, in seconds.
    pub(super) async fn labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<(String, HashMap<String, String>, i64)>, Error> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![format!("{label}={value}")],
            )])),
            ..ListContainersOptions::default()
        };
        let listed = self.docker().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| failed("list containers", &error))?;
        let found = listed.into_iter().filter_map(|it| {
            Some((
                it.id?,
                it.labels.unwrap_or_default(),
                it.created.unwrap_or_default(),
            ))
        });
        Ok(found.collect())
    }

    /// The last that process 1 of a container said.
    pub(super) async fn last_words(&self, name: &str) -> String {
        let Ok(docker) = self.docker().await else {
            return String::new();
        };
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: "5".to_owned(),
            ..LogsOptions::default()
        };
        let mut logs = std::pin::pin!(docker.logs(name, Some(options)));
        let mut words = String::new();
        while let Some(Ok(piece)) = logs.next().await {
            words.push_str(&piece.to_string());
            if words.len() > LAST_WORDS {
                break;
            }
        }
        words.trim().to_owned()
    }
}

/// The status of an answer that is an error.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn unreachable_at(socket: &str, error: &dyn std::error::Error) -> Error {
    Missing {
        what: "the container engine cannot be reached".to_owned(),
        why: format!("{socket}: {}", crate::provider::namespace::chain(error)),
        install: "start Docker or \"podman system service\", or name its socket as sandbox.container.endpoint"
            .to_owned(),
    }
    .into()
}

/// What an engine's refusal means: no space, nobody there, a request that it will never take, or a moment's trouble.
pub(super) fn failed(doing: &str, error: &bollard::errors::Error) -> Error {
    use bollard::errors::Error as Answer;
    match error {
        Answer::DockerResponseServerError { message, .. }
            if message.contains("no space left on device") =>
        {
            Error::NoSpace {
                what: format!("to {doing}"),
            }
        }
        Answer::DockerResponseServerError {
            status_code: 400..=499,
            message,
        } => Missing {
            what: format!("the container engine refuses to {doing}"),
            why: message.clone(),
            install: "correct [sandbox.container]; \"manyhands doctor\" tries it".to_owned(),
        }
        .into(),
        Answer::SocketNotFoundError(socket) => unreachable_at(socket, error),
        Answer::DockerResponseServerError { message, .. } => {
            Error::io(doing, io::Error::other(message.clone()))
        }
        other => Error::io(
            doing,
            io::Error::other(crate::provider::namespace::chain(other)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Advice;

    #[test]
    fn an_engines_refusals_are_sorted_by_what_is_to_be_done() {
        #[track_caller]
        fn check(status_code: u16, message: &str, advice: Advice, text: &str) {
            let answer = bollard::errors::Error::DockerResponseServerError {
                status_code,
                message: message.to_owned(),
            };
            let error = failed("make it", &answer);
            assert_eq!(error.advice(), advice, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
        check(500, "a moment", Advice::Retry, "could not make it");
        check(
            500,
            "write /x: no space left on device",
            Advice::TellModel,
            "no space left to make it",
        );
        check(
            400,
            "unknown runtime",
            Advice::TellModel,
            "refuses to make it: unknown runtime",
        );
        check(404, "no such image", Advice::TellModel, "no such image");
    }

    #[tokio::test]
    async fn sbx_2_an_engine_that_is_not_there_is_said_to_be_missing() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("none").display().to_string();
        for endpoint in [socket.clone(), format!("unix://{socket}")] {
            let error = Engine::new(Some(endpoint)).about().await.err().unwrap();
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert!(error.to_string().contains(&socket), "{error}");
        }
    }
}
