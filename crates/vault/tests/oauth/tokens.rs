//! Which token goes to which server.

use manyhands_mcp::{Authorization as _, Caller, Denied, Token};
use manyhands_protocol::SessionId;
use manyhands_protocol::VaultId;
use manyhands_protocol::vault::CredentialAuth;
use manyhands_vault::Field;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::bed::{Bed, MCP, Server};

fn caller(bed: &Bed, vaults: &[&VaultId]) -> Caller {
    Caller {
        workspace: bed.workspace.clone(),
        session: SessionId::generate(),
        vaults: vaults.iter().map(|vault| (*vault).clone()).collect(),
    }
}

async fn ask(
    server: &Server,
    caller: &Caller,
    url: &str,
    refused: Option<&Token>,
) -> Result<Option<Token>, Denied> {
    let url = Url::parse(url).expect("a URL");
    server.tokens.token(caller, &url, refused).await
}

async fn secret(server: &Server, caller: &Caller, url: &str) -> Option<String> {
    let token = ask(server, caller, url, None).await.expect("asked");
    token.map(|token| token.secret.expose_secret().to_owned())
}

fn bearer(url: &str) -> CredentialAuth {
    CredentialAuth::StaticBearer {
        mcp_server_url: url.to_owned(),
    }
}

/// runtime MC-6, VA-8, AR-5, scenario 16; security CRED-9
#[tokio::test]
async fn mc_6_the_first_vault_with_the_servers_url_wins() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (first, second) = (server.vault().await, server.vault().await);
    let one = server
        .insert(
            &first,
            bearer("HTTPS://MCP.Example.com:443/mcp/"),
            &[(Field::Token, "one")],
        )
        .await;
    server
        .insert(&second, bearer(MCP), &[(Field::Token, "two")])
        .await;
    server
        .insert(
            &second,
            bearer("https://mcp.example.com/other"),
            &[(Field::Token, "other")],
        )
        .await;
    let both = caller(&bed, &[&first, &second]);
    let found = async |caller: &Caller, url: &str| secret(&server, caller, url).await;
    assert_eq!(found(&both, MCP).await.as_deref(), Some("one"));
    let turned = caller(&bed, &[&second, &first]);
    assert_eq!(found(&turned, MCP).await.as_deref(), Some("two"));
    assert_eq!(
        found(&turned, "https://mcp.EXAMPLE.com:443/mcp/")
            .await
            .as_deref(),
        Some("two")
    );
    assert_eq!(
        found(&both, "https://mcp.example.com/other")
            .await
            .as_deref(),
        Some("other")
    );
    for other in [
        "http://mcp.example.com/mcp",
        "https://mcp.example.com:8443/mcp",
        "https://www.mcp.example.com/mcp",
        "https://mcp.example.com/MCP",
        "https://mcp.example.com/mcp/v2",
        "https://mcp.example.com",
    ] {
        assert_eq!(found(&both, other).await, None, "{other}");
    }
    assert_eq!(found(&caller(&bed, &[]), MCP).await, None);
    let foreign = Caller {
        workspace: manyhands_protocol::WorkspaceId::generate(),
        ..both.clone()
    };
    assert_eq!(found(&foreign, MCP).await, None);
    // VA-7, VA-16: what was archived is passed over from now on.
    server.archive(&one).await;
    assert_eq!(found(&both, MCP).await.as_deref(), Some("two"));
}

/// runtime VA-7, security CRED-8: a rotation is seen by the next request; a token that was refused is not given again.
#[tokio::test]
async fn va_7_a_rotated_token_is_used_at_once() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let vault = server.vault().await;
    let record = server
        .insert(&vault, bearer(MCP), &[(Field::Token, "old")])
        .await;
    let caller = caller(&bed, &[&vault]);
    let old = ask(&server, &caller, MCP, None)
        .await
        .expect("asked")
        .expect("a token");
    let denied = ask(&server, &caller, MCP, Some(&old))
        .await
        .expect_err("refused");
    assert_eq!(
        denied.to_string(),
        format!(
            "credential {} was refused by the server",
            record.credential.id
        )
    );
    let sealed = server
        .sealed(&record.credential, &[(Field::Token, "new")])
        .await;
    server
        .change(&record, move |record| record.secrets.extend(sealed))
        .await;
    let new = ask(&server, &caller, MCP, Some(&old))
        .await
        .expect("asked")
        .expect("a token");
    assert_eq!(new.secret.expose_secret(), "new");
}

/// runtime MC-7, VA-6: an expired token is refreshed on its way out; a grant that is gone is told as such.
#[tokio::test]
async fn va_6_mcp_connections_get_fresh_tokens() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let caller = caller(&bed, &[&record.credential.vault_id]);
    let token = ask(&server, &caller, MCP, None)
        .await
        .expect("asked")
        .expect("a token");
    assert!(bed.server.admits(token.secret.expose_secret()));
    bed.server.expire_all();
    let fresh = ask(&server, &caller, MCP, Some(&token))
        .await
        .expect("asked")
        .expect("a token");
    assert!(bed.server.admits(fresh.secret.expose_secret()));
    assert_eq!(bed.server.granted(), 2);
    bed.server.revoke_all();
    let denied = ask(&server, &caller, MCP, Some(&fresh))
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        denied.contains("needs a new grant") && denied.ends_with("invalid_grant (400)"),
        "{denied}"
    );
    for secret in [token.secret.expose_secret(), fresh.secret.expose_secret()] {
        assert!(!denied.contains(secret) && !format!("{token:?}").contains(secret));
    }
}

/// security OPS-3, CRED-4: who used which credential for which host, written before the token is given; once a minute.
#[tokio::test]
async fn ops_3_uses_are_written_down() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let vault = server.vault().await;
    let record = server
        .insert(&vault, bearer(MCP), &[(Field::Token, "t0p-secret")])
        .await;
    let (one, two) = (caller(&bed, &[&vault]), caller(&bed, &[&vault]));
    for caller in [&one, &one, &two, &one] {
        secret(&server, caller, MCP).await.expect("a token");
    }
    let filter = manyhands_store::audit::AuditFilter {
        session: Some(one.session.to_string()),
        ..Default::default()
    };
    let rows = server.store.list_audit(&filter, 100).await.expect("rows");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!(
        (row.action.as_str(), row.outcome.as_str()),
        ("credential.use", "done")
    );
    assert_eq!(row.actor, one.session.to_string());
    assert_eq!(row.host.as_deref(), Some("mcp.example.com"));
    assert_eq!(
        row.credential.as_deref(),
        Some(record.credential.id.as_str())
    );
    assert!(!format!("{rows:?}").contains("t0p-secret"));
    let all = server.audit(&record).await;
    assert_eq!(
        all.iter()
            .filter(|(action, _)| action == "credential.use")
            .count(),
        2
    );
}
