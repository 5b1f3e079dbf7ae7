//! Refusals: what each status and each error in a stream leads to.

use std::time::Duration;

use manyhands_brain::models::{Advice, ErrorKind};
use manyhands_testkit::model::{Format, Reply, RetryAfter};

use super::stage::{KEY, each_patient, patient, provider};

/// security MODEL-2, MODEL-3: the same statuses mean the same in each form.
#[tokio::test]
async fn model_3_statuses_are_told_apart() {
    use ErrorKind::*;
    each_patient(async |stage| {
        for (status, class, said, kind, advice) in [
            (
                400,
                "invalid_request_error",
                "messages.0: bad",
                Refused,
                Advice::Withhold,
            ),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 9 tokens > 8",
                Overflow,
                Advice::Withhold,
            ),
            (
                400,
                "context_length_exceeded",
                "too much",
                Overflow,
                Advice::Withhold,
            ),
            (
                400,
                "invalid_request_error",
                "Your credit balance is too low",
                Billing,
                Advice::Stop,
            ),
            (
                401,
                "authentication_error",
                "invalid key",
                Auth,
                Advice::Stop,
            ),
            (402, "billing_error", "pay", Billing, Advice::Stop),
            (403, "permission_error", "not for you", Auth, Advice::Stop),
            (
                404,
                "not_found_error",
                "no such model",
                NotFound,
                Advice::Stop,
            ),
            (408, "timeout_error", "late", Failed, Advice::Retry),
            (409, "conflict_error", "twice", Failed, Advice::Retry),
            (
                413,
                "request_too_large",
                "too large",
                Overflow,
                Advice::Withhold,
            ),
            (
                422,
                "invalid_request_error",
                "field required",
                Refused,
                Advice::Withhold,
            ),
            (
                429,
                "rate_limit_error",
                "slow down",
                RateLimited,
                Advice::Retry,
            ),
            (
                429,
                "insufficient_quota",
                "empty account",
                Billing,
                Advice::Stop,
            ),
            (500, "api_error", "oops", Failed, Advice::Retry),
            (503, "unavailable_error", "loading", Failed, Advice::Retry),
            (529, "overloaded_error", "busy", Overloaded, Advice::Retry),
        ] {
            let reply = Reply::error(status, class, said);
            let error = stage.ask(reply).await.0.unwrap_err();
            let found = (error.kind, error.advice());
            assert_eq!(found, (kind, advice), "{status} {class}: {error}");
            assert!(error.message.contains(said), "{error}");
        }
        for status in [302, 502] {
            let page =
                Reply::raw(status, "text/html", "<html>").header("location", "http://x.invalid/");
            let error = stage.ask(page).await.0.unwrap_err();
            assert!(error.message.contains(&status.to_string()), "{error}");
        }
    })
    .await;
}

/// security MODEL-3: an error after the 200 counts like a status.
#[tokio::test]
async fn model_3_errors_in_the_stream_are_told_apart() {
    use ErrorKind::*;
    each_patient(async |stage| {
        for (class, kind) in [
            ("overloaded_error", Overloaded),
            ("rate_limit_error", RateLimited),
            ("server_error", Failed),
            ("invalid_request_error", Refused),
        ] {
            for frames in [0, 1, 3] {
                let reply = Reply::text("Half").error_after(frames, class, "sorry");
                let error = stage.ask(reply).await.0.unwrap_err();
                assert_eq!(error.kind, kind, "{error}");
                assert!(error.message.contains("sorry"), "{error}");
            }
        }
    })
    .await;
}

/// security MODEL-2: hints how long to wait, in all legal forms, nonsense and absence.
#[tokio::test]
async fn model_2_wait_hints_are_read() {
    each_patient(async |stage| {
        for (hint, millis) in [
            (RetryAfter::Absent, None),
            (RetryAfter::Seconds(2.0), Some(2000)),
            (RetryAfter::Seconds(0.25), Some(250)),
            (RetryAfter::Millis(150), Some(150)),
            (
                RetryAfter::HttpDate("Wed, 21 Oct 2015 07:28:00 GMT".to_owned()),
                Some(0),
            ),
            (RetryAfter::Text("soon".to_owned()), None),
            (RetryAfter::Seconds(1e9), Some(3_600_000)),
        ] {
            let (error, _) = stage.check_retried(Reply::rate_limited(hint)).await;
            assert_eq!(error.after, millis.map(Duration::from_millis));
        }
    })
    .await;
}

/// security MODEL-3: whatever the other side echoes, the key is in no error.
#[tokio::test]
async fn model_3_the_key_is_in_no_error() {
    each_patient(async |stage| {
        let echo = format!("invalid key {KEY}");
        for reply in [
            Reply::error(401, "authentication_error", &echo),
            Reply::text("Half").error_after(2, "server_error", &echo),
        ] {
            let error = stage.ask(reply).await.0.unwrap_err();
            assert!(error.message.contains("[key]"), "{error}");
            assert!(!format!("{error:?}").contains(KEY), "{error:?}");
        }
        let sent = stage.server.request(1).await;
        let shown = match stage.format {
            Format::Messages => sent.header("x-api-key"),
            Format::Chat => sent
                .header("authorization")
                .and_then(|value| value.strip_prefix("Bearer ")),
        };
        assert_eq!(shown, Some(KEY));
    })
    .await;
}

/// security MODEL-2: nobody there.
#[tokio::test]
async fn model_2_an_endpoint_that_is_not_there_is_tried_again() {
    each_patient(async |mut stage| {
        let url = stage.server.url();
        stage.model = provider(stage.format, "http://127.0.0.1:1", patient());
        let (error, _) = stage.check_retried(Reply::text("never asked for")).await;
        assert!(error.message.contains("could not be reached"), "{error}");
        assert_eq!(stage.server.remaining(), 1, "{url}");
    })
    .await;
}
