//! `manyhands audit`: who did what with secrets and keys (security OPS-3), read beside the running server.

use manyhands_protocol::Timestamp;
use manyhands_store::audit::{self, AuditFilter, AuditRecord};
use serde_json::json;

use super::out::Out;
use crate::config::{Config, Flags};
use crate::failure::Failure;

/// What `manyhands audit` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Only what was done for this session, sesn_….
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only what was done to this vault, vlt_….
    #[arg(long, value_name = "ID")]
    pub vault: Option<String>,
    /// Only what was done to, or with, this credential, vcrd_….
    #[arg(long, value_name = "ID")]
    pub credential: Option<String>,
    /// Only what was done from then on, such as 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    pub since: Option<Timestamp>,
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// The same flags as `serve`.
    #[command(flatten)]
    pub flags: Flags,
}

/// Prints the rows, oldest first.
///
/// # Errors
/// When the store cannot be read, or standard output not written.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::without_services(args.flags)?;
    let filter = AuditFilter {
        session: args.session,
        vault: args.vault,
        credential: args.credential,
        since: args.since,
        after: None,
    };
    let mut out = Out::standard();
    let mut tell = |record: AuditRecord| match args.json {
        true => out.line(shown(&record)),
        false => out.line(line(&record)),
    };
    let read = audit::read(&config.database, filter, &mut tell).await;
    read.map_err(|error| {
        Failure::of_store(
            &error,
            "name the data directory with --data-dir, or PostgreSQL with --database-url",
        )
    })?;
    out.finish()
}

fn shown(record: &AuditRecord) -> serde_json::Value {
    json!({
        "id": record.id,
        "at": record.at,
        "workspace_id": record.workspace,
        "actor": record.actor,
        "action": record.action,
        "object": record.object,
        "vault_id": record.vault,
        "credential_id": record.credential,
        "session_id": record.session,
        "host": record.host,
        "outcome": record.outcome,
    })
}

/// When, who, what and how it ended; then to what, for whom and where to.
fn line(record: &AuditRecord) -> String {
    let mut line = format!(
        "{}  {}  {}  {}",
        record.at, record.actor, record.action, record.outcome
    );
    for (name, value) in [
        ("object", &record.object),
        ("vault", &record.vault),
        ("credential", &record.credential),
        ("session", &record.session),
        ("host", &record.host),
    ] {
        if let Some(value) = value {
            line.push_str(&format!("  {name}={value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security OPS-3
    #[test]
    fn ops_3_a_row_is_a_line_that_says_who_what_and_where_to() {
        let record = AuditRecord {
            id: "audit_1".to_owned(),
            at: Timestamp::from_micros(0),
            workspace: "wrkspc_1".to_owned(),
            actor: "sesn_1".to_owned(),
            action: "credential.release".to_owned(),
            object: None,
            vault: Some("vlt_1".to_owned()),
            credential: Some("vcrd_1".to_owned()),
            session: Some("sesn_1".to_owned()),
            host: Some("api.example.com".to_owned()),
            outcome: "done".to_owned(),
        };
        assert_eq!(
            line(&record),
            "1970-01-01T00:00:00.000000Z  sesn_1  credential.release  done  vault=vlt_1  credential=vcrd_1  \
             session=sesn_1  host=api.example.com"
        );
        let shown = shown(&record);
        assert_eq!(shown["host"], "api.example.com");
        assert_eq!(shown["object"], serde_json::Value::Null);
    }
}
