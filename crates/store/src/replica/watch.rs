//! The timer behind everything that travels between instances: what listeners wait for is looked up, and instances that
//! do not live any more are forgotten.

use std::collections::{BTreeSet, HashMap};
use std::sync::Weak;
use std::time::Duration;

use manyhands_protocol::event::{Event, EventBody};
use manyhands_protocol::{EventId, SessionId};

use crate::error::Error;
use crate::listing::Query;
use crate::log::json;
use crate::store::Inner;

/// How many sessions are asked about at once.
const TOGETHER: usize = 256;

/// Looks as long as the store is open, with a pause before each look: a listener hears at most so much later what nobody
/// told this instance of.
pub(crate) async fn watch_while_open(inner: Weak<Inner>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        let looked = async {
            look(&inner).await?;
            forget_the_dead(&inner).await
        };
        if let Err(error) = looked.await {
            tracing::debug!(%error, "cannot look for what other instances wrote");
        }
    }
}

/// Compares the logs of all sessions that are listened to with what their listeners were shown.
async fn look(inner: &Inner) -> Result<(), Error> {
    let hub = &inner.services.hub;
    for sessions in hub.listened_to().chunks(TOGETHER) {
        // Asked before the database: whose listeners knew of it then, and is not there now, was deleted.
        let placed: Vec<&SessionId> = sessions.iter().filter(|id| hub.is_placed(id)).collect();
        if placed.is_empty() {
            continue;
        }
        let mut query = Query::new("SELECT id, last_position FROM sessions WHERE TRUE");
        query.and_in("id", placed.iter().map(|id| id.as_str()));
        let rows = inner.db.read(query.sql, query.values).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(row.text(0)?, row.int(1)?);
        }
        for session in placed {
            match found.get(session.as_str()) {
                Some(&last) => hub.reaches(session, last),
                None => hub.deleted(session, &deleted(inner)?),
            }
        }
    }
    Ok(())
}

/// The event that tells of a deletion whose own was not heard.
fn deleted(inner: &Inner) -> Result<String, Error> {
    json(&Event {
        id: EventId::generate(),
        body: EventBody::SessionDeleted {},
        processed_at: Some(inner.services.clock.now()),
    })
}

async fn forget_the_dead(inner: &Inner) -> Result<(), Error> {
    let rows = inner.db.read("SELECT id FROM living", Vec::new()).await?;
    let living = rows.iter().map(|row| Ok(row.text(0)?.to_owned()));
    let living = living.collect::<Result<BTreeSet<String>, Error>>()?;
    inner.services.peers.keep_living(&living);
    Ok(())
}
