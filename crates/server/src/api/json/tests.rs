use manyhands_protocol::agent::AgentCreateParams;

use super::*;

#[track_caller]
fn check(body: &str, problem: &str) {
    let error = parse::<AgentCreateParams>(body.as_bytes()).expect_err(body);
    assert!(
        error.message().contains(problem),
        "{body}: {}",
        error.message()
    );
}

#[test]
fn inp_2_a_document_has_one_reading() {
    check("", "is required");
    check(" \n", "is required");
    check("[]", "not a JSON object");
    check("\"text\"", "not a JSON object");
    check("{", "not valid JSON");
    check(r#"{"name":"a","model":"m"} x"#, "not valid JSON");
    check(
        r#"{"name":"a","name":"b","model":"m"}"#,
        "duplicate field `name`",
    );
    check(
        r#"{"name":"a","model":"m","metadata":{"k":"1","k":"2"}}"#,
        "duplicate field `k`",
    );
    check(
        r#"{"name":"a","model":"m","x":{"y":[{"z":1,"\u007a":2}]}}"#,
        "duplicate field `z`",
    );
    check(
        "{\"name\":\"\u{fffd}\",\"model\":\"\\ud800\"}",
        "not valid JSON",
    );
    let nested = |levels: usize| {
        format!(
            "{{\"x\":{}{}}}",
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    parse::<Value>(nested(NESTED - 1).as_bytes()).expect("as deep as is allowed");
    let deep = "the request body is nested 128 levels deep or deeper";
    for body in [nested(NESTED), "[".repeat(200)] {
        check(&body, deep);
        let refused = parse_quietly::<Value>(body.as_bytes()).expect_err("too deep");
        assert_eq!(refused.message(), deep);
    }
    check("\u{feff}{\"name\":\"a\",\"model\":\"m\"}", "not valid JSON");
    for number in ["NaN", "Infinity", "1e999", "01", "+1", ".5", "0x1"] {
        let body = format!("{{\"name\":\"a\",\"model\":\"m\",\"x\":{number}}}");
        check(&body, "not valid JSON");
    }
    for odd in [
        "{'name':'a'}",
        "{\"name\":\"a\",}",
        "{/**/}",
        "{\"name\":\"a\nb\"}",
    ] {
        check(odd, "not valid JSON");
    }
    // In any other encoding than UTF-8 it is no document.
    let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    parse::<Value>(&wide).expect_err("UTF-16");
    parse::<Value>(b"{\"a\":\"\xff\"}").expect_err("no text");
    parse::<Value>(b"{\"a\":\"\xed\xa0\x80\"}").expect_err("half a character");
}

#[test]
fn inp_1_the_values_of_a_document_are_bounded() {
    let document = |lists: usize| format!("{{\"x\":[{}[]]}}", "[],".repeat(lists));
    // The object, the list and the last list are values as well.
    parse::<Value>(document(VALUES - 3).as_bytes()).expect("as many as are allowed");
    for bytes in [document(VALUES - 2), document(4 << 20)] {
        let begun = std::time::Instant::now();
        for refusal in [
            parse::<Value>(bytes.as_bytes()).expect_err("too many"),
            parse_quietly::<Value>(bytes.as_bytes()).expect_err("too many"),
        ] {
            assert_eq!(
                refusal.message(),
                "the request body has more than 250000 values"
            );
        }
        assert!(begun.elapsed().as_secs() < 10, "it is not read to its end");
    }
}

#[test]
fn inp_2_how_a_body_is_written_is_said_once() {
    #[track_caller]
    fn check(lines: &[(&'static str, &'static str)], code: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        let refusal = check_headers(&headers).err();
        let refused = refusal.map(|refusal| refusal.body(None));
        match (refused, code) {
            (None, None) => {}
            (Some(body), Some(code)) => assert!(body.contains(code), "{lines:?}: {body}"),
            (refused, _) => panic!("{lines:?}: {refused:?}"),
        }
    }
    check(&[], None);
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain;Charset=\"UTF-8\"",
        "a/b; x=y; charset=us-ascii",
    ] {
        check(&[("content-type", kind)], None);
    }
    for kind in [
        "a/b; charset=utf-16",
        "a/b;CHARSET=utf-7",
        "a/b; charset=utf-8; charset=utf-16",
        "a/b; charset = latin1",
        "a/b; charset",
    ] {
        check(&[("content-type", kind)], Some("unsupported_charset"));
    }
    let json = ("content-type", "application/json");
    check(&[json, json], Some("unsupported_charset"));
    check(&[("content-encoding", "identity")], None);
    for coding in ["gzip", "identity, gzip", "br"] {
        check(
            &[("content-encoding", coding)],
            Some("request_body_encoding_unsupported"),
        );
    }
    let (plain, packed) = (
        ("content-encoding", "identity"),
        ("content-encoding", "gzip"),
    );
    check(&[plain, packed], Some("request_body_encoding_unsupported"));
}

#[test]
fn a_refusal_names_the_field() {
    check(r#"{"model":"m"}"#, "missing field `name`");
    check(
        r#"{"name":5,"model":"m"}"#,
        "name: invalid type: integer `5`",
    );
    check(
        r#"{"name":"a","model":5}"#,
        "model: invalid type: integer `5`, expected a model id",
    );
    check(
        r#"{"name":"a","model":{"id":"m","effort":"ultra"}}"#,
        "model.effort: unknown variant `ultra`",
    );
    check(
        r#"{"name":"a","model":"m","metadata":{"k":1}}"#,
        "metadata.k: invalid type",
    );
    check(
        r#"{"name":"a","model":"m","tools":{}}"#,
        "tools: invalid type: map",
    );
}

/// runtime HT-17, as decided
#[test]
fn unknown_fields_are_tolerated() {
    let body = br#"{"name":"a","model":"m","flavour":"mint","metadata":null}"#;
    assert_eq!(
        parse::<AgentCreateParams>(body).expect("accepted").name,
        "a"
    );
}
