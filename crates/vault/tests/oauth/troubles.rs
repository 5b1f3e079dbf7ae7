//! Authorization servers that refuse, break down, lie, or never come to an end.

use std::time::Duration;

use manyhands_egress::outbound::Refusal;
use manyhands_protocol::vault::CredentialAuth;
use manyhands_store::vault::{Claim, CredentialRecord};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::oauth::Misdeed;
use manyhands_testkit::site::{Site, page};
use manyhands_vault::oauth::{Attempt, NoToken};
use manyhands_vault::{Field, Source};

use crate::bed::{Bed, SECRET, Server, master};

/// How a call without a token ends: whether it may go better later, and why.
fn told(token: Result<String, NoToken>) -> (bool, String) {
    match token.expect_err("no token") {
        NoToken::Invalid { why, .. } => (false, why),
        NoToken::Unavailable { why, .. } => (true, why),
    }
}

/// runtime VA-6, scenario 17: the credential is invalid until a client changes it, and that is to be seen.
#[tokio::test]
async fn va_6_a_refused_grant_makes_the_credential_invalid() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    bed.server.revoke_all();
    let (later, why) = told(server.access_token(&record).await);
    assert!(
        !later && why.contains("needs a new grant") && why.ends_with("invalid_grant (400)"),
        "{why}"
    );
    let now = server.now(&record).await;
    let refused = now.refused.as_ref().expect("noted down");
    assert_eq!(refused.reason, "invalid_grant (400)");
    assert_eq!(now.refreshing_until, None);
    // Nobody asks again, but who wants to know.
    let again = told(server.access_token(&record).await);
    assert_eq!((again.1.as_str(), bed.server.asked()), (why.as_str(), 1));
    let Attempt::Refused { why, response } = server.refresher.refresh(&now).await else {
        panic!("not refused");
    };
    assert_eq!(
        (why.as_str(), bed.server.asked()),
        ("invalid_grant (400)", 2)
    );
    let response = response.expect("an answer");
    assert_eq!((response.status, response.truncated), (400, false));
    assert_eq!(response.body, r#"{"error":"invalid_grant"}"#);
    let rows = server.audit(&record).await;
    let refused: Vec<_> = rows
        .iter()
        .filter(|(_, outcome)| outcome == "refused")
        .collect();
    assert_eq!(refused.len(), 2, "{rows:?}");
    assert!(
        refused
            .iter()
            .all(|(action, _)| action == "credential.refresh")
    );
    // A new grant, and it works again.
    let grant = bed.server.grant();
    let refresh = [(Field::RefreshToken, grant.refresh_token.as_str())];
    let sealed = server.sealed(&record.credential, &refresh).await;
    let renew = move |record: &mut CredentialRecord| {
        record.secrets.extend(sealed);
        record.refused = None;
    };
    server.change(&record, renew).await;
    let token = server.access_token(&record).await.expect("a token");
    assert!(bed.server.admits(&token));
}

/// runtime VA-6: a wrong client secret is as final as a grant that is gone.
#[tokio::test]
async fn va_6_a_refused_client_makes_the_credential_invalid() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let wrong = server
        .sealed(&record.credential, &[(Field::ClientSecret, "wrong")])
        .await;
    server
        .change(&record, move |record| record.secrets.extend(wrong))
        .await;
    let (later, why) = told(server.access_token(&record).await);
    assert!(!later && why.ends_with("invalid_client (401)"), "{why}");
}

/// runtime VA-17, security NET-9, CRED-7: troubles that pass leave the credential as it was.
#[tokio::test]
async fn va_17_what_may_go_better_changes_nothing() {
    let site = Site::start(|_, _| page("application/json", b"{}")).await;
    let elsewhere = site.url("login.example.com", "/token");
    for (misdeed, problem) in [
        (Misdeed::Refuse(500, "server_error"), "answered 500"),
        (
            Misdeed::Refuse(503, "temporarily_unavailable"),
            "answered 503",
        ),
        (Misdeed::Refuse(429, "slow_down"), "answered 429"),
        (
            Misdeed::Redirect(elsewhere),
            "answered 307, and redirects are not followed",
        ),
    ] {
        let bed = Bed::sqlite().await;
        let server = bed.open().await;
        let (record, grant) = bed.expired(&server).await;
        bed.server.misbehave(misdeed);
        let (later, why) = told(server.access_token(&record).await);
        assert!(later && why.ends_with(problem), "{why}");
        let now = server.now(&record).await;
        assert_eq!((&now.refused, now.refreshing_until), (&None, None));
        assert_eq!(now.secrets, record.secrets);
        assert_eq!(
            server.secret(&record, Field::RefreshToken).await,
            grant.refresh_token
        );
        let token = server.access_token(&record).await.expect("a token");
        assert!(bed.server.admits(&token));
        assert_eq!(bed.server.problems(), Vec::<String>::new());
    }
    assert_eq!(
        site.heads(),
        Vec::<String>::new(),
        "no secret went elsewhere"
    );
}

/// Another token endpoint for a credential.
async fn move_endpoint(server: &Server, record: &CredentialRecord, to: &str) {
    let to = to.to_owned();
    let change = move |record: &mut CredentialRecord| {
        if let CredentialAuth::McpOauth {
            refresh: Some(refresh),
            ..
        } = &mut record.credential.auth
        {
            refresh.token_endpoint = to;
        }
    };
    server.change(record, change).await;
}

