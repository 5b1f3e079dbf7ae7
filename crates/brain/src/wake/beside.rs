//! Calls that run beside the server, in this wake, and end with it: web tools and MCP servers (runtime WB-1, MC-5).
//!
//! Their intents name the wake: another one cannot have their results, and repeats none (security LOG-2, TOOL-2).

use futures::FutureExt;
use futures::future::BoxFuture;
use manyhands_protocol::EventId;

use super::{Stop, Wake};
use crate::tools::{self, Done, Hand};

impl Wake {
    /// What the intents of this wake's own calls name.
    pub(super) fn server_instance(&self) -> String {
        format!("server-{}", self.lease.epoch)
    }

    /// The calls among these that run beside the server, from now on begun.
    pub(super) async fn beside(
        &mut self,
        run: &[EventId],
    ) -> Result<Vec<BoxFuture<'static, Done>>, Stop> {
        let mut calls: Vec<BoxFuture<'static, Done>> = Vec::new();
        for call in self.web_calls(run).await? {
            let web = self.shared.config.web.clone();
            calls.push(async move { tools::fetch(web.as_ref(), call).await }.boxed());
        }
        for call in self.mcp_calls(run).await? {
            calls.push(self.servers.answer(call).boxed());
        }
        let begun = run.iter().filter(|id| {
            let call = self.transcript.calls.get(*id);
            call.is_some_and(|call| call.hand() != Hand::Sandbox)
        });
        self.begun.extend(begun.cloned());
        Ok(calls)
    }
}
