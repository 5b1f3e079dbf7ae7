use secrecy::ExposeSecret as _;

use super::*;

fn read_of(status: u16, body: &str) -> Answer {
    read(
        StatusCode::from_u16(status).expect("a status"),
        Some(body.as_bytes()),
    )
}

/// runtime VA-6
#[test]
fn va_6_new_tokens_are_read() {
    #[track_caller]
    fn check(body: &str, access: &str, expires_in: Option<u64>, refresh: Option<&str>) {
        let Answer::Granted(granted) = read_of(200, body) else {
            panic!("{body}");
        };
        assert_eq!(granted.access_token.expose_secret(), access);
        assert_eq!(granted.expires_in, expires_in, "{body}");
        let told = granted
            .refresh_token
            .as_ref()
            .map(|token| token.expose_secret());
        assert_eq!(told, refresh);
    }
    check(
        r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"x"}"#,
        "a",
        Some(3600),
        Some("r"),
    );
    check(
        r#"{"access_token":"a","token_type":"bearer"}"#,
        "a",
        None,
        None,
    );
    check(
        r#"{"access_token":"a","expires_in":null,"refresh_token":null,"error":null}"#,
        "a",
        None,
        None,
    );
    check(
        r#"{"access_token":"a","expires_in":"3599","refresh_token":""}"#,
        "a",
        Some(3599),
        None,
    );
    check(
        r#"{"access_token":"a","expires_in":59.9}"#,
        "a",
        Some(59),
        None,
    );
    check(
        r#"{"access_token":"a","expires_in":1e300}"#,
        "a",
        Some(LIFE),
        None,
    );
    for nonsense in ["0", "-1", "\"soon\"", "[]", "{}", "true"] {
        check(
            &format!(r#"{{"access_token":"a","expires_in":{nonsense}}}"#),
            "a",
            None,
            None,
        );
    }
}

/// runtime VA-17: a 4xx is final, a 5xx, 429 and silence are not.
#[test]
fn va_17_answers_are_sorted_by_what_helps() {
    #[track_caller]
    fn check(status: u16, body: &str, expected: &str) {
        let told = match read_of(status, body) {
            Answer::Granted(_) => "granted".to_owned(),
            Answer::Refused(why) => format!("refused: {why}"),
            Answer::Busy(why) => format!("busy: {why}"),
            Answer::Unclear(why) => format!("unclear: {why}"),
        };
        assert!(told.starts_with(expected), "{status} {body}: {told}");
    }
    check(
        400,
        r#"{"error":"invalid_grant","error_description":"x"}"#,
        "refused: invalid_grant (400)",
    );
    check(
        401,
        r#"{"error":"invalid_client"}"#,
        "refused: invalid_client (401)",
    );
    check(400, "", "refused: status 400");
    check(403, "<html>no</html>", "refused: status 403");
    check(404, "{}", "refused: status 404");
    check(
        200,
        r#"{"error":"bad_refresh_token"}"#,
        "refused: bad_refresh_token (200)",
    );
    check(
        200,
        r#"{"access_token":"a","token_type":"DPoP"}"#,
        "refused: another token type",
    );
    // Only a plain word is told: anything else could be the request, come back.
    check(
        400,
        r#"{"error":"your token abc123 is bad"}"#,
        "refused: status 400",
    );
    check(
        429,
        r#"{"error":"slow_down"}"#,
        "busy: the token endpoint answered 429",
    );
    check(500, "", "busy: the token endpoint answered 500");
    check(
        503,
        r#"{"error":"invalid_grant"}"#,
        "busy: the token endpoint answered 503",
    );
    check(307, "", "busy: the token endpoint answered 307");
    check(
        200,
        "",
        "unclear: the answer of the token endpoint is not JSON",
    );
    check(
        200,
        "[]",
        "unclear: the answer of the token endpoint is not JSON",
    );
    check(
        200,
        r#"{"access_token":"#,
        "unclear: the answer of the token endpoint is not JSON",
    );
    check(
        200,
        r#"{"token_type":"Bearer"}"#,
        "unclear: the answer of the token endpoint has no access token",
    );
    check(
        200,
        r#"{"access_token":""}"#,
        "unclear: the answer of the token endpoint has an access token that",
    );
    check(
        200,
        r#"{"access_token":"a\r\nb"}"#,
        "unclear: the answer of the token endpoint has an access token that",
    );
    check(
        200,
        r#"{"access_token":"a b"}"#,
        "unclear: the answer of the token endpoint has an access token that",
    );
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(TOKEN + 1));
    check(
        200,
        &long,
        "unclear: the answer of the token endpoint has an access token that",
    );
    let long = format!(
        r#"{{"access_token":"a","refresh_token":"{}"}}"#,
        "x".repeat(TOKEN + 1)
    );
    check(
        200,
        &long,
        "unclear: the answer of the token endpoint has a refresh token that is too long",
    );
    check(
        204,
        "",
        "unclear: the answer of the token endpoint is not JSON",
    );
    check(102, "", "unclear: the token endpoint answered 102");
    let too_long = read(StatusCode::OK, None);
    assert!(matches!(too_long, Answer::Unclear(why) if why.ends_with("is too long")));
}
