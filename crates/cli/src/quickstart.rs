//! `manyhands quickstart`: an agent writes and runs a program in a sandbox, and a person watches.

use std::io::IsTerminal;

use anyhow::{Context, anyhow, bail};
use manyhands_protocol::SessionId;
use manyhands_protocol::event::StopReason;
use manyhands_protocol::model::Model;
use serde_json::{Value, json};

use crate::client::{Client, Error, Previews};
use crate::local::{self, Server};
use crate::outputs;
use crate::printer::{self, Printer};
use crate::render::{Renderer, Style, safe, wrapped};
use crate::run::ServerArgs;

const FILE: &str = "fibonacci.txt";
const TASK: &str = "Write a Python script that computes the first 20 Fibonacci numbers, starting with 0, and writes \
    them to /mnt/session/outputs/fibonacci.txt, one per line. Run it, then read the file back and tell me the last number.";
const SYSTEM: &str = "You are a careful programmer. Work in /workspace, put results into /mnt/session/outputs, and \
    check what you made before you say that it is done.";
/// A stream that breaks more often than this is not the network's mood.
const RECONNECTS: usize = 5;

/// What `manyhands quickstart` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which server; without --url, one is started if none answers here
    #[command(flatten)]
    pub server: ServerArgs,
    /// The model that plays the agent
    #[arg(long, default_value = "claude-opus-4-8", value_name = "ID")]
    pub model: String,
    /// Leave the server running that this command started
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub json: bool,
}

/// Runs the whole story and prints it. Stops the server that it started, also when it fails or is interrupted.
///
/// # Errors
/// No server can be found or started, the session ends in an error, the file is missing, or Ctrl-C was pressed; the
/// text says which, and what to do.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = local::find_or_start(args.server.wanted()).await?;
    let told = tokio::select! {
        told = tell(&args, &server) => told,
        signal = interrupted() => Err(signal),
    };
    let next = told.is_ok() && !args.json;
    let (url, ours) = (server.url.clone(), server.is_ours());
    if args.keep {
        if let Some(process) = server.keep()
            && !args.json
        {
            printer::write(&format!(
                "\nThe server goes on at {url} as process {process}; \"kill {process}\" ends it.\n"
            ))?;
        }
    } else {
        server.stop().await?;
    }
    told?;
    if next {
        let stopped = ours && !args.keep;
        let data_dir = args.server.data_dir.display().to_string();
        printer::write(&what_next(&url, stopped, &data_dir))?;
    }
    Ok(())
}

/// What the run gave, for machines.
struct Outcome {
    agent: String,
    environment: String,
    session: SessionId,
    scripted: bool,
    produced: String,
}

async fn tell(args: &Args, server: &Server) -> anyhow::Result<()> {
    let style = Style::choose(
        std::io::stdout().is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
    );
    let printer = if args.json {
        Printer::Quiet
    } else {
        Printer::Loud
    };
    let client = Client::new(&server.url, server.key.clone())?;
    let scripted = is_scripted(&client.models().await?, &args.model);
    printer.print(&opening(args, server, scripted, style))?;

    let agent = client
        .create_agent(&json!({
            "name": "Quickstart",
            "model": args.model,
            "system": SYSTEM,
            "tools": [{"type": "agent_toolset_20260401"}],
        }))
        .await?;
    let environment = client
        .create_environment(&json!({"name": format!("quickstart {}", agent.id)}))
        .await?;
    let session = client
        .create_session(&json!({
            "agent": agent.id,
            "environment_id": environment.id,
            "title": "Quickstart",
        }))
        .await?;
    let session = session.id;
    printer.print(&format!("{}{session}\n\n", style.label("session")))?;
    printer.print(&format!("{}{}\n", style.label("you"), wrapped(TASK)))?;

    let mut renderer = Renderer::new(style);
    follow(&client, &session, &mut renderer, printer).await?;
    let ending = renderer
        .ending()
        .context("the session never came to rest")?;
    if ending.reason != StopReason::EndTurn {
        let why = ending
            .error
            .as_deref()
            .unwrap_or("the events above say why");
        bail!("the session did not finish: {why}");
    }

    let outcome = Outcome {
        produced: produced(server, &session, &renderer)?,
        agent: agent.id.to_string(),
        environment: environment.id.to_string(),
        session,
        scripted,
    };
    if args.json {
        let summary = summary(args, server, &renderer, &outcome);
        return printer::write(&format!("{summary}\n"));
    }
    printer.print(&format!(
        "\n{}\n",
        style.heading(&format!("/mnt/session/outputs/{FILE}"))
    ))?;
    printer.print(&safe(&outcome.produced))
}

