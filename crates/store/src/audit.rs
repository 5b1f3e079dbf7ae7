//! The audit log: who did what with secrets and keys, and how it ended (security OPS-3, CRED-4). Rows are only ever added; the
//! database itself refuses to change or remove one. No row has a secret or a placeholder in it.

use manyhands_protocol::id::{ApiKeyId, AuditId};
use manyhands_protocol::{CredentialId, SessionId, Timestamp, VaultId, WorkspaceId};

use crate::db::{Beside, Reader, Row, Schema, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::Query;
use crate::reserve::Purpose;
use crate::store::{Database, Services, Store};

/// Rows that are in memory at a time.
const PAGE: u32 = 256;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A client with this key.
    Key(ApiKeyId),
    /// A session: its agent, or its sandbox.
    Session(SessionId),
    /// Who runs commands on the server's machine.
    Operator,
    /// The server by itself.
    Server,
}

impl Actor {
    fn text(&self) -> &str {
        match self {
            Self::Key(id) => id.as_str(),
            Self::Session(id) => id.as_str(),
            Self::Operator => "operator",
            Self::Server => "server",
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What is done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// The word for it, such as `vault.create`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

actions! {
    /// A vault is made.
    VaultCreate = "vault.create";
    /// A vault is changed.
    VaultUpdate = "vault.update";
    /// A vault is archived, and what is in it.
    VaultArchive = "vault.archive";
    /// A vault is deleted, and what is in it.
    VaultDelete = "vault.delete";
    /// A credential is made.
    CredentialCreate = "credential.create";
    /// A credential is changed.
    CredentialUpdate = "credential.update";
    /// A credential is archived.
    CredentialArchive = "credential.archive";
    /// A credential is deleted.
    CredentialDelete = "credential.delete";
    /// A credential is tried out.
    CredentialValidate = "credential.validate";
    /// A credential's access token is refreshed.
    CredentialRefresh = "credential.refresh";
    /// A secret takes a placeholder's place in a request.
    CredentialRelease = "credential.release";
    /// A token goes to an MCP server.
    CredentialUse = "credential.use";
    /// A repository's token goes to its host.
    RepositoryUse = "repository.use";
    /// A repository's token is replaced.
    RepositoryUpdate = "repository.update";
    /// An API key is made.
    KeyCreate = "key.create";
    /// An API key is revoked.
    KeyRevoke = "key.revoke";
    /// A workspace is made.
    WorkspaceCreate = "workspace.create";
    /// A workspace gets another name.
    WorkspaceRename = "workspace.rename";
    /// The master key is replaced.
    MasterKeyRotate = "master_key.rotate";
    /// A client allows or denies a tool call.
    Approval = "approval";
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is done, or begun with nothing left to decide.
    Done,
    /// It was not allowed.
    Refused,
    /// It was tried and failed.
    Failed,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Something that somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Whose things are concerned.
    pub workspace: WorkspaceId,
    /// Who does it.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// To what, where it is no vault or credential: an id, never a secret.
    pub object: Option<String>,
    /// The vault.
    pub vault: Option<VaultId>,
    /// The credential.
    pub credential: Option<CredentialId>,
    /// The session it is done for.
    pub session: Option<SessionId>,
    /// The host that gets to see a secret.
    pub host: Option<String>,
    /// How it ends.
    pub outcome: Outcome,
}

impl Act {
    /// Something that is done to nothing yet.
    pub fn new(workspace: &WorkspaceId, actor: Actor, action: Action) -> Self {
        Self {
            workspace: workspace.clone(),
            actor,
            action,
            object: None,
            vault: None,
            credential: None,
            session: None,
            host: None,
            outcome: Outcome::Done,
        }
    }

    /// Done to a vault.
    pub fn to_vault(mut self, vault: &VaultId) -> Self {
        self.vault = Some(vault.clone());
        self
    }

    /// Done to a credential of a vault.
    pub fn to_credential(mut self, vault: &VaultId, credential: &CredentialId) -> Self {
        self.vault = Some(vault.clone());
        self.credential = Some(credential.clone());
        self
    }

    /// Done to something else.
    pub fn to(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// Done for a session, towards a host.
    pub fn towards(mut self, session: &SessionId, host: impl Into<String>) -> Self {
        self.session = Some(session.clone());
        self.host = Some(host.into());
        self
    }

    /// With this end.
    pub fn ending(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
}

/// A row of the audit log, as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id.
    pub id: String,
    /// When it was done.
    pub at: Timestamp,
    /// Whose things were concerned.
    pub workspace: String,
    /// Who: a key's id, a session's id, `operator` or `server`.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what, where it is no vault or credential.
    pub object: Option<String>,
    /// The vault.
    pub vault: Option<String>,
    /// The credential.
    pub credential: Option<String>,
    /// The session it was done for.
    pub session: Option<String>,
    /// The host that got to see a secret.
    pub host: Option<String>,
    /// How it ended.
    pub outcome: String,
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this session.
    pub session: Option<String>,
    /// Of this vault.
    pub vault: Option<String>,
    /// Of this credential.
    pub credential: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// After this row of an earlier page.
    pub after: Option<(Timestamp, String)>,
}

/// The columns of a row, as [`record_of`] takes them.
macro_rules! audit_columns {
    () => {
        "id, at, workspace, actor, action, object, vault_id, credential_id, session_id, host, outcome"
    };
}
pub(crate) use audit_columns;

impl Store {
    /// Adds a row, durable when this returns: before whatever it tells of takes effect.
    pub async fn audit(&self, act: Act) -> Result<(), Error> {
        let services = self.inner.services.clone();
        // Whoever ends something must be able to, and nothing is done whose row cannot be written.
        let scope = Scope::of(act.actor.text()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move { append(tx, &services, &act).await })
            })
            .await
    }

    /// A page of rows, oldest first, at most `limit`.
    pub async fn list_audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, Error> {
        let query = page(filter, limit);
        self.inner.db.list(query.sql, query.values, record_of).await
    }
}

/// Reads the rows of a store whose server may be running, oldest first, and tells each.
///
/// # Errors
/// When the store cannot be read: it is absent, of another schema, or out of reach.
pub async fn read(
    database: &Database,
    mut filter: AuditFilter,
    tell: &mut (dyn FnMut(AuditRecord) + Send),
) -> Result<(), Error> {
    let mut reader = match database {
        Database::Sqlite { directory } => {
            Reader::sqlite(&directory.join("manyhands.db"), Beside::Writers).await?
        }
        Database::Postgres { url } => Reader::postgres(url).await?,
        Database::Memory(shared) => Reader::memory(shared),
    };
    reader.require(Schema::Same).await?;
    loop {
        let query = page(&filter, PAGE);
        let rows = reader.all(query.sql, query.values).await?;
        for row in &rows {
            let record = record_of(row)?;
            filter.after = Some((record.at, record.id.clone()));
            tell(record);
        }
        if rows.len() < PAGE as usize {
            return reader.close().await;
        }
    }
}

fn page(filter: &AuditFilter, limit: u32) -> Query {
    let mut query = Query::new(concat!(
        "SELECT ",
        audit_columns!(),
        " FROM audit WHERE 1 = 1"
    ));
    for (condition, value) in [
        ("session_id = ", &filter.session),
        ("vault_id = ", &filter.vault),
        ("credential_id = ", &filter.credential),
    ] {
        if let Some(value) = value {
            query.and(condition, value.as_str());
        }
    }
    if let Some(since) = filter.since {
        query.and("at >= ", since);
    }
    if let Some((at, id)) = &filter.after {
        query.push(" AND (at, id) > (");
        query.bind(*at);
        query.push(", ");
        query.bind(id.as_str());
        query.push(")");
    }
    query.push(" ORDER BY at, id LIMIT ");
    query.bind(limit);
    query
}

/// Adds a row in the transaction of what it tells of, before that.
pub(crate) async fn append(tx: &mut Tx, services: &Services, act: &Act) -> Result<(), Error> {
    tx.run(
        concat!(
            "INSERT INTO audit (",
            audit_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        ),
        values![
            AuditId::generate().as_str(),
            services.clock.now(),
            act.workspace.as_str(),
            act.actor.text(),
            act.action.as_str(),
            act.object.as_deref(),
            act.vault.as_ref().map(VaultId::as_str),
            act.credential.as_ref().map(CredentialId::as_str),
            act.session.as_ref().map(SessionId::as_str),
            act.host.as_deref(),
            act.outcome.as_str(),
        ],
    )
    .await?;
    failpoint!("store::audit::appended");
    Ok(())
}

/// Reads a row from its columns.
pub(crate) fn record_of(row: &Row) -> Result<AuditRecord, Error> {
    let optional = |column| Ok::<_, Error>(row.optional_text(column)?.map(str::to_owned));
    Ok(AuditRecord {
        id: row.text(0)?.to_owned(),
        at: row.time(1)?,
        workspace: row.text(2)?.to_owned(),
        actor: row.text(3)?.to_owned(),
        action: row.text(4)?.to_owned(),
        object: optional(5)?,
        vault: optional(6)?,
        credential: optional(7)?,
        session: optional(8)?,
        host: optional(9)?,
        outcome: row.text(10)?.to_owned(),
    })
}