/// security NET-3, NET-9, CRED-4, runtime SC-7: token endpoints are reached through the gate of all outgoing requests, or not at all.
#[tokio::test]
async fn net_9_token_endpoints_are_reached_through_the_gate() {
    let mut bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let port = bed.server.address().port();
    let not_allowed = Refusal::Port { port: 2 }.to_string();
    for (endpoint, problem) in [
        (
            "http://login.example.com:1/token".to_owned(),
            "cannot be reached",
        ),
        (
            "http://login.example.com:2/token".to_owned(),
            not_allowed.as_str(),
        ),
        (
            format!("http://127.0.0.1:{port}/token"),
            "is not the name of a host",
        ),
        (
            "ftp://login.example.com/token".to_owned(),
            "only http and https",
        ),
        ("login".to_owned(), "its token endpoint is no URL"),
    ] {
        move_endpoint(&server, &record, &endpoint).await;
        let (later, why) = told(server.access_token(&record).await);
        assert!(later && why.contains(problem), "{endpoint}: {why}");
        assert_eq!(server.now(&record).await.refreshing_until, None);
    }
    assert_eq!(bed.server.asked(), 0);
    move_endpoint(
        &server,
        &record,
        &bed.server.token_endpoint("login.example.com"),
    )
    .await;
    bed.settings.plain_http = false;
    let server = bed.again(&server, master()).await;
    let (later, why) = told(server.access_token(&record).await);
    assert!(
        later && why.ends_with("its token endpoint is not https"),
        "{why}"
    );
    assert_eq!(bed.server.asked(), 0);
}

/// runtime VA-6: a lost answer. Nobody knows whether the refresh token was used up; it is tried again, but not right behind.
#[tokio::test]
async fn va_6_a_refresh_whose_answer_is_lost_is_tried_again_after_its_time() {
    let bed = Bed::sqlite().await;
    let claim = bed.settings.claim;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let never = Gate::new();
    bed.server.misbehave(Misdeed::Hold(never.clone()));
    let waiting = async {
        never.reached().await;
        tokio::time::pause();
        tokio::time::advance(bed.settings.patience).await;
        tokio::time::resume();
    };
    let (token, ()) = tokio::join!(server.access_token(&record), waiting);
    let (later, why) = told(token);
    assert!(later && why.ends_with("did not answer in time"), "{why}");
    let now = server.now(&record).await;
    let held = server
        .store
        .claim_refresh(&now.workspace, &now.credential.id, now.generation, claim)
        .await;
    assert!(matches!(held, Ok(Claim::Held { .. })), "{held:?}");
    assert_eq!(bed.server.asked(), 1);
    bed.clock.advance(claim);
    let token = server.access_token(&record).await.expect("a token");
    assert!(bed.server.admits(&token));
    assert_eq!(bed.server.problems(), Vec::<String>::new());

    // Where the server had granted and counts, the grant is gone.
    bed.clock.advance(Duration::from_secs(3600));
    bed.server.misbehave(Misdeed::Lose);
    let (later, _) = told(server.access_token(&record).await);
    assert!(later);
    bed.clock.advance(claim);
    let (later, why) = told(server.access_token(&record).await);
    assert!(!later && why.ends_with("invalid_grant (400)"), "{why}");
}

/// security INP-1: answers without end, or without sense.
#[tokio::test]
async fn inp_1_nonsense_is_no_token() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    for (misdeed, problem) in [
        (Misdeed::Bloat(200 << 10), "is too long"),
        (
            Misdeed::Answer(200, "<html>welcome</html>".to_owned()),
            "is not JSON",
        ),
        (
            Misdeed::Answer(200, r#"{"token_type":"Bearer"}"#.to_owned()),
            "has no access token",
        ),
    ] {
        let (record, _) = bed.expired(&server).await;
        bed.server.misbehave(misdeed);
        let (later, why) = told(server.access_token(&record).await);
        assert!(later && why.ends_with(problem), "{why}");
        assert_eq!(server.now(&record).await.secrets, record.secrets);
    }
}

/// runtime VA-17, security CRED-2: what a token endpoint says is shown without the secrets that it was sent.
#[tokio::test]
async fn cred_2_answers_are_shown_without_secrets() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, grant) = bed.expired(&server).await;
    let body = format!("no: {} {SECRET}", grant.refresh_token);
    bed.server.misbehave(Misdeed::Answer(418, body));
    let Attempt::Refused { why, response } = server.refresher.refresh(&record).await else {
        panic!("not refused");
    };
    let response = response.expect("an answer");
    assert_eq!((why.as_str(), response.status), ("status 418", 418));
    let stars = |text: &str| "*".repeat(text.len());
    let expected = format!("no: {} {}", stars(&grant.refresh_token), stars(SECRET));
    assert_eq!(response.body, expected);
}

/// security CRED-1: a sealed server gives nothing and asks nobody.
#[tokio::test]
async fn cred_1_a_sealed_server_refreshes_nothing() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let server = bed.again(&server, Source::Nowhere).await;
    let (later, why) = told(server.access_token(&record).await);
    assert!(
        later && why.ends_with("the server has no master key"),
        "{why}"
    );
    assert_eq!(bed.server.asked(), 0);
}

/// runtime VA-6: an end without a way on.
#[tokio::test]
async fn va_6_without_a_refresh_token_an_end_is_an_end() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let strip = |record: &mut CredentialRecord| {
        record.secrets.remove(Field::RefreshToken.as_str());
        if let CredentialAuth::McpOauth { refresh, .. } = &mut record.credential.auth {
            *refresh = None;
        }
    };
    server.change(&record, strip).await;
    let (later, why) = told(server.access_token(&record).await);
    assert!(
        !later && why == "has expired, and has no refresh token",
        "{why}"
    );
    assert!(matches!(
        server.refresher.refresh(&record).await,
        Attempt::NoRefreshToken
    ));
    assert_eq!(bed.server.asked(), 0);
}
