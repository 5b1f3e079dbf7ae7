//! What clients and operators change about a session: its agent, its environment, its budget.

use manyhands_protocol::agent::{Definition, McpServer, Tool, ToolDefault};
use manyhands_protocol::budget::Budget;
use manyhands_protocol::environment::{Environment, EnvironmentConfig, Networking, Packages};
use manyhands_protocol::event::EventBody;
use manyhands_store::{Append, Change, NewEntry};

use super::Bed;
use super::parts::{server_url, tools};

impl Bed {
    /// Gives the session's agent other tools, as a session update does.
    pub(crate) async fn set_tools(&self, tools: Vec<Tool>) {
        self.set_agent(|agent| agent.tools = tools).await;
    }

    async fn set_agent(&self, change: impl FnOnce(&mut Definition) + Send + 'static) {
        let changed = self
            .store
            .change(&self.workspace, &self.session, &[], move |state| {
                let mut agent = state.record.agent.clone();
                change(&mut agent.definition);
                let updated = EventBody::SessionUpdated {
                    agent: Some(Box::new(agent.clone())),
                    budget: None,
                    metadata: None,
                    title: None,
                };
                let append = Append {
                    entries: vec![
                        manyhands_brain::agent_before(&state.record.agent),
                        NewEntry::event(updated),
                    ],
                    ..Append::default()
                };
                let change = Change {
                    append,
                    agent: Some(agent),
                    ..Change::default()
                };
                Ok::<_, ()>((change, ()))
            })
            .await
            .unwrap();
        assert!(changed.is_some());
    }

    /// Gives the session's agent these MCP servers, with a toolset for each, as a session update does.
    pub(crate) async fn set_servers(&self, servers: &[(&str, ToolDefault)]) {
        let mut tools = tools();
        tools.extend(
            servers
                .iter()
                .map(|(name, default_config)| Tool::McpToolset {
                    mcp_server_name: (*name).to_owned(),
                    configs: Vec::new(),
                    default_config: default_config.clone(),
                }),
        );
        let urls = servers.iter().map(|(name, _)| McpServer::Url {
            name: (*name).to_owned(),
            url: server_url(name),
        });
        let urls: Vec<McpServer> = urls.collect();
        self.set_agent(move |agent| {
            agent.tools = tools;
            agent.mcp_servers = urls;
        })
        .await;
    }

    /// Sets what the session's environment lets out.
    pub(crate) async fn set_networking(&self, wanted: Networking) {
        self.set_environment(move |networking, _| *networking = wanted)
            .await;
    }

    /// Lists packages in the session's environment.
    pub(crate) async fn set_packages(&self, list: impl FnOnce(&mut Packages) + Send + 'static) {
        self.set_environment(|_, packages| list(packages)).await;
    }

    async fn set_environment(
        &self,
        edit: impl FnOnce(&mut Networking, &mut Packages) + Send + 'static,
    ) {
        let record = self.store.session(&self.workspace, &self.session).await;
        let environment = record.unwrap().expect("a session").environment_id;
        let change = move |current: &Environment| {
            let mut next = current.clone();
            if let EnvironmentConfig::Cloud {
                networking,
                packages,
            } = &mut next.config
            {
                edit(networking, packages);
            }
            Ok::<_, ()>(Some(next))
        };
        let updated = self
            .store
            .update_environment(&self.workspace, &environment, change);
        assert!(updated.await.unwrap().is_some());
    }

    /// Caps what the session may cost, or removes the cap, as a session update does.
    pub(crate) async fn set_budget(&self, cents: Option<u64>) {
        let budget = cents.map(Budget::of_cents);
        let changed = self
            .store
            .change(&self.workspace, &self.session, &[], move |_| {
                let updated = EventBody::SessionUpdated {
                    agent: None,
                    budget: Some(budget),
                    metadata: None,
                    title: None,
                };
                let append = Append {
                    entries: vec![NewEntry::event(updated)],
                    ..Append::default()
                };
                let change = Change {
                    append,
                    wants_brain: true,
                    budget: Some(budget),
                    ..Change::default()
                };
                Ok::<_, ()>((change, ()))
            })
            .await
            .unwrap();
        assert!(changed.is_some());
    }
}
