//! A client's stream of one session, taken up again wherever it ends.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use manyhands_testkit::events::EventStream;
use tokio::time::{sleep, timeout};

use crate::check::{Frame, Violation};
use crate::life::Life;
use crate::world::{World, lock};

/// The pause before a stream that could not be opened is asked for again.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a server may take to begin a stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens until the session is gone.
pub(crate) async fn follow(world: Arc<World>, life: Arc<Life>) {
    let mut connection = 0;
    loop {
        connection += 1;
        match listen(&world, &life, connection).await {
            Ok(true) => world.count("streams"),
            Ok(false) => return,
            Err(violation) => return world.violated(violation),
        }
    }
}

/// One connection. Returns whether there may be more to hear.
async fn listen(world: &World, life: &Life, connection: usize) -> Result<bool, Violation> {
    let session = &life.session;
    let path = format!("/v1/sessions/{session}/events/stream?event_deltas[]=agent.message");
    let position = lock(&life.frames).last().map_or(0, |frame| frame.position);
    let client = world.fleet.client(life.wish + connection).await;
    let client = client.header("last-event-id", &position.to_string());
    let opened = async {
        let mut connection = client.connect().await?;
        connection.begin(Method::GET, &path, "").await
    };
    let answer = match timeout(PATIENCE, opened).await {
        Err(_) => return Err(format!("I8: {path} was not begun within {PATIENCE:?}")),
        Ok(Err(_)) => {
            sleep(AGAIN).await;
            return Ok(true);
        }
        Ok(Ok(answer)) => answer,
    };
    match answer.status().as_u16() {
        200 => {}
        404 if life.is_ending() => return Ok(false),
        503 | 529 => {
            sleep(AGAIN).await;
            return Ok(true);
        }
        other => {
            return Err(format!(
                "I1: the stream of {session} is answered with {other}"
            ));
        }
    }
    let mut events = EventStream::new(answer.into_body());
    while let Some(event) = events.next().await {
        let Some(position) = event.id.and_then(|id| id.parse().ok()) else {
            world.count("previews");
            continue;
        };
        if event.name == "session.deleted" {
            return Ok(false);
        }
        life.hear(Frame {
            position,
            data: event.data,
        })?;
    }
    Ok(true)
}
