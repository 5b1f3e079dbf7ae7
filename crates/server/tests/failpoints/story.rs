//! What one client does, across deaths of the server: it looks at what is there and goes on from that. Whatever was
//! acknowledged must be there; what was not, may be, and is done again if it is not.

use std::time::Duration;

use http::Method;
use manyhands_testkit::events::EventStream;
use manyhands_testkit::http::{Answer, Client};
use serde_json::{Value, json};

use crate::model::{BAD, GREET, HANG, LONG, TOUCH, WAIT, WORK};
use crate::points::Deed;

/// Messages of a log that is removed in pieces.
const MANY: usize = 600;

/// How long to wait for an event before looking again: an answer of the server may have been all there was to come.
const LOOK: Duration = Duration::from_millis(500);

/// How often a story may look: more often than any of them has events.
const LOOKS: usize = 4 * MANY;

/// So many looks in a row without an event mean that a story is stuck.
const SILENT: usize = 120;

/// The server is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// What a story comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its end.
    Over,
    /// The server is to end now.
    Stop,
}

/// What is shared by all stories of a server, made on its first one.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) agent: String,
    pub(crate) environment: String,
}

/// One client's story.
#[derive(Debug)]
pub(crate) struct Story {
    /// Its own in its server.
    pub(crate) name: String,
    pub(crate) deed: Deed,
    pub(crate) session: Option<String>,
    /// Events that were acknowledged, as they were answered.
    pub(crate) acknowledged: Vec<Value>,
    /// Whether the session is deleted, as far as was acknowledged.
    pub(crate) deleted: bool,
    pub(crate) over: bool,
    /// Commands whose result says that they ran to their end.
    pub(crate) successes: usize,
    /// Whether the server was ended for it.
    stopped: bool,
    pub(crate) resources: crate::resources::Resources,
    vaults: crate::vaults::Vaults,
    memory: crate::memory::Memory,
}

impl Story {
    pub(crate) fn new(name: String, deed: Deed) -> Self {
        Self {
            resources: crate::resources::Resources::new(&name),
            vaults: crate::vaults::Vaults::new(&name),
            memory: crate::memory::Memory::new(&name),
            name,
            deed,
            session: None,
            acknowledged: Vec::new(),
            deleted: false,
            over: false,
            successes: 0,
            stopped: false,
        }
    }

    /// Goes on until its end, or as long as the server lives.
    pub(crate) async fn go_on(&mut self, place: &Place) -> Result<End, Gone> {
        if self.over {
            return Ok(End::Over);
        }
        if self.deed == Deed::Resources && !self.resources.before(place).await? {
            panic!("{}: the resources are not as they were answered", self.name);
        }
        if self.deed == Deed::Resources {
            self.memory.go_on(place).await?;
        }
        let session = self.session(place).await?;
        let Some(session) = session else {
            self.vaults.after(place).await?;
            self.over = true;
            return Ok(End::Over);
        };
        let end = self.converse(place, &session).await?;
        if end == End::Stop {
            self.stopped = true;
            return Ok(end);
        }
        let path = format!("/v1/sessions/{session}");
        if self.deed == Deed::Resources {
            self.check(place, &session).await?;
            let renamed = format!("{} renamed", self.name);
            let shown = expect(200, get(place, &path).await?);
            // One that was archived without an answer can no longer be changed.
            if shown["archived_at"].is_null() {
                expect(200, post(place, &path, &json!({"title": renamed})).await?);
            }
            let archive = format!("{path}/archive");
            let archived = expect(200, post(place, &archive, &json!({})).await?);
            assert_eq!(archived["title"], renamed, "{}", self.name);
        }
        if matches!(self.deed, Deed::Resources | Deed::LongLog) {
            crate::objects::remove(place, &path).await?;
            self.deleted = true;
        } else {
            self.check(place, &session).await?;
        }
        self.vaults.after(place).await?;
        self.over = true;
        Ok(End::Over)
    }

