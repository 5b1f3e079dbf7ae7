//! Events of a session: sending and listing (api §9, runtime §6, §14). The stream is [`super::stream`].

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use manyhands_protocol::entry::EventEntry;
use manyhands_protocol::event::{Event, PERSISTED_TYPES};
use manyhands_protocol::page::Order;
use manyhands_protocol::{EventId, Timestamp};
use manyhands_store::Entry;
use manyhands_store::listing::{EventKey, EventRange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::admission::{self, Echo, Incoming};
use crate::api::approvals;
use crate::api::attachments::{Reach, attach};
use crate::api::auth::Principal;
use crate::api::cursor;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::api::sessions;
use crate::app::App;
use crate::failpoint::failpoint;

/// The most events of one request.
const MAX_EVENTS: usize = 1000;
/// The default and the largest page (runtime LI-4).
const PAGE: u32 = 1000;
const LIST: &str = "events";

/// Body of a send.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct SendParams {
    #[schemars(with = "Vec<EventEntry>")]
    events: Vec<Value>,
}

/// What the answer to a send holds, for its schema: it is written from entries as they are stored.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct SentEvents {
    data: Vec<Event>,
}

/// `POST /v1/sessions/{session_id}/events`: stored, not yet processed, when it answers (runtime SE-2).
pub(crate) async fn send_events(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(params): Json<SendParams>,
) -> Result<Response, ApiError> {
    let session = ids.session()?;
    if params.events.len() > MAX_EVENTS {
        return Err(ApiError::field(
            "events",
            format!("more than {MAX_EVENTS} events in one request"),
        ));
    }
    let mut events = admission::read_events(&params.events)?;
    let confirms = |event: &Incoming| matches!(event, Incoming::Confirmation { .. });
    if principal.environment.is_some() && events.iter().any(confirms) {
        return Err(ApiError::forbidden(
            "the key of an environment allows and denies no tool calls: those who run them do not approve them",
        ));
    }
    let reach = Reach {
        workspace: &principal.workspace,
        session: principal.environment.as_ref().map(|_| &session),
    };
    attach(&app, reach, &mut events, "events").await?;
    let referenced: Vec<EventId> = events.iter().filter_map(Incoming::call).cloned().collect();
    let (models, caller) = (app.clone(), principal.clone());
    let decided = app
        .store
        .change(&principal.workspace, &session, &referenced, move |state| {
            let (mut change, echoes) = admission::admit(state, events, models.catalog())?;
            change.acts = approvals::of(&caller, &state.record.id, &change.append);
            Ok::<_, ApiError>((change, echoes))
        })
        .await?;
    failpoint!("server::events_stored");
    let (stored, echoes) = decided.ok_or_else(|| ApiError::not_found("session"))??;
    let mut rendered = Vec::with_capacity(echoes.len());
    for echo in echoes {
        match echo {
            Echo::Stored(index) => rendered.extend(stored.get(index).map(Entry::render)),
            // Its last appearance: a confirmation has two in one write.
            Echo::Earlier(id) => match stored.iter().rfind(|entry| entry.event_id == id) {
                Some(entry) => rendered.push(entry.render()),
                None => rendered.extend(
                    app.store
                        .event(&session, &id)
                        .await?
                        .as_ref()
                        .map(Entry::render),
                ),
            },
            Echo::Unrecorded(event) => rendered.push(text_of(&event)),
        }
    }
    Ok(reply(format!("{{\"data\":[{}]}}", rendered.join(","))))
}

/// An event that no entry holds. Made of plain data, so it always has a text.
fn text_of(event: &Event) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

/// A JSON answer from entries that were rendered byte for byte.
fn reply(body: String) -> Response {
    (
        [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body,
    )
        .into_response()
}

/// A place in the event list. The time lets a filter be checked that excludes it (api §1.5).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    order: Order,
    queued: bool,
    position: i64,
    /// How far the pages so far were in the other part of the list.
    #[serde(default)]
    beside: i64,
    at: Option<Timestamp>,
}

impl Place {
    fn key(self) -> EventKey {
        if self.queued {
            EventKey::Queued(self.position)
        } else {
            EventKey::Processed(self.position)
        }
    }
}

