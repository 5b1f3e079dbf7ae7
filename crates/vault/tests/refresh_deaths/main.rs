//! A server dies at each step of a refresh, and the next one on the same data does what can be done (runtime VA-6, security §4).

#[expect(dead_code, reason = "the stories of living servers need more of it")]
#[path = "../oauth/bed.rs"]
mod bed;

use manyhands_store::vault::CredentialRecord;
use manyhands_testkit::oauth::{Grant, Misdeed};
use manyhands_vault::Field;
use manyhands_vault::oauth::NoToken;

use bed::{Bed, Server};

/// A credential whose refresh has died at this step, and the next server.
async fn dead_at(step: &str, bed: &Bed) -> (Server, CredentialRecord, Grant) {
    let server = bed.open().await;
    let (record, grant) = bed.expired(&server).await;
    fail::cfg(step, "panic").expect("a step");
    let died = server.access_token(&record).await;
    fail::remove(step);
    assert!(matches!(died, Err(NoToken::Unavailable { .. })), "{step}");
    server.store.close().await;
    let next = bed.open().await;
    let access = next.secret(&record, Field::AccessToken).await;
    assert_eq!(access, grant.access_token, "{step}");
    (next, record, grant)
}

async fn check_refreshed(server: &Server, record: &CredentialRecord, bed: &Bed, step: &str) {
    let token = server.access_token(record).await;
    let token = token.unwrap_or_else(|error| panic!("behind {step}: {error}"));
    assert!(bed.server.admits(&token), "{step}");
    assert_eq!(server.secret(record, Field::AccessToken).await, token);
    assert_eq!(server.now(record).await.refreshing_until, None, "{step}");
    assert_eq!(bed.server.problems(), Vec::<String>::new(), "{step}");
}

/// runtime VA-6, scenario 17, security LOG-3. One test, since it decides for the whole process where it fails.
#[tokio::test]
async fn va_6_a_refresh_that_a_server_dies_in_is_made_by_the_next_one() {
    // A claim that was not written down keeps nobody back.
    let step = "store::credential::claimed";
    let bed = Bed::sqlite().await;
    let (next, record, _) = dead_at(step, &bed).await;
    check_refreshed(&next, &record, &bed, step).await;
    assert_eq!((bed.server.asked(), bed.server.granted()), (1, 1), "{step}");

    // One that was does, for its time; nothing was sent.
    let step = "vault::oauth::claimed";
    let bed = Bed::sqlite().await;
    let (next, record, _) = dead_at(step, &bed).await;
    assert!(next.now(&record).await.refreshing_until.is_some(), "{step}");
    assert_eq!(bed.server.asked(), 0, "{step}");
    bed.clock.advance(bed.settings.claim);
    check_refreshed(&next, &record, &bed, step).await;
    assert_eq!((bed.server.asked(), bed.server.granted()), (1, 1), "{step}");

    // The tokens that came are lost. The old refresh token is tried again, and may still be good.
    let step = "vault::oauth::answered";
    let bed = Bed::sqlite().await;
    bed.server.misbehave(Misdeed::Terse);
    let (next, record, grant) = dead_at(step, &bed).await;
    assert_eq!(bed.server.granted(), 1, "{step}");
    bed.clock.advance(bed.settings.claim);
    check_refreshed(&next, &record, &bed, step).await;
    assert_eq!((bed.server.asked(), bed.server.granted()), (2, 2), "{step}");
    let refresh = next.secret(&record, Field::RefreshToken).await;
    assert_ne!(refresh, grant.refresh_token, "{step}");

    // Where the authorization server takes each once, the credential needs a new grant, and says so.
    let bed = Bed::sqlite().await;
    let (next, record, _) = dead_at(step, &bed).await;
    bed.clock.advance(bed.settings.claim);
    let refused = next.access_token(&record).await.expect_err("refused");
    assert!(
        matches!(&refused, NoToken::Invalid { why, .. } if why.ends_with("invalid_grant (400)")),
        "{refused}"
    );
    assert!(next.now(&record).await.refused.is_some());
}
