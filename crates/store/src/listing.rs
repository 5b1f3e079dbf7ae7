//! Where a list page begins, and how a list is asked for.

use manyhands_protocol::page::Order;
use manyhands_protocol::{Timestamp, WorkspaceId};

use crate::db::Value;

/// A place in a list that is sorted by creation time, then id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Creation time of the item.
    pub created_at: Timestamp,
    /// Its id.
    pub id: String,
}

/// What part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Only items after this one, in list order; `None` from the beginning.
    pub after: Option<Key>,
    /// The direction.
    pub order: Order,
    /// How many at most.
    pub limit: u32,
}

impl Range {
    /// Whether an item with this creation time and id can be on the page.
    pub fn has(&self, key: &(Timestamp, String)) -> bool {
        let Some(after) = &self.after else {
            return true;
        };
        let after = (after.created_at, after.id.as_str());
        let item = (key.0, key.1.as_str());
        match self.order {
            Order::Asc => item > after,
            Order::Desc => item < after,
        }
    }
}

/// Filters that lists of resources have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
    /// Whether archived ones are shown too.
    pub include_archived: bool,
}

impl Filter {
    /// All, or all that are not archived.
    pub(crate) fn archived_too(include_archived: bool) -> Self {
        Self {
            include_archived,
            ..Self::default()
        }
    }
}

/// A place in a session's event list: listed events by list position, then queued ones by position
/// (architecture "Log entry", runtime LI-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKey {
    /// After the processed event whose list position this is.
    Processed(i64),
    /// After the queued event stored at this position.
    Queued(i64),
}

/// What part of a session's event list is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventRange {
    /// Only events after this one, in list order.
    pub after: Option<EventKey>,
    /// Oldest first: how far the pages before this one were in the other part of the list than `after`. What was queued
    /// beyond them and has been processed since stands before `after`, and is on this page all the same; what they
    /// showed as queued is not.
    pub beside: Option<i64>,
    /// Newest first instead of oldest first (queued events then come first).
    pub descending: bool,
    /// How many at most.
    pub limit: u32,
    /// Only these types; empty means all.
    pub types: Vec<String>,
    /// `processed_at` after, at or after, before, at or before. Queued events match none of them.
    pub processed_after: Option<Timestamp>,
    /// At or after.
    pub processed_from: Option<Timestamp>,
    /// Before.
    pub processed_before: Option<Timestamp>,
    /// At or before.
    pub processed_to: Option<Timestamp>,
}

/// A statement put together from fixed parts; values only ever become parameters.
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Query {
    pub(crate) fn new(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            values: Vec::new(),
        }
    }

    /// A page of a workspace's resources: `sql` ends where the workspace's id comes, and its tables have one column each
    /// of the names `created_at`, `archived_at` and `id`.
    pub(crate) fn listed(
        sql: &str,
        workspace: &WorkspaceId,
        filter: &Filter,
        range: &Range,
    ) -> Self {
        let mut query = Self::new(sql);
        query.bind(workspace.as_str());
        query.and_if("created_at >= ", filter.created_from);
        query.and_if("created_at <= ", filter.created_to);
        if !filter.include_archived {
            query.push(" AND archived_at IS NULL");
        }
        query.page("created_at", "id", range);
        query
    }

    pub(crate) fn push(&mut self, sql: &'static str) {
        self.sql.push_str(sql);
    }

    /// Adds a parameter in this place.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        self.sql.push_str(&format!("${}", self.values.len()));
    }

    /// Adds a condition that ends in a parameter.
    pub(crate) fn and(&mut self, condition: &'static str, value: impl Into<Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.bind(value);
    }

    /// Adds a condition that ends in a parameter, when there is one.
    pub(crate) fn and_if(&mut self, condition: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.and(condition, value);
        }
    }

    /// Adds the condition that a column has one of these values, of which there is at least one.
    pub(crate) fn and_in<V: Into<Value>>(
        &mut self,
        column: &'static str,
        values: impl IntoIterator<Item = V>,
    ) {
        self.sql.push_str(" AND ");
        self.sql.push_str(column);
        for (index, value) in values.into_iter().enumerate() {
            self.sql.push_str(if index == 0 { " IN (" } else { ", " });
            self.bind(value);
        }
        self.sql.push(')');
    }

    /// Sorts by creation time and id, and takes the page of `range`.
    pub(crate) fn page(&mut self, created_at: &'static str, id: &'static str, range: &Range) {
        let (direction, beyond) = match range.order {
            Order::Asc => ("ASC", ">"),
            Order::Desc => ("DESC", "<"),
        };
        if let Some(after) = &range.after {
            self.sql
                .push_str(&format!(" AND ({created_at}, {id}) {beyond} ("));
            self.bind(after.created_at);
            self.sql.push_str(", ");
            self.bind(after.id.as_str());
            self.sql.push(')');
        }
        self.sql.push_str(&format!(
            " ORDER BY {created_at} {direction}, {id} {direction} LIMIT "
        ));
        self.bind(range.limit);
    }
}
