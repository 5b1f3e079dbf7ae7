//! `manyhands why`: what a session waits for, and who has to act.

use manyhands_protocol::SessionId;

use crate::client::Client;
use crate::local;
use crate::printer;
use crate::render::safe;
use crate::run::ServerArgs;

/// What `manyhands why` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The session
    #[arg(value_name = "SESSION", value_parser = SessionId::parse)]
    pub session: SessionId,
    /// Which server
    #[command(flatten)]
    pub server: ServerArgs,
    /// Print the whole answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints one sentence, or the server's whole answer.
///
/// # Errors
/// No server answers, it does not know the session, or its answer has no sentence.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = local::find(args.server.wanted()).await?;
    let client = Client::new(&server.url, server.key.clone())?;
    let why = client.why(&args.session).await?;
    if args.json {
        return printer::write(&format!("{why}\n"));
    }
    let sentence = why["sentence"].as_str();
    let sentence =
        sentence.ok_or_else(|| anyhow::anyhow!("the server's answer has no sentence"))?;
    printer::write(&format!("{}\n", safe(sentence)))
}
