use manyhands_protocol::session::SessionCreateParams;
use manyhands_protocol::vault::CredentialCreateParams;
use serde_json::json;

use super::*;

/// security CRED-2: what stands in the wrong place is in no refusal, be it a value or a name.
#[test]
fn cred_2_a_refusal_says_nothing_of_what_stands_in_the_wrong_place() {
    #[track_caller]
    fn check<T: DeserializeOwned>(body: &str, expected: &str) {
        let refused = parse_quietly::<T>(body.as_bytes()).err().expect(body);
        let message = refused.message();
        assert!(message.starts_with(expected), "{body}: {message}");
        assert!(!message.contains("S3KRET"), "{message}");
    }
    check::<SessionCreateParams>(r#"{"resources": "S3KRET"}"#, "resources: expected a list");
    check::<SessionCreateParams>(
        r#"{"agent": "a", "S3KRET": 1, "S3KRET": 2}"#,
        "the request body has a member twice, at line 1 column ",
    );
    check::<SessionCreateParams>(
        r#"{"agent": ["S3KRET"]}"#,
        "agent: expected an agent id or an object with \"type\" and \"id\"",
    );
    check::<SessionCreateParams>(
        r#"{"metadata": {"S3KRET": 5}}"#,
        "metadata: expected a string",
    );
    check::<CredentialCreateParams>(r#"{"auth": "S3KRET"}"#, "auth: expected an object");
}

/// security CRED-2: the same of an entry that was kept raw.
#[test]
fn cred_2_an_entry_is_refused_without_its_content() {
    use manyhands_protocol::repository::Checkout;
    #[track_caller]
    fn check(entry: Value, expected: &str) {
        let refused = entry_quietly::<Checkout>(&entry, "resources[0].checkout").err();
        let refused = refused.unwrap_or_else(|| panic!("{entry}"));
        let message = refused.message();
        assert!(message.starts_with("resources[0].checkout"), "{message}");
        assert!(message.ends_with(expected), "{message}");
    }
    check(json!("S3KRET"), "checkout: expected an object");
    check(json!({"type": "S3KRET"}), ": expected `branch` or `commit`");
    check(
        json!({"type": "branch", "name": ["S3KRET"]}),
        ": expected a string",
    );
}