    /// The story's session, made when there is none; `None` when it is deleted already.
    async fn session(&mut self, place: &Place) -> Result<Option<String>, Gone> {
        if let Some(session) = &self.session {
            let answer = get(place, &format!("/v1/sessions/{session}")).await?;
            let ends = matches!(self.deed, Deed::Resources | Deed::LongLog);
            return match answer.status {
                404 if ends => Ok(None),
                _ => {
                    expect(200, answer);
                    Ok(Some(session.clone()))
                }
            };
        }
        let all = expect(
            200,
            get(place, "/v1/sessions?limit=100&include_archived=true").await?,
        );
        let mine = all["data"].as_array().into_iter().flatten();
        let mut mine = mine.filter(|session| session["title"] == *self.name);
        let id = match mine.next() {
            Some(session) => session["id"].clone(),
            None => {
                let mut body = json!({
                    "agent": place.agent, "environment_id": place.environment, "title": self.name,
                });
                if self.deed == Deed::Resources {
                    body["vault_ids"] = json!([self.vaults.before(place).await?]);
                }
                expect(200, post(place, "/v1/sessions", &body).await?)["id"].clone()
            }
        };
        assert!(mine.next().is_none(), "{}: two sessions", self.name);
        self.session = id.as_str().map(str::to_owned);
        Ok(self.session.clone())
    }

    /// Says what it has to say and answers what it is asked, until nothing is left.
    async fn converse(&mut self, place: &Place, session: &str) -> Result<End, Gone> {
        let (first, then) = match self.deed {
            Deed::InterruptCommand | Deed::Stop | Deed::Takeover => (HANG, Some(GREET)),
            Deed::InterruptModel => (WAIT, Some(GREET)),
            Deed::Summary => (GREET, Some(LONG)),
            Deed::Refused => (BAD, Some(GREET)),
            Deed::Resources => (TOUCH, None),
            Deed::LongLog => (GREET, None),
            Deed::Turn | Deed::FirstStart | Deed::Backup => (WORK, None),
        };
        let mut stream = listen(place, session).await?;
        let mut silent = 0;
        for _ in 0..LOOKS {
            // The status first: an idle session stays as it is, and the list has all that led to it.
            let path = format!("/v1/sessions/{session}");
            let status = &expect(200, get(place, &path).await?)["status"];
            if *status == "terminated" {
                return Ok(End::Over);
            }
            let idle = *status == "idle";
            let list = list(place, session).await?;
            let has = |kind: &str| list.iter().any(|event| event["type"] == kind);
            let owed = answers(&list);
            let next = if !said(&list, &self.words(first)) {
                match self.deed {
                    Deed::LongLog => (0..MANY).map(|_| message(&self.words(first))).collect(),
                    _ => vec![message(&self.words(first))],
                }
            } else if idle && !owed.is_empty() {
                owed
            } else if first == HANG && has("agent.tool_use") && !has("user.interrupt") {
                if matches!(self.deed, Deed::Stop | Deed::Takeover) && !self.stopped {
                    return Ok(End::Stop);
                }
                vec![interrupt()]
            } else if first == WAIT && has("span.model_request_start") && !has("user.interrupt") {
                vec![interrupt()]
            } else if let Some(then) = then.filter(|then| idle && !said(&list, &self.words(then))) {
                vec![message(&self.words(then))]
            } else if idle && list.iter().all(|event| !event["processed_at"].is_null()) {
                return Ok(End::Over);
            } else {
                match wait(&mut stream, place, session).await? {
                    true => silent = 0,
                    false => silent += 1,
                }
                if silent == SILENT {
                    break;
                }
                continue;
            };
            let path = format!("/v1/sessions/{session}/events");
            let answer = expect(200, post(place, &path, &json!({"events": next})).await?);
            let echoes = answer["data"].as_array().expect("the events");
            self.acknowledged.extend(echoes.iter().cloned());
        }
        panic!(
            "{}: no way out: {:#?}",
            self.name,
            list(place, session).await?
        );
    }

