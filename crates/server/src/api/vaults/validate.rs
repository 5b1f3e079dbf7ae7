//! Trying an OAuth credential out on its MCP server (api §16.5, runtime VA-17).

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use http::StatusCode;
use manyhands_mcp::{Failure, Settings, Stumble, Token};
use manyhands_protocol::vault::{
    CredentialAuth, CredentialValidation, HttpResponse, McpProbe, RefreshReport, RefreshStatus,
    ValidationStatus,
};
use manyhands_store::audit::Action;
use manyhands_store::vault::CredentialRecord;
use manyhands_vault::oauth::{Attempt, Captured};
use manyhands_vault::{Field, ServerUrl};
use url::Url;

use super::act;
use super::credentials::missing;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::Ids;
use crate::app::App;

/// How long a step may take at most: somebody waits for the answer.
const STEP: Duration = Duration::from_secs(10);

/// `POST /v1/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate`
pub(crate) async fn validate_credential(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<CredentialValidation>, ApiError> {
    let (vault, id) = (ids.vault()?, ids.credential()?);
    app.vaults.require_open().await?;
    let found = app.store.credential(&principal.workspace, &vault, &id);
    let record = found.await?.ok_or_else(missing)?;
    let CredentialAuth::McpOauth { mcp_server_url, .. } = &record.credential.auth else {
        return Err(ApiError::invalid(format!(
            "only mcp_oauth credentials can be validated, and this one is {}",
            record.credential.auth.type_name()
        )));
    };
    if record.credential.archived_at.is_some() {
        return Err(ApiError::invalid(
            "the credential is archived and its secrets are gone",
        ));
    }
    let mut act = act(&principal, Action::CredentialValidate).to_credential(&vault, &id);
    act.host = ServerUrl::parse(mcp_server_url)
        .ok()
        .map(|url| url.host().to_owned());
    app.store.audit(act).await?;

    let mut probe = probe(&app, &record).await?;
    let mut refresh = None;
    if probe.as_ref().is_some_and(wants_refresh) {
        let attempt = app.refresher.refresh(&record).await;
        if let Attempt::Refreshed(now) = &attempt {
            probe = self::probe(&app, now).await?;
        }
        refresh = Some(attempt);
    }
    if matches!(refresh, Some(Attempt::Gone)) {
        return Err(missing());
    }
    Ok(Reply(CredentialValidation {
        kind: Default::default(),
        credential_id: id,
        vault_id: vault,
        status: verdict(probe.as_ref(), refresh.as_ref()),
        has_refresh_token: record.secrets.contains_key(Field::RefreshToken.as_str()),
        validated_at: app.now(),
        mcp_probe: probe.map(|probe| McpProbe {
            method: probe.step.to_owned(),
            http_response: probe.answer.map(shown),
        }),
        refresh: refresh.map(report),
    }))
}

/// Where the MCP server did not go along with the credential's token.
struct Probed {
    step: &'static str,
    failure: Failure,
    answer: Option<Captured>,
}

/// Asks the MCP server; `None` when it went along.
async fn probe(app: &App, record: &CredentialRecord) -> Result<Option<Probed>, ApiError> {
    let CredentialAuth::McpOauth { mcp_server_url, .. } = &record.credential.auth else {
        return Ok(None);
    };
    let url = Url::parse(mcp_server_url)
        .map_err(|_| ApiError::invalid("the credential's mcp_server_url cannot be read"))?;
    let token = app.vaults.open_field(record, Field::AccessToken).await?;
    let secret = token.ok_or_else(missing)?;
    let token = Token {
        credential: record.credential.id.clone(),
        secret: secret.clone(),
    };
    let settings = Settings {
        connect: app.mcp.connect.min(STEP),
        list: app.mcp.list.min(STEP),
        ..app.mcp
    };
    let probed = manyhands_mcp::probe(app.outbound.clone(), settings, &url, token).await;
    Ok(probed.err().map(|stumble| {
        let Stumble {
            step,
            failure,
            answer,
        } = stumble;
        let answer = answer.map(|answer| {
            let status = StatusCode::from_u16(answer.status).unwrap_or_default();
            let content_type = answer.content_type.as_deref();
            Captured::new(status, content_type, &answer.body, answer.whole, [&secret])
        });
        Probed {
            step,
            failure,
            answer,
        }
    }))
}

/// Whether another token may help.
fn wants_refresh(probe: &Probed) -> bool {
    let refused = probe
        .answer
        .as_ref()
        .is_some_and(|answer| answer.status == 401);
    refused && matches!(probe.failure, Failure::Authentication { .. })
}

/// A grant that is gone, and a 4xx, are final; a 5xx, 429 and silence are not.
fn verdict(probe: Option<&Probed>, refresh: Option<&Attempt>) -> ValidationStatus {
    match refresh {
        Some(Attempt::Refused { .. } | Attempt::NoRefreshToken | Attempt::Gone) => {
            return ValidationStatus::Invalid;
        }
        Some(Attempt::Failed { .. } | Attempt::Unanswered { .. }) => {
            return ValidationStatus::Unknown;
        }
        Some(Attempt::Refreshed(_)) | None => {}
    }
    let Some(probe) = probe else {
        return ValidationStatus::Valid;
    };
    match probe.answer.as_ref().map(|answer| answer.status) {
        Some(status @ 400..=499) if status != 429 => ValidationStatus::Invalid,
        _ => ValidationStatus::Unknown,
    }
}

fn report(attempt: Attempt) -> RefreshReport {
    let (status, response) = match attempt {
        Attempt::Refreshed(_) => (RefreshStatus::Succeeded, None),
        Attempt::Refused { response, .. } | Attempt::Failed { response, .. } => {
            (RefreshStatus::Failed, response)
        }
        Attempt::Unanswered { .. } => (RefreshStatus::ConnectError, None),
        Attempt::NoRefreshToken | Attempt::Gone => (RefreshStatus::NoRefreshToken, None),
    };
    RefreshReport {
        status,
        http_response: response.map(shown),
    }
}

fn shown(captured: Captured) -> HttpResponse {
    HttpResponse {
        status_code: captured.status,
        content_type: captured.content_type,
        body: captured.body,
        body_truncated: captured.truncated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(status: Option<u16>) -> Probed {
        let answer = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            Captured::new(status, None, b"", true, [])
        };
        let reason = "x".to_owned();
        Probed {
            step: "initialize",
            failure: match status {
                Some(401 | 403) => Failure::Authentication { reason },
                _ => Failure::Connection { reason },
            },
            answer: status.map(answer),
        }
    }

    /// runtime VA-17
    #[test]
    fn va_17_the_verdict_follows_from_what_was_answered() {
        use ValidationStatus::{Invalid, Unknown, Valid};
        assert_eq!(verdict(None, None), Valid);
        for (status, expected) in [
            (Some(400), Invalid),
            (Some(401), Invalid),
            (Some(403), Invalid),
            (Some(404), Invalid),
            (Some(429), Unknown),
            (Some(500), Unknown),
            (Some(503), Unknown),
            (None, Unknown),
        ] {
            assert_eq!(verdict(Some(&probed(status)), None), expected, "{status:?}");
        }
        let refused = probed(Some(401));
        let why = || "x".to_owned();
        let attempt = |why: String| Attempt::Refused {
            why,
            response: None,
        };
        assert_eq!(verdict(Some(&refused), Some(&attempt(why()))), Invalid);
        let none = Attempt::NoRefreshToken;
        assert_eq!(verdict(Some(&refused), Some(&none)), Invalid);
        let failed = Attempt::Failed {
            why: why(),
            response: None,
        };
        assert_eq!(verdict(Some(&refused), Some(&failed)), Unknown);
        let silent = Attempt::Unanswered { why: why() };
        assert_eq!(verdict(Some(&refused), Some(&silent)), Unknown);
    }

    /// runtime VA-17: a refresh is for a token that was refused, and for nothing else.
    #[test]
    fn va_17_only_a_401_is_worth_a_refresh() {
        assert!(wants_refresh(&probed(Some(401))));
        for status in [Some(400), Some(403), Some(404), Some(500), None] {
            assert!(!wants_refresh(&probed(status)), "{status:?}");
        }
    }
}