/// Sends the task on an open stream and prints what comes, until the session rests.
async fn follow(
    client: &Client,
    session: &SessionId,
    renderer: &mut Renderer,
    printer: Printer,
) -> anyhow::Result<()> {
    let mut stream = client.stream(session, None, Previews::On).await?;
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": TASK}]});
    client.send_events(session, &[message]).await?;
    let mut broken = 0;
    while renderer.ending().is_none() {
        match stream.next().await {
            Ok(item) => printer.print(&renderer.item(&item))?,
            Err(Error::StreamBroke { .. }) if broken < RECONNECTS && stream.last_id().is_some() => {
                broken += 1;
                stream = client
                    .stream(session, stream.last_id(), Previews::On)
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The produced file: from its folder when there is one on this machine, else as the agent last read it.
fn produced(server: &Server, session: &SessionId, renderer: &Renderer) -> anyhow::Result<String> {
    let missing = || anyhow!("the agent finished, but /mnt/session/outputs/{FILE} is not there");
    let found = match &server.data_dir {
        Some(folder) => outputs::read(folder, session.as_str(), FILE)
            .with_context(|| format!("cannot read {FILE} from {}", folder.display()))?,
        None => None,
    };
    found
        .or_else(|| renderer.last_result().map(str::to_owned))
        .ok_or_else(missing)
}

/// Whether a script answers for this id. The list names only the known ones of a family such as `claude-*`.
fn is_scripted(models: &[Model], id: &str) -> bool {
    let family = |id: &str| id.starts_with("claude-");
    models
        .iter()
        .find(|model| model.id == id)
        .or_else(|| models.iter().find(|model| family(id) && family(&model.id)))
        .is_some_and(|model| model.display_name.to_lowercase().contains("scripted"))
}

fn opening(args: &Args, server: &Server, scripted: bool, style: Style) -> String {
    let origin = match (server.is_ours(), &server.data_dir) {
        (true, Some(folder)) => format!(", started for this run, data in {}", folder.display()),
        _ => String::new(),
    };
    let model = if scripted {
        "played by a script, because no ANTHROPIC_API_KEY is set. Its words are canned;\n           \
         its tool calls are real and run in the sandbox"
    } else {
        "the real one"
    };
    format!(
        "{}{}{origin}\n{}{}: {model}\n{}isolated, with the server's proxy as the only way out\n",
        style.label("server"),
        server.url,
        style.label("model"),
        args.model,
        style.label("sandbox"),
    )
}

fn summary(args: &Args, server: &Server, renderer: &Renderer, outcome: &Outcome) -> Value {
    json!({
        "server": server.url,
        "model": args.model,
        "scripted": outcome.scripted,
        "agent_id": outcome.agent,
        "environment_id": outcome.environment,
        "session_id": outcome.session,
        "model_requests": renderer.requests(),
        "usage": renderer.usage(),
        "file": {"path": format!("/mnt/session/outputs/{FILE}"), "content": outcome.produced},
    })
}

fn what_next(url: &str, stopped: bool, data_dir: &str) -> String {
    // This very file, because a built one is not on the path yet.
    let program =
        std::env::current_exe().map_or("manyhands".into(), |path| path.display().to_string());
    let (serve, url) = if stopped {
        (
            format!("  {program} serve --data-dir {data_dir}     # in another terminal\n"),
            local::DEFAULT_URL,
        )
    } else {
        (String::new(), url)
    };
    format!(
        "\nNext: the official SDKs, unmodified\n{serve}  \
         export ANTHROPIC_BASE_URL={url}\n  \
         export ANTHROPIC_API_KEY=$(cat {data_dir}/api-key)\n  \
         pip install anthropic     # or: npm install @anthropic-ai/sdk\n\
         The README has the four calls in Python and TypeScript. With ANTHROPIC_API_KEY in the server's own\n\
         environment, claude-* is the real model.\n"
    )
}

/// Ends with the reason when a person or the system wants this program to end.
async fn interrupted() -> anyhow::Error {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => anyhow!("interrupted"),
        _ = terminate.recv() => anyhow!("terminated"),
    }
}

#[cfg(test)]
mod tests;