    pub(crate) fn words(&self, word: &str) -> String {
        format!("{word} {}", self.name)
    }

    /// How many commands the model asks for that leave a line.
    pub(crate) fn commands(&self) -> usize {
        match self.deed {
            Deed::InterruptModel | Deed::Summary | Deed::Refused | Deed::LongLog => 0,
            _ => 1,
        }
    }

    async fn check(&mut self, place: &Place, session: &str) -> Result<(), Gone> {
        let list = list(place, session).await?;
        crate::check::check(self, &list);
        let ran = list.iter().filter(|event| {
            event["type"] == "agent.tool_result" && event["content"][0]["text"] == "ran\n"
        });
        self.successes = ran.count();
        Ok(())
    }
}

fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

fn interrupt() -> Value {
    json!({"type": "user.interrupt"})
}

fn said(list: &[Value], text: &str) -> bool {
    let mut messages = list.iter().filter(|event| event["type"] == "user.message");
    messages.any(|event| event["content"][0]["text"] == text)
}

/// The answers to all calls that wait for the client.
fn answers(list: &[Value]) -> Vec<Value> {
    let answered = |call: &Value| {
        let names = ["tool_use_id", "custom_tool_use_id"];
        list.iter()
            .any(|event| names.iter().any(|name| event[*name] == *call))
    };
    let open = list.iter().filter(|event| !answered(&event["id"]));
    open.filter_map(|event| match event["type"].as_str() {
        Some("agent.custom_tool_use") => Some(json!({
            "type": "user.custom_tool_result", "custom_tool_use_id": event["id"],
            "content": [{"type": "text", "text": "so it is"}],
        })),
        Some("agent.tool_use") if event["evaluated_permission"] == "ask" => Some(json!({
            "type": "user.tool_confirmation", "tool_use_id": event["id"], "result": "allow",
        })),
        _ => None,
    })
    .collect()
}

async fn list(place: &Place, session: &str) -> Result<Vec<Value>, Gone> {
    let mut events = Vec::new();
    let mut page = String::new();
    loop {
        let path = format!("/v1/sessions/{session}/events?limit=1000{page}");
        let answer = expect(200, get(place, &path).await?);
        events.extend(
            answer["data"]
                .as_array()
                .expect("the events")
                .iter()
                .cloned(),
        );
        match answer["next_page"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => return Ok(events),
        }
    }
}

async fn listen(place: &Place, session: &str) -> Result<EventStream, Gone> {
    let path = format!("/v1/sessions/{session}/events/stream");
    let mut connection = place.client.connect().await.map_err(|_| Gone)?;
    let answer = connection.begin(Method::GET, &path, "").await;
    let answer = answer.map_err(|_| Gone)?;
    assert_eq!(answer.status(), 200, "{path}");
    Ok(EventStream::new(answer.into_body()))
}

/// Waits for an event, for a while; whether there was one. A stream that ends is taken up again, if the server lives.
async fn wait(stream: &mut EventStream, place: &Place, session: &str) -> Result<bool, Gone> {
    let heard = tokio::time::timeout(LOOK, stream.next()).await;
    if let Ok(None) = heard {
        *stream = listen(place, session).await?;
    }
    Ok(matches!(heard, Ok(Some(_))))
}

pub(crate) async fn get(place: &Place, path: &str) -> Result<Answer, Gone> {
    send(place, Method::GET, path, "").await
}

pub(crate) async fn post(place: &Place, path: &str, body: &Value) -> Result<Answer, Gone> {
    send(place, Method::POST, path, &body.to_string()).await
}

pub(crate) async fn send(
    place: &Place,
    method: Method,
    path: &str,
    body: &str,
) -> Result<Answer, Gone> {
    let answer = place.client.send(method, path, body.to_owned()).await;
    answer.map_err(|_| Gone)
}

#[track_caller]
pub(crate) fn expect(status: u16, answer: Answer) -> Value {
    assert_eq!(answer.status, status, "{answer}");
    answer.json()
}
