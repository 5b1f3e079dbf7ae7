//! Several servers on one PostgreSQL.

use std::time::Duration;

use futures::future::{join, join_all};
use manyhands_store::vault::Claim;
use manyhands_vault::Field;

use crate::bed::Bed;

/// runtime VA-6, scenario 17: two servers, twenty calls each, one refresh.
#[tokio::test]
async fn va_6_two_servers_do_one_refresh() {
    let bed = Bed::postgres().await;
    let (one, two) = (bed.open().await, bed.open().await);
    let (record, _) = bed.expired(&one).await;
    let asking = (0..20).flat_map(|_| [one.access_token(&record), two.access_token(&record)]);
    let looking = async {
        // The others find the credential claimed.
        let now = two.now(&record).await;
        let time = Duration::from_secs(1);
        let claim =
            two.store
                .claim_refresh(&now.workspace, &now.credential.id, now.generation, time);
        assert!(matches!(claim.await, Ok(Claim::Held { .. })));
    };
    let tokens = bed.while_asked(join_all(asking), looking).await;
    let tokens: Vec<String> = tokens
        .into_iter()
        .map(|token| token.expect("a token"))
        .collect();
    assert_eq!((bed.server.asked(), bed.server.granted()), (1, 1));
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert!(bed.server.admits(&tokens[0]));
    assert_eq!(two.secret(&record, Field::AccessToken).await, tokens[0]);
    assert_eq!(bed.server.problems(), Vec::<String>::new());
}

/// runtime VA-6: whoever waits for another server's refresh learns that it was refused, and does not ask again.
#[tokio::test]
async fn va_6_a_refusal_is_told_to_all_servers() {
    let bed = Bed::postgres().await;
    let (one, two) = (bed.open().await, bed.open().await);
    let (record, _) = bed.expired(&one).await;
    let both = join(one.access_token(&record), two.access_token(&record));
    let revoke = async { bed.server.revoke_all() };
    let (first, second) = bed.while_asked(both, revoke).await;
    assert_eq!(first, second);
    let why = first.expect_err("refused").to_string();
    assert!(why.ends_with("invalid_grant (400)"), "{why}");
    assert_eq!(bed.server.asked(), 1);
}

/// runtime VA-6: a server that died in the middle keeps nobody back for longer than its claim.
#[tokio::test]
async fn va_6_the_claim_of_a_dead_server_ends_by_its_time() {
    let bed = Bed::postgres().await;
    let (dead, living) = (bed.open().await, bed.open().await);
    let (record, _) = bed.expired(&dead).await;
    let now = dead.now(&record).await;
    let time = Duration::from_millis(700);
    let begun = std::time::Instant::now();
    let claim = dead
        .store
        .claim_refresh(&now.workspace, &now.credential.id, now.generation, time);
    assert!(matches!(claim.await, Ok(Claim::Won { .. })));
    drop(dead);
    let token = living.access_token(&record).await.expect("a token");
    assert!(bed.server.admits(&token));
    assert!(begun.elapsed() >= time, "the claim was respected");
    assert_eq!((bed.server.asked(), bed.server.granted()), (1, 1));
}
