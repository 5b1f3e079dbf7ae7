//! MCP servers in a turn: asked for their tools before the model is, and called when it wants them (runtime §17).
//!
//! What they say about their tools is written down, so that every request of the turn is built from the log alone. A
//! server that fails is told of and never holds a turn up (runtime MC-7).

mod servers;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use manyhands_mcp::{Failure, Server, Tool};
use manyhands_protocol::EventId;
use manyhands_protocol::event::{EventBody, SessionError};
use manyhands_store::NewEntry;

use super::{Flow, Stop, Wake, heard};
use crate::activity::Doing;
use crate::answer::Tools;
use crate::mcp::{self, McpTools, Target};
use crate::record::{MCP_TOOLS, private};
use crate::tools::Hand;

pub(super) use servers::{McpCall, Servers};

impl Wake {
    /// What the model can call now.
    pub(super) fn tools(&self) -> Tools<'_> {
        Tools {
            agent: &self.agent().definition,
            mcp: &self.transcript.mcp,
        }
    }

    /// Asks all servers at once that have not been asked in this turn.
    pub(super) async fn list(&mut self) -> Result<Flow, Stop> {
        self.pass("brain::list").await;
        let networking = self.networking().await?;
        let limit = self.servers.listing() + self.shared.config.watchdog.grace;
        self.enter(Doing::Listing, limit);
        let due = self.transcript.mcp.due(&self.agent().definition);
        let asked: Vec<Server> = due
            .map(|server| Server {
                name: server.name.to_owned(),
                url: server.url.to_owned(),
            })
            .collect();
        let servers = Arc::clone(&self.servers);
        let lists = join_all(
            asked
                .iter()
                .map(|server| servers.tools(server, &networking)),
        );
        tokio::pin!(lists);
        let lists = loop {
            tokio::select! {
                biased;
                lists = &mut lists => break lists,
                () = heard(&mut self.signal, self.shared.config.tick) => {
                    self.catch_up().await?;
                    if self.transcript.is_interrupted() {
                        return Ok(Flow::Continue);
                    }
                }
            }
        };
        self.working();
        let (said, told) = self.admitted(&asked, lists);
        let mut entries = vec![private(MCP_TOOLS, &said)];
        for error in told {
            tracing::warn!(session.id = %self.lease.session, error = error.message, "an MCP server's tools are missing");
            metrics::counter!("manyhands_mcp_failures_total").increment(1);
            entries.push(NewEntry::event(EventBody::SessionError { error }));
        }
        self.write(entries).await?;
        self.pass("brain::listed").await;
        Ok(Flow::Continue)
    }

    fn admitted(
        &self,
        asked: &[Server],
        lists: Vec<Result<Vec<Tool>, Failure>>,
    ) -> (McpTools, Vec<SessionError>) {
        let asked = asked.iter().map(|server| mcp::Server {
            name: &server.name,
            url: &server.url,
        });
        let answers = asked.zip(lists).collect();
        mcp::admit(&self.agent().definition, &self.transcript.mcp, answers)
    }

    /// The calls of MCP tools among these.
    pub(super) async fn mcp_calls(&self, run: &[EventId]) -> Result<Vec<McpCall>, Stop> {
        let calls = run.iter().filter_map(|id| {
            let call = self.transcript.calls.get(id)?;
            let target = call.mcp.clone()?;
            Some((id.clone(), call, target))
        });
        let calls: Vec<_> = calls.collect();
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let networking = self.networking().await?;
        let call = |(id, call, target): (EventId, &crate::replay::Call, Target)| {
            let server = mcp::server(&self.agent().definition, &target.server);
            McpCall {
                id,
                name: call.name.clone(),
                url: server.map(|server| server.url.to_owned()),
                target,
                // It was an object when the call was admitted.
                input: serde_json::from_str(&call.input).unwrap_or_default(),
                networking: networking.clone(),
            }
        };
        Ok(calls.into_iter().map(call).collect())
    }

    /// A failure that the client does not know of yet, in this turn or from these entries.
    pub(super) fn news(&self, error: SessionError, entries: &[NewEntry]) -> Option<NewEntry> {
        let server = error.mcp_server_name.as_deref()?;
        let told = entries.iter().any(|entry| match entry {
            NewEntry::Event {
                body: EventBody::SessionError { error: other },
                ..
            } => other.mcp_server_name.as_deref() == Some(server),
            _ => false,
        });
        let known = told || self.transcript.mcp.is_failure_told(server);
        (!known).then(|| NewEntry::event(EventBody::SessionError { error }))
    }

    /// How long a call beside the server may take at most; `None` for one that is not limited here.
    pub(super) fn mcp_deadline(&self, hand: Hand) -> Option<Duration> {
        (hand == Hand::Mcp).then(|| self.servers.calling())
    }
}
