//! A life that has ended or come to rest is judged: the invariants, against all that its client knows.

use std::sync::atomic::Ordering;

use manyhands_protocol::SessionId;
use manyhands_simulation::check::life::{check_accepted, check_old_epoch, check_starts};
use manyhands_simulation::check::{self, Evidence, Row, grammar, requests, stream, usage};
use manyhands_simulation::frames::Frame;
use manyhands_store::SessionRecord;

use crate::drive::{Fate, Life, Problem};
use crate::model::lock;

/// More than any log here.
const ALL: u32 = 100_000;

/// Checks a life that has ended or come to rest.
pub(crate) async fn check(life: &Life) -> Result<(), Problem> {
    let count = |branch| life.world.count(branch);
    let frames = lock(&life.heard.frames).clone();
    let starts = lock(&life.script.starts).clone();
    let missed = life.heard.missed.load(Ordering::SeqCst);
    check_starts(&starts, &frames, missed, &count)?;
    stream::check_previews(&frames)?;
    if life.fate == Fate::Deleted {
        return check_deleted(life, &frames);
    }
    let session = SessionId::parse(&life.session).map_err(|error| error.to_string())?;
    let (record, rows) = read(life, &session).await?;
    let requests = lock(&life.script.requests).clone();
    let evidence = Evidence {
        rows: &rows,
        frames: &frames,
        requests: &requests,
        budget: life.budget,
        alive: life.fate == Fate::Alive,
        retooled: life.retooled,
        count: &count,
    };
    check::check_positions(&rows)?;
    check::check_epochs(&rows)?;
    stream::check_stream(&rows, &frames)?;
    check::check_list(&rows, &life.events().await?)?;
    check_accepted(&life.accepted, &evidence)?;
    requests::check_shown(&evidence)?;
    grammar::check(&evidence)?;
    usage::check(&record, &rows)?;
    requests::check_prefixes(&evidence)?;
    let store = life.world.store().await;
    check_old_epoch(&store, &record).await
}

async fn read(life: &Life, session: &SessionId) -> Result<(SessionRecord, Vec<Row>), Problem> {
    let store = life.world.store().await;
    let read = async {
        let workspace = store.default_workspace().await?;
        let record = store.session(&workspace, session).await?;
        Ok::<_, manyhands_store::Error>((record, store.read(session, 0, ALL).await?))
    };
    let (record, entries) = read.await.map_err(|error| error.to_string())?;
    let rows = check::rows(entries)?;
    Ok((record.ok_or("the session has no row")?, rows))
}

/// The log of a session, a line each, for whoever looks for a fault.
pub(crate) async fn dump(life: &Life) -> String {
    let Ok(session) = SessionId::parse(&life.session) else {
        return String::new();
    };
    match read(life, &session).await {
        Ok((_, rows)) => check::dump(&rows),
        Err(problem) => problem,
    }
}

/// A deleted session's stream ends with its deletion (runtime SQ-20); one that the server's end cut off before is not
/// there to be taken up again.
fn check_deleted(life: &Life, frames: &[Frame]) -> Result<(), Problem> {
    let told = frames.last().map(|frame| &*frame.name);
    if told == Some("session.deleted") {
        life.world.count("deletion: told");
        Ok(())
    } else if life.heard.missed.load(Ordering::SeqCst) {
        life.world.count("deletion: found");
        Ok(())
    } else {
        Err(format!(
            "the last frame of a deleted session is {told:?} (SQ-20)"
        ))
    }
}
