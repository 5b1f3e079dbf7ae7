//! Runs a command in a session's sandbox and says what it took.
//!
//!     sandbox DATA SESSION CALL COMMAND [OPTION VALUE]…
//!
//! Options: `--repeat N` runs the command N times under ids of their own; `--bind PATH` shows a folder of the host
//! read-only at `/mnt/bound`; `--sandboxd PATH` takes another one; `--hold yes` stays until standard input ends,
//! with the call still running; `--destroy yes` removes the sandbox at the end; `--warm N` has N sandboxes wait
//! before, so that the session takes one of them; `--engine SOCKET` makes a container instead, by this engine and from the image
//! `localhost/manyhands-base`, whose clients get their answers from here, over the engine's streams. Otherwise it outlives
//! this program; run it again to find it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_hands::provider::container::{self, Container, Doorway};
use manyhands_hands::provider::namespace::{Config, Namespace, ReadOnly};
use manyhands_hands::provider::{Door, Network};
use manyhands_hands::{Block, Call, Gate, Output, Provider, Recipe};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut given = std::env::args().skip(1);
    let mut next = || {
        given
            .next()
            .ok_or("usage: sandbox DATA SESSION CALL COMMAND [OPTION VALUE]…")
    };
    let (data, session, call, command) = (next()?, next()?, next()?, next()?);
    let (mut config, mut repeat, mut hold, mut destroy) = (Config::new(data), 1, false, false);
    let mut engine = None;
    while let Some(option) = given.next() {
        let value = given.next().ok_or("an option needs a value")?;
        match option.as_str() {
            "--repeat" => repeat = value.parse()?,
            "--bind" => config.read_only.push(ReadOnly {
                from: value.into(),
                to: "/mnt/bound".to_owned(),
            }),
            "--sandboxd" => config.sandboxd = Some(value.into()),
            "--hold" => hold = true,
            "--destroy" => destroy = true,
            "--warm" => config.warm = value.parse()?,
            "--engine" => engine = Some(value),
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    #[cfg(feature = "failpoints")]
    if let Ok(point) = std::env::var("STOP_AT") {
        fail::cfg_callback(point, || std::process::exit(77))?;
    }
    let warm = config.warm > 0;
    let data = config.data.clone();
    let waiting = Namespace::new(config);
    let provider: Box<dyn Provider> = match engine {
        Some(engine) => Box::new(Container::new(container::Config {
            endpoint: Some(engine),
            image: Some("localhost/manyhands-base".to_owned()),
            door: Doorway::Streams,
            gate: Some(Arc::new(Answering)),
            ..container::Config::new(data)
        })),
        None => Box::new(waiting.clone()),
    };
    provider.prepare().await?;
    let recipe = |session: &str| Recipe {
        environment_id: warm.then(|| "env_example".to_owned()),
        ..Recipe::new(session, 1)
    };
    if warm {
        // An environment's first session has its own.
        let first = format!("{session}-before");
        provider.provision(&recipe(&first)).await?;
        provider.destroy(&first).await?;
        waiting.refilled().await;
    }
    let started = Instant::now();
    let sandbox = provider.provision(&recipe(&session)).await?;
    eprintln!(
        "instance {} after {:?}",
        sandbox.instance(),
        started.elapsed()
    );
    let call_of = |number: u32| Call {
        call_id: if number == 0 {
            call.clone()
        } else {
            format!("{call}-{number}")
        },
        epoch: 1,
        name: "bash".to_owned(),
        input: json!({"command": command}),
        deadline: Duration::from_secs(150),
    };
    if hold {
        let running = call_of(0);
        tokio::spawn(async move { sandbox.execute(&running).await });
        println!("holding");
        let mut rest = Vec::new();
        std::io::stdin().read_to_end(&mut rest)?;
        return Ok(());
    }
    let mut times = Vec::new();
    for number in 0..repeat {
        let started = Instant::now();
        let output = sandbox.execute(&call_of(number)).await?;
        times.push(started.elapsed());
        if number == 0 {
            println!("{}", text(&output));
        }
    }
    times.sort();
    eprintln!(
        "{repeat} calls: p50 {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    if destroy {
        provider.destroy(&session).await?;
    }
    Ok(())
}

/// A gate with one answer for everybody.
struct Answering;

impl Gate for Answering {
    fn open(&self, _: &str, _: &Network, socket: UnixListener) -> io::Result<Door> {
        std::thread::spawn(move || {
            for mut stream in socket.incoming().flatten() {
                // A client that is gone needs none.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nexample",
                );
            }
        });
        Ok(Box::new(()))
    }

    fn authority(&self) -> String {
        String::new()
    }
}

fn text(output: &Output) -> String {
    let blocks = output.content.iter().map(|block| match block {
        Block::Text { text } => text.as_str(),
        Block::Image { .. } | Block::Document { .. } => "(a picture or document)",
    });
    blocks.collect::<Vec<_>>().join("\n")
}