/// `GET /v1/sessions/{session_id}/events`
pub(crate) async fn list_events(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Response, ApiError> {
    let session = ids.session()?;
    let (range, order) = range(&query)?;
    // Whose session it is: the list itself knows no workspace (security API-2).
    sessions::require(&app, &principal, &session).await?;
    page(&app, &session, range, order).await
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}/events`: the primary thread's list is the session's.
pub(crate) async fn list_thread_events(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Response, ApiError> {
    let session = ids.session()?;
    let thread = ids.thread()?;
    let (range, order) = range(&query)?;
    let record = app.store.session(&principal.workspace, &session).await?;
    if record.is_none_or(|record| record.thread_id != thread) {
        return Err(ApiError::not_found("thread"));
    }
    page(&app, &session, range, order).await
}

fn range(query: &Query) -> Result<(EventRange, Order), ApiError> {
    let order = query.order(Order::Asc)?;
    let types = query.list("types").map(|name| {
        let problem = || {
            ApiError::field(
                "types",
                format!("{:?} is not an event type of the list", brief(name)),
            )
        };
        PERSISTED_TYPES
            .contains(&name)
            .then(|| name.to_owned())
            .ok_or_else(problem)
    });
    let place: Option<Place> = cursor::decode(LIST, query)?;
    if let Some(place) = &place {
        cursor::check_order(place.order, order)?;
    }
    let times = query.times()?;
    let range = EventRange {
        after: place.map(Place::key),
        beside: place
            .map(|place| place.beside)
            .filter(|_| order == Order::Asc),
        descending: order == Order::Desc,
        limit: query.limit(PAGE, PAGE)?,
        types: types.collect::<Result<_, _>>()?,
        processed_after: times.after,
        processed_from: times.from,
        processed_before: times.before,
        processed_to: times.to,
    };
    if let Some(place) = place {
        times.require(place.at)?;
    }
    Ok((range, order))
}

fn brief(name: &str) -> String {
    name.chars().take(60).collect()
}

async fn page(
    app: &App,
    session: &manyhands_protocol::SessionId,
    mut range: EventRange,
    order: Order,
) -> Result<Response, ApiError> {
    let limit = range.limit;
    range.limit += 1;
    let mut found = app.store.list_events(session, &range).await?;
    let more = cursor::cut_off(&mut found, limit);
    let reached = reached(&range, found.iter().map(|(key, _)| *key));
    let place = |(key, entry): &(EventKey, Entry)| {
        let (queued, position, beside) = match *key {
            EventKey::Processed(position) => (false, position, reached.queued),
            EventKey::Queued(position) => (true, position, reached.processed),
        };
        cursor::encode(
            LIST,
            &Place {
                order,
                queued,
                position,
                beside,
                at: entry.processed_at,
            },
        )
    };
    let next = found.last().filter(|_| more).map(place);
    let next = next.map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
    let rendered: Vec<String> = found.iter().map(|(_, entry)| entry.render()).collect();
    Ok(reply(format!(
        "{{\"data\":[{}],\"next_page\":{next}}}",
        rendered.join(",")
    )))
}

/// How far pages that are read oldest first were in both parts of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reached {
    processed: i64,
    queued: i64,
}

/// How far all pages are with this one, which has these keys.
fn reached(range: &EventRange, keys: impl Iterator<Item = EventKey>) -> Reached {
    let beside = range.beside.unwrap_or_default();
    let before = match range.after {
        None => Reached::default(),
        Some(EventKey::Processed(processed)) => Reached {
            processed,
            queued: beside,
        },
        Some(EventKey::Queued(queued)) => Reached {
            processed: beside,
            queued,
        },
    };
    keys.fold(before, |reached, key| match key {
        EventKey::Processed(processed) => Reached {
            processed,
            ..reached
        },
        EventKey::Queued(queued) => Reached { queued, ..reached },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_1_pages_know_how_far_they_were_in_both_parts() {
        use EventKey::{Processed, Queued};
        #[track_caller]
        fn check(after: Option<EventKey>, beside: i64, keys: &[EventKey], expected: (i64, i64)) {
            let range = EventRange {
                after,
                beside: after.map(|_| beside),
                ..EventRange::default()
            };
            let Reached { processed, queued } = reached(&range, keys.iter().copied());
            assert_eq!((processed, queued), expected);
        }
        check(None, 0, &[Processed(3), Processed(5)], (5, 0));
        check(None, 0, &[Processed(3), Queued(4)], (3, 4));
        check(None, 0, &[Queued(1)], (0, 1));
        check(Some(Processed(5)), 0, &[Processed(6), Queued(7)], (6, 7));
        check(Some(Queued(4)), 3, &[Queued(8)], (3, 8));
        check(Some(Queued(4)), 3, &[Processed(9)], (9, 4));
        check(Some(Processed(9)), 4, &[Queued(8)], (9, 8));
    }

    #[test]
    fn li_4_bad_filters_are_refused_by_name() {
        #[track_caller]
        fn check(text: &str, problem: &str) {
            let error = range(&Query::from_text(text)).expect_err(text);
            assert!(
                error.message().starts_with(problem),
                "{text}: {}",
                error.message()
            );
        }
        check(
            "types[]=agent.message&types[]=event_delta",
            "types: \"event_delta\" is not an event type",
        );
        check(
            "types[]=session.deleted",
            "types: \"session.deleted\" is not",
        );
        check(
            "limit=1001",
            "limit: expected a whole number from 1 to 1000",
        );
        check("order=newest", "order: expected asc or desc");
        check("created_at[gt]=x", "created_at[gt]: not an RFC 3339");
        check("page=page_x", "page: is not a cursor");
        let at = Some(Timestamp::from_micros(5_000_000));
        let cursor = cursor::encode(
            LIST,
            &Place {
                order: Order::Asc,
                queued: false,
                position: 7,
                beside: 0,
                at,
            },
        );
        check(
            &format!("page={cursor}&order=desc"),
            "page: the cursor belongs to the other order",
        );
        check(
            &format!("page={cursor}&created_at[gt]=1970-01-01T00:00:05Z"),
            "page: the cursor lies outside",
        );
        let fine = format!("page={cursor}&created_at[gte]=1970-01-01T00:00:05Z&limit=3");
        let (range, _) = range(&Query::from_text(&fine)).expect("accepted");
        assert_eq!(
            (range.after, range.limit),
            (Some(EventKey::Processed(7)), 3)
        );
    }

    #[test]
    fn all_41_types_are_filters() {
        let text: Vec<String> = PERSISTED_TYPES
            .iter()
            .map(|name| format!("types[]={name}"))
            .collect();
        let (range, _) = range(&Query::from_text(&text.join("&"))).expect("accepted");
        assert_eq!(range.types.len(), 41);
    }
}
