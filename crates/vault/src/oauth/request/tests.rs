use super::*;

fn asking(client: ClientSecret, resource: Option<&str>, scope: Option<&str>) -> Asking {
    Asking {
        token_endpoint: Url::parse("https://login.example.com/token?tenant=a").expect("a URL"),
        client_id: "id:one é".to_owned(),
        client,
        refresh_token: SecretString::from("a+b/c= &%"),
        resource: resource.map(str::to_owned),
        scope: scope.map(str::to_owned),
    }
}

/// runtime VA-6
#[test]
fn va_6_the_client_says_who_it_is_in_the_one_way_that_is_stored() {
    #[track_caller]
    fn check(client: ClientSecret, form: &str, authorization: Option<&str>) {
        let request = request(&asking(client, None, None));
        let grant = "grant_type=refresh_token&refresh_token=a%2Bb%2Fc%3D+%26%25";
        let body = String::from_utf8(request.body).expect("text");
        assert_eq!(body, format!("{grant}{form}"));
        let sent = request.headers.get(AUTHORIZATION);
        assert_eq!(sent.and_then(|value| value.to_str().ok()), authorization);
        assert!(sent.is_none_or(HeaderValue::is_sensitive));
        assert_eq!(request.method, Method::POST);
        assert_eq!(
            request.url.as_str(),
            "https://login.example.com/token?tenant=a"
        );
        assert_eq!(
            request.headers[CONTENT_TYPE],
            "application/x-www-form-urlencoded"
        );
        assert_eq!(request.headers[ACCEPT], "application/json");
    }
    let secret = || SecretString::from("s:cret+é");
    check(ClientSecret::None, "&client_id=id%3Aone+%C3%A9", None);
    check(
        ClientSecret::Post(secret()),
        "&client_id=id%3Aone+%C3%A9&client_secret=s%3Acret%2B%C3%A9",
        None,
    );
    let pair = BASE64_STANDARD.encode("id%3Aone+%C3%A9:s%3Acret%2B%C3%A9");
    check(
        ClientSecret::Basic(secret()),
        "",
        Some(&format!("Basic {pair}")),
    );
}

/// runtime VA-6: `scope` and `resource` are sent where they are stored.
#[test]
fn va_6_scope_and_resource_are_sent_where_they_are_stored() {
    #[track_caller]
    fn check(resource: Option<&str>, scope: Option<&str>, form: &str) {
        let request = request(&asking(ClientSecret::None, resource, scope));
        let body = String::from_utf8(request.body).expect("text");
        let expected = format!("%26%25{form}&client_id=id%3Aone+%C3%A9");
        assert!(body.ends_with(&expected), "{body}");
    }
    check(None, None, "");
    check(None, Some("read write"), "&scope=read+write");
    check(
        Some("https://mcp.example.com/"),
        None,
        "&resource=https%3A%2F%2Fmcp.example.com%2F",
    );
    check(
        Some("https://a"),
        Some("r"),
        "&scope=r&resource=https%3A%2F%2Fa",
    );
    check(Some(""), Some(""), "");
}
