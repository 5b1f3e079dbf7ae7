//! `manyhands environment-keys`: keys that open one environment, for those who work for it (api §1.1).

use super::keeper::Keeper;
use super::keys::{Revoked, Whose, line, made, revoke};
use super::out::Out;
use crate::api::keys::KeyCreateParams;
use crate::config::Flags;

/// What `manyhands environment-keys` is told: what to do with keys of environments.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it, once.
    Create {
        /// The environment it opens, env_….
        environment: String,
        /// What to call it.
        #[arg(default_value = "unnamed")]
        name: String,
        /// The environment's workspace, wrkspc_… [default: the first one].
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
    /// List the keys of all environments of a workspace, or of one, without the keys themselves.
    List {
        /// Only of this environment, env_….
        environment: Option<String>,
        /// Where they are.
        #[command(flatten)]
        whose: Whose,
    },
    /// Revoke a key by its id: from the next request on.
    Revoke(Revoked),
}

/// Does it and prints what came of it.
///
/// # Errors
/// When there is no such environment or key, or neither the server nor the store can be reached.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create {
            environment,
            name,
            workspace,
            flags,
        } => {
            let params = KeyCreateParams {
                name,
                environment_id: Some(environment),
                workspace_id: workspace,
                role: None,
            };
            made(&Keeper::open(flags).await?.create_key(params).await?)
        }
        Command::List { environment, whose } => {
            let mut out = Out::standard();
            for key in whose.keys().await? {
                let wanted = match &environment {
                    Some(_) => key.environment_id == environment,
                    None => key.environment_id.is_some(),
                };
                if wanted {
                    out.line(line(&key));
                }
            }
            out.finish()
        }
        Command::Revoke(key) => revoke(key).await,
    }
}
