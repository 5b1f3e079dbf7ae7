//! Who refreshes, when, and what is kept.

use std::time::Duration;

use futures::future::join_all;
use manyhands_protocol::time::Clock as _;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::oauth::{Authentication, Misdeed};
use manyhands_vault::Field;
use manyhands_vault::oauth::Attempt;
use secrecy::{ExposeSecret as _, SecretString};

use crate::bed::{Bed, expires_at};

const HOUR: Duration = Duration::from_secs(3600);

/// runtime VA-6, scenario 17
#[tokio::test]
async fn va_6_however_many_ask_one_refreshes() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, grant) = bed.expired(&server).await;
    let asking = (0..50).map(|_| server.access_token(&record));
    let tokens: Vec<String> = join_all(asking)
        .await
        .into_iter()
        .map(|token| token.expect("a token"))
        .collect();
    assert_eq!((bed.server.asked(), bed.server.granted()), (1, 1));
    assert!(
        tokens
            .iter()
            .all(|token| *token == tokens[0] && *token != grant.access_token)
    );
    assert!(bed.server.admits(&tokens[0]));
    // Both tokens and the expiry are stored, and the next refresh goes with the new refresh token.
    assert_eq!(server.secret(&record, Field::AccessToken).await, tokens[0]);
    let refresh = server.secret(&record, Field::RefreshToken).await;
    assert_ne!(refresh, grant.refresh_token);
    let now = server.now(&record).await;
    assert_eq!(expires_at(&now), Some(bed.clock.now().after(HOUR)));
    assert_eq!(now.refreshing_until, None, "the claim is given back");
    assert_eq!(server.access_token(&record).await.as_ref(), Ok(&tokens[0]));
    assert_eq!(bed.server.asked(), 1);
    bed.clock.advance(HOUR);
    let next = server.access_token(&record).await.expect("a token");
    assert_ne!(next, tokens[0]);
    assert_eq!(bed.server.last()["refresh_token"], refresh);
    assert_eq!(bed.server.problems(), Vec::<String>::new());
}

/// runtime VA-6: the three ways to authenticate the client, and what is sent with them.
#[tokio::test]
async fn va_6_all_three_client_authentications_work() {
    for authentication in [
        Authentication::None,
        Authentication::Basic,
        Authentication::Post,
    ] {
        let bed = Bed::with(authentication).await;
        let server = bed.open().await;
        let (record, _) = bed.expired(&server).await;
        let token = server.access_token(&record).await.expect("a token");
        assert!(bed.server.admits(&token), "{authentication:?}");
        assert_eq!(bed.server.problems(), Vec::<String>::new());
        let form = bed.server.last();
        assert_eq!(form["resource"], "https://mcp.example.com");
        assert_eq!(form["scope"], "read write");
    }
}

/// runtime VA-6, MC-7: a 401 is an end that nobody knew of.
#[tokio::test]
async fn va_6_a_refused_token_is_refreshed_whatever_its_life() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let grant = bed.server.grant();
    for life in [None, Some(HOUR)] {
        let grant = if life.is_none() {
            grant.clone()
        } else {
            bed.server.grant()
        };
        let record = bed.credential(&server, &grant, life).await;
        let before = bed.server.granted();
        assert_eq!(
            server.access_token(&record).await.as_ref(),
            Ok(&grant.access_token)
        );
        assert_eq!(bed.server.granted(), before, "nothing to do");
        let refused = SecretString::from(grant.access_token.as_str());
        let fresh = server
            .refresher
            .access_token(server.now(&record).await, Some(&refused))
            .await;
        let fresh = fresh.expect("a token");
        assert!(bed.server.admits(fresh.expose_secret()));
        assert_eq!(bed.server.granted(), before + 1);
        // Whoever comes late with the old one gets the new one.
        let late = server
            .refresher
            .access_token(server.now(&record).await, Some(&refused))
            .await;
        assert_eq!(
            late.expect("a token").expose_secret(),
            fresh.expose_secret()
        );
        // Also whoever had read the credential before.
        let stale = server.refresher.access_token(record, Some(&refused)).await;
        assert_eq!(
            stale.expect("a token").expose_secret(),
            fresh.expose_secret()
        );
        assert_eq!(bed.server.granted(), before + 1);
    }
}

