//! Resources that are one row of a workspace: found, locked, and changed by whoever decides on what they are now.

use manyhands_protocol::{SessionId, WorkspaceId};

use crate::audit::{self, Act};
use crate::db::{Lock, Row, Scope, Tx, Value, values};
use crate::error::Error;
use crate::listing::Query;
use crate::reserve::Purpose;
use crate::store::Store;

/// Where a resource is: a workspace never sees another's.
#[derive(Clone)]
pub(crate) struct Place {
    /// Whose it is.
    pub(crate) workspace: WorkspaceId,
    /// Its id.
    pub(crate) id: String,
    /// The id of what it is a part of, for those that are a part of something.
    within: Option<String>,
}

impl Place {
    pub(crate) fn new(workspace: &WorkspaceId, id: &str) -> Self {
        Self {
            workspace: workspace.clone(),
            id: id.to_owned(),
            within: None,
        }
    }

    pub(crate) fn within(self, id: &str) -> Self {
        Self {
            within: Some(id.to_owned()),
            ..self
        }
    }

    /// What [`Resource::SELECT`] takes.
    pub(crate) fn values(&self) -> Vec<Value> {
        let mut values = values![self.id.as_str(), self.workspace.as_str()];
        values.extend(self.within.as_deref().map(Value::from));
        values
    }
}

/// A resource that is found by its id and its workspace.
pub(crate) trait Resource: Sized + Send + Sync + 'static {
    /// Selects one by the [`values`](Place::values) of its place, for [`of`](Self::of).
    const SELECT: &'static str;

    /// What a change of it needs the disk for.
    const CHANGED_FOR: Purpose = Purpose::Begins;

    /// What a row says.
    fn of(row: &Row) -> Result<Self, Error>;

    /// Reads it under its lock, which lasts until the end of the transaction.
    fn lock(
        tx: &mut Tx,
        place: &Place,
    ) -> impl Future<Output = Result<Option<Self>, Error>> + Send {
        let values = place.values();
        async move { tx.lock(Lock::Update, Self::SELECT, values, Self::of).await }
    }

    /// Writes what one whose lock is held has become, and gives what it is then.
    fn write(
        tx: &mut Tx,
        place: &Place,
        old: Self,
        new: Self,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

/// Whether it is there, locked then. Its body is not looked at: also one that is damaged can be deleted.
pub(crate) async fn is_locked<T: Resource>(tx: &mut Tx, place: &Place) -> Result<bool, Error> {
    let rows = tx.locked(Lock::Update, T::SELECT, place.values()).await?;
    Ok(!rows.is_empty())
}

impl Store {
    /// What several sessions have. `select` gives rows for `of` with the session's id in the fourth column, up to where the
    /// sessions are chosen by their ids.
    pub(crate) async fn of_sessions<T>(
        &self,
        sessions: &[SessionId],
        select: &str,
        order: &'static str,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<(SessionId, T)>, Error> {
        let mut found = Vec::new();
        for asked in sessions.chunks(128) {
            let mut query = Query::new(select);
            query.and_in("session_id", asked.iter().map(SessionId::as_str));
            query.push(order);
            for row in &self.inner.db.read(query.sql, query.values).await? {
                let session = SessionId::parse(row.text(3)?)
                    .map_err(|error| Error::damaged("what a session has", error))?;
                found.push((session, of(row)?));
            }
        }
        Ok(found)
    }

    pub(crate) async fn find<T: Resource>(&self, place: Place) -> Result<Option<T>, Error> {
        self.inner.db.find(T::SELECT, place.values(), T::of).await
    }

    /// Changes a resource under its lock. `decide` gets what it is and answers with what it is to be, `None` for no change,
    /// or a refusal. The outer option is empty when there is no such resource. What is done is noted down in the audit log,
    /// before the change (security OPS-3), when something changes and it is such an act.
    pub(crate) async fn update<T: Resource, R: Send + 'static>(
        &self,
        place: Place,
        act: Option<Act>,
        decide: impl FnOnce(&T) -> Result<Option<T>, R> + Send + 'static,
    ) -> Result<Option<Result<T, R>>, Error> {
        let services = self.inner.services.clone();
        let scope = Scope::of(&place.id).with_purpose(T::CHANGED_FOR);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Some(old) = T::lock(tx, &place).await? else {
                        return Ok(None);
                    };
                    let new = match decide(&old) {
                        Ok(Some(new)) => new,
                        Ok(None) => return Ok(Some(Ok(old))),
                        Err(refusal) => return Ok(Some(Err(refusal))),
                    };
                    if let Some(act) = &act {
                        audit::append(tx, &services, act).await?;
                    }
                    Ok(Some(Ok(T::write(tx, &place, old, new).await?)))
                })
            })
            .await
    }
}
