//! Sessions: their rows, one and many.

use std::borrow::Cow;

use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::budget::Budget;
use manyhands_protocol::session::{SessionFilter, SessionStatus};
use manyhands_protocol::{
    EnvironmentId, Metadata, SessionId, ThreadId, Timestamp, VaultId, WorkspaceId,
};
use serde::{Deserialize, Serialize};

use super::{Change, SessionRecord};
use crate::body;
use crate::db::{Row, values};
use crate::error::Error;
use crate::lease::Lease;
use crate::listing::{Query, Range};
use crate::store::Store;

/// The columns of a session's row, as [`record_of`] takes them.
macro_rules! record_columns {
    () => {
        "s.workspace, s.id, s.thread_id, s.environment_id, p.body, s.status, s.usage, s.active_millis,
         s.running_since, s.created_at, s.updated_at, s.archived_at, s.terminated_at, s.last_position,
         s.input_position, s.epoch, p.checksum"
    };
}
pub(crate) use record_columns;

/// How many they are.
pub(super) const RECORD_COLUMNS: usize = 17;

/// Where they come from.
macro_rules! record_tables {
    () => {
        "sessions s JOIN session_profiles p ON p.session_id = s.id"
    };
}
pub(crate) use record_tables;

/// The part of a session that hardly changes, as stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Profile<'a> {
    pub(super) agent: Cow<'a, SessionAgent>,
    pub(super) title: Cow<'a, Option<String>>,
    pub(super) metadata: Cow<'a, Metadata>,
    #[serde(default)]
    pub(super) budget: Option<Budget>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub(super) vault_ids: Cow<'a, [VaultId]>,
}

impl<'a> Profile<'a> {
    pub(super) fn of(record: &'a SessionRecord) -> Self {
        Self {
            agent: Cow::Borrowed(&record.agent),
            title: Cow::Borrowed(&record.title),
            metadata: Cow::Borrowed(&record.metadata),
            budget: record.budget,
            vault_ids: Cow::Borrowed(&record.vault_ids),
        }
    }

    /// It after a change.
    pub(super) fn changed(self, change: &'a Change) -> Self {
        Self {
            agent: change.agent.as_ref().map_or(self.agent, Cow::Borrowed),
            title: change.title.as_ref().map_or(self.title, Cow::Borrowed),
            metadata: change
                .metadata
                .as_ref()
                .map_or(self.metadata, Cow::Borrowed),
            budget: change.budget.unwrap_or(self.budget),
            ..self
        }
    }
}

/// Reads a session from its columns.
pub(crate) fn record_of(row: &Row) -> Result<SessionRecord, Error> {
    let read = || -> Result<SessionRecord, String> {
        let text = |column| row.text(column).map_err(|error| error.to_string());
        let int = |column| row.int(column).map_err(|error| error.to_string());
        let time = |column| row.time(column).map_err(|error| error.to_string());
        let optional_time = |column| -> Result<Option<Timestamp>, String> {
            row.optional_time(column).map_err(|error| error.to_string())
        };
        let profile = body::intact(row, text(1)?, 4, 16)?;
        let profile: Profile<'_> =
            serde_json::from_str(profile).map_err(|error| error.to_string())?;
        Ok(SessionRecord {
            workspace: WorkspaceId::parse(text(0)?).map_err(|error| error.to_string())?,
            id: SessionId::parse(text(1)?).map_err(|error| error.to_string())?,
            thread_id: ThreadId::parse(text(2)?).map_err(|error| error.to_string())?,
            environment_id: EnvironmentId::parse(text(3)?).map_err(|error| error.to_string())?,
            agent: profile.agent.into_owned(),
            title: profile.title.into_owned(),
            metadata: profile.metadata.into_owned(),
            budget: profile.budget,
            vault_ids: profile.vault_ids.into_owned(),
            status: SessionStatus::parse(text(5)?).ok_or("its status is unknown")?,
            usage: serde_json::from_str(text(6)?).map_err(|error| error.to_string())?,
            active_millis: int(7)?,
            running_since: optional_time(8)?,
            created_at: time(9)?,
            updated_at: time(10)?,
            archived_at: optional_time(11)?,
            terminated_at: optional_time(12)?,
            last_position: int(13)?,
            input_position: int(14)?,
            epoch: int(15)?,
        })
    };
    read()
        .map_err(|reason| Error::damaged(format!("session {}", row.text(1).unwrap_or("?")), reason))
}

impl Store {
    /// A session.
    pub async fn session(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
    ) -> Result<Option<SessionRecord>, Error> {
        let sql = concat!(
            "SELECT ",
            record_columns!(),
            " FROM ",
            record_tables!(),
            " WHERE s.id = $1 AND s.workspace = $2"
        );
        self.inner
            .db
            .find(sql, values![id.as_str(), workspace.as_str()], record_of)
            .await
    }

    /// The session as its brain sees it. `None` when it is gone or archived.
    pub async fn leased_session(&self, lease: &Lease) -> Result<Option<SessionRecord>, Error> {
        let record = self.session(&lease.workspace, &lease.session).await?;
        Ok(record.filter(|record| record.archived_at.is_none()))
    }

    /// A page of sessions.
    pub async fn list_sessions(
        &self,
        workspace: &WorkspaceId,
        filter: &SessionFilter,
        range: &Range,
    ) -> Result<Vec<SessionRecord>, Error> {
        let mut query = Query::new(concat!(
            "SELECT ",
            record_columns!(),
            " FROM ",
            record_tables!(),
            " WHERE s.workspace = "
        ));
        query.bind(workspace.as_str());
        query.and_if(
            "s.agent_id = ",
            filter.agent_id.as_ref().map(|agent| agent.as_str()),
        );
        query.and_if("s.agent_version = ", filter.agent_version);
        if let Some(store) = &filter.memory_store_id {
            query.push(
                " AND s.id IN (SELECT session_id FROM session_memory_stores WHERE store_id = ",
            );
            query.bind(store.as_str());
            query.push(")");
        }
        if !filter.statuses.is_empty() {
            query.and_in(
                "s.status",
                filter.statuses.iter().map(|status| status.as_str()),
            );
        }
        query.and_if("s.created_at > ", filter.created_after);
        query.and_if("s.created_at >= ", filter.created_from);
        query.and_if("s.created_at < ", filter.created_before);
        query.and_if("s.created_at <= ", filter.created_to);
        if !filter.include_archived {
            query.push(" AND s.archived_at IS NULL");
        }
        query.page("s.created_at", "s.id", range);
        self.inner.db.list(query.sql, query.values, record_of).await
    }
}