/// runtime VA-6: nobody waits for a refresh that comes early, and its failure is no failure.
#[tokio::test]
async fn va_6_a_token_that_ends_soon_is_refreshed_behind_its_use() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let grant = bed.server.grant();
    let record = bed.credential(&server, &grant, Some(HOUR)).await;
    bed.clock.advance(HOUR - Duration::from_secs(59));
    bed.server.misbehave(Misdeed::Refuse(400, "invalid_grant"));
    assert_eq!(
        server.access_token(&record).await.as_ref(),
        Ok(&grant.access_token)
    );
    // The refresh that is under way, or one more that the server grants.
    let now = server.now(&record).await;
    let attempt = server.refresher.refresh(&now).await;
    let ended = matches!(attempt, Attempt::Refused { .. } | Attempt::Refreshed(_));
    assert!(ended, "{attempt:?}");

    let grant = bed.server.grant();
    let record = bed.credential(&server, &grant, Some(HOUR)).await;
    bed.clock.advance(HOUR - Duration::from_secs(59));
    let gate = Gate::new();
    bed.server.misbehave(Misdeed::Hold(gate.clone()));
    let granted = bed.server.granted();
    assert_eq!(
        server.access_token(&record).await.as_ref(),
        Ok(&grant.access_token)
    );
    assert_eq!(
        server.access_token(&record).await.as_ref(),
        Ok(&grant.access_token)
    );
    gate.open();
    bed.server.until_granted(granted + 1).await;
    let Attempt::Refreshed(_) = server.refresher.refresh(&record).await else {
        panic!("not refreshed");
    };
    assert_eq!(bed.server.granted(), granted + 1);
    assert_ne!(
        server.access_token(&record).await.as_ref(),
        Ok(&grant.access_token)
    );
}

/// runtime VA-6: a server that does not rotate, and does not say when the token ends.
#[tokio::test]
async fn va_6_without_a_new_refresh_token_the_old_one_stays() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, grant) = bed.expired(&server).await;
    bed.server.misbehave(Misdeed::Terse);
    let token = server.access_token(&record).await.expect("a token");
    assert!(bed.server.admits(&token));
    assert_eq!(
        server.secret(&record, Field::RefreshToken).await,
        grant.refresh_token
    );
    assert_eq!(expires_at(&server.now(&record).await), None);
    bed.clock.advance(HOUR * 100);
    assert_eq!(
        server.access_token(&record).await,
        Ok(token),
        "no end is known"
    );
    assert_eq!(bed.server.asked(), 1);
}

/// runtime VA-6: what the authorization server gave is kept, also when nobody waits for it any more.
#[tokio::test]
async fn va_6_a_refresh_goes_on_when_its_caller_goes_away() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let gate = Gate::new();
    bed.server.misbehave(Misdeed::Hold(gate.clone()));
    tokio::select! {
        token = server.access_token(&record) => panic!("{token:?}"),
        () = gate.reached() => {}
    }
    gate.open();
    let token = server.access_token(&record).await.expect("a token");
    assert!(bed.server.admits(&token));
    assert_eq!((bed.server.asked(), bed.server.granted()), (1, 1));
    assert_eq!(bed.server.problems(), Vec::<String>::new());
}

/// runtime VA-6, VA-7: a change of the name loses no token, and a client's own tokens win.
#[tokio::test]
async fn va_6_changes_meanwhile_are_kept() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let rename = |record: &mut manyhands_store::vault::CredentialRecord| {
        record.credential.display_name = Some("new".to_owned());
    };
    let asking = server.access_token(&record);
    let token = bed
        .while_asked(asking, server.change(&record, rename))
        .await;
    let now = server.now(&record).await;
    assert_eq!(now.credential.display_name.as_deref(), Some("new"));
    assert_eq!(Ok(server.secret(&record, Field::AccessToken).await), token);
    bed.clock.advance(HOUR);
    server.access_token(&record).await.expect("a token");
    assert_eq!(bed.server.problems(), Vec::<String>::new());

    let (record, _) = bed.expired(&server).await;
    let own = bed.server.grant();
    let fields = [
        (Field::AccessToken, own.access_token.as_str()),
        (Field::RefreshToken, own.refresh_token.as_str()),
    ];
    let sealed = server.sealed(&record.credential, &fields).await;
    let replace = server.change(&record, move |record| record.secrets.extend(sealed));
    let token = bed.while_asked(server.access_token(&record), replace).await;
    assert_eq!(token.as_ref(), Ok(&own.access_token));
    assert_eq!(
        server.secret(&record, Field::RefreshToken).await,
        own.refresh_token
    );
}

/// runtime VA-16: what was archived meanwhile gets no secret back.
#[tokio::test]
async fn va_16_an_archived_credential_stays_empty() {
    let bed = Bed::sqlite().await;
    let server = bed.open().await;
    let (record, _) = bed.expired(&server).await;
    let asking = server.access_token(&record);
    let token = bed.while_asked(asking, server.archive(&record)).await;
    let refusal = token.expect_err("archived").to_string();
    assert!(refusal.ends_with("is archived or deleted"), "{refusal}");
    let now = server.now(&record).await;
    assert!(now.secrets.is_empty() && now.credential.archived_at.is_some());
    let refusal = server
        .access_token(&record)
        .await
        .expect_err("archived")
        .to_string();
    assert!(refusal.ends_with("has no access token"), "{refusal}");
}
