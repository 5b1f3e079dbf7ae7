//! `manyhands workspaces`: whose things are whose on this server.

use manyhands_protocol::WorkspaceId;

use super::keeper::Keeper;
use super::out::Out;
use crate::config::Flags;

/// What `manyhands workspaces` is told: what to do with workspaces.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a workspace and print its id. It has no keys yet: `manyhands keys create --workspace ID` makes one.
    Create {
        /// What to call it.
        name: String,
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
    /// List all workspaces, oldest first.
    List {
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
    /// Give a workspace another name.
    Rename {
        /// Its id, wrkspc_…, as `list` shows it.
        id: String,
        /// What to call it from now on.
        name: String,
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
}

/// Does it and prints what came of it.
///
/// # Errors
/// When there is no such workspace, or neither the server nor the store can be reached.
pub async fn run(command: Command) -> anyhow::Result<()> {
    let mut out = Out::standard();
    match command {
        Command::Create { name, flags } => {
            let made = Keeper::open(flags).await?.create_workspace(name).await?;
            out.line(made.id);
        }
        Command::List { flags } => {
            for workspace in Keeper::open(flags).await?.list_workspaces().await? {
                let (id, at, name) = (workspace.id, workspace.created_at, workspace.name);
                out.line(format_args!("{id}  {at}  {name}"));
            }
        }
        Command::Rename { id, name, flags } => {
            let id = WorkspaceId::parse(&id)?;
            let keeper = Keeper::open(flags).await?;
            keeper.rename_workspace(&id, name).await?;
            out.line(format_args!("renamed {id}"));
        }
    }
    out.finish()
}
