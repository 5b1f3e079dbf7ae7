use super::*;

#[track_caller]
fn check(error: ApiError, status: u16, kind: &str, headers: &[(&str, &str)]) {
    let id = RequestId::generate();
    let response = error.respond(&id);
    assert_eq!(response.status().as_u16(), status);
    for (name, value) in headers {
        assert_eq!(response.headers()[*name], *value);
    }
    assert_eq!(
        response.headers().len(),
        headers.len() + 1,
        "{:?}",
        response.headers()
    );
    let body: serde_json::Value = serde_json::from_str(&error.body(Some(&id))).expect("JSON");
    assert_eq!(body["type"], "error");
    assert_eq!(body["error"]["type"], kind);
    assert_eq!(body["request_id"], id.as_str());
}

#[test]
fn ht_12_every_class_has_its_status_and_type() {
    let second = Duration::from_secs(1);
    check(ApiError::invalid("x"), 400, "invalid_request_error", &[]);
    check(
        ApiError::unauthenticated("x"),
        401,
        "authentication_error",
        &[],
    );
    check(ApiError::forbidden("x"), 403, "permission_error", &[]);
    check(
        ApiError::rate_limited("x", second),
        429,
        "rate_limit_error",
        &[("retry-after", "1")],
    );
    check(ApiError::not_found("agent"), 404, "not_found_error", &[]);
    check(ApiError::no_route("x"), 404, "not_found_error", &[]);
    check(
        ApiError::method_not_allowed(),
        405,
        "invalid_request_error",
        &[],
    );
    check(
        ApiError::conflict("x"),
        409,
        "conflict_error",
        &[("x-should-retry", "false")],
    );
    check(
        ApiError::occupied_path("x", "mem_1", "/a"),
        409,
        "memory_path_conflict_error",
        &[("x-should-retry", "false")],
    );
    check(
        ApiError::unexpected_memory("x"),
        409,
        "memory_precondition_failed_error",
        &[("x-should-retry", "false")],
    );
    check(ApiError::too_large(1 << 20), 413, "request_too_large", &[]);
    check(
        ApiError::unprocessable("x"),
        422,
        "invalid_request_error",
        &[("x-should-retry", "false")],
    );
    check(
        ApiError::repeatable_conflict("x", second),
        409,
        "conflict_error",
        &[("x-should-retry", "true"), ("retry-after", "1")],
    );
    check(
        ApiError::internal(),
        500,
        "api_error",
        &[("x-should-retry", "false")],
    );
    check(
        ApiError::not_implemented("x"),
        501,
        "api_error",
        &[("x-should-retry", "false")],
    );
    check(
        ApiError::unavailable("x", second),
        503,
        "api_error",
        &[("retry-after", "1")],
    );
    check(
        ApiError::overloaded("x", second),
        529,
        "overloaded_error",
        &[("retry-after", "1")],
    );
}

#[test]
fn store_4_a_failing_store_is_a_typed_answer_without_its_words() {
    use manyhands_store::Error as Store;
    let operation = "append";
    let reason = || "password=hunter2".to_owned();
    let (retry, never) = (&[("retry-after", "10")], &[("x-should-retry", "false")]);
    check(
        Store::NoSpace { operation }.into(),
        529,
        "overloaded_error",
        retry,
    );
    let unavailable = ApiError::from(Store::Unavailable {
        operation,
        reason: reason(),
    });
    assert!(!unavailable.message().contains("hunter2"));
    check(unavailable, 503, "api_error", &[("retry-after", "1")]);
    let damaged = Store::Damaged {
        item: "sevt_1".to_owned(),
        reason: reason(),
    };
    check(damaged.into(), 500, "api_error", never);
    check(
        Store::Setup {
            operation,
            reason: reason(),
        }
        .into(),
        500,
        "api_error",
        never,
    );
}

#[test]
fn a_code_and_a_path_are_shown() {
    let error = ApiError::field("name", "is required")
        .inside("agents[0]")
        .with_code("environment_archived");
    let body: serde_json::Value = serde_json::from_str(&error.body(None)).expect("JSON");
    let expected = serde_json::json!({"type": "error", "error": {
        "type": "invalid_request_error", "message": "agents[0].name: is required",
        "details": {"error_code": "environment_archived"}}});
    assert_eq!(body, expected);
}
