//! One thing at a time: rotation, the operator's switch, a holder that is away, repositories, what is opened and what is not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manyhands_egress::audit::Outcome;

use super::{Held, Step, Vaulted, play};
use crate::bed::limited;

const IT: &str = "mhp_abcdefghijklmnopqrstuvwxyz234567";

fn get(host: &str, path: &str, headers: &str) -> Step {
    Step::Send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").into_bytes())
}

fn inside(host: &'static str, target: &'static str) -> Vec<Step> {
    vec![Step::Connect(target), Step::Tls(host)]
}

fn text(read: &[u8]) -> String {
    String::from_utf8_lossy(read).into_owned()
}

/// security CRED-8: a rotation counts from the next request on, on the same connection.
#[tokio::test]
async fn cred_8_a_rotated_secret_is_in_the_next_request() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, "first-secret"));
    let door = vaulted.tight("s");
    let header = format!("X-Api-Key: {IT}\r\n");
    let last = format!("{header}Connection: close\r\n");
    for (secret, wanted) in [
        ("first-secret", "first-secret"),
        ("second-secret", "second-secret"),
    ] {
        vaulted.holder.rotate("s", secret);
        let mut steps = inside("good.example", "good.example:443");
        steps.extend([get("good.example", "/bytes/1", &header), Step::Answer]);
        steps.push(get("good.example", "/bytes/1", &last));
        play(&vaulted, &door, "s", &steps).await;
        let arrived = vaulted.bed.world.arrived();
        let keys = arrived
            .iter()
            .rev()
            .take(2)
            .map(|arrived| arrived.header("x-api-key"));
        assert!(
            keys.clone().all(|key| key == Some(wanted)),
            "{:?}",
            keys.collect::<Vec<_>>()
        );
    }
}

/// security CRED-4: plain HTTP carries secrets where the operator says so, and nowhere else.
#[tokio::test]
async fn cred_4_plain_http_needs_the_operators_switch() {
    for plain_http in [false, true] {
        let vaulted = Vaulted::with(plain_http).await;
        vaulted.holder.hold(Held::new("s", IT, "a-secret"));
        let door = vaulted.tight("s");
        let header = format!("X-Api-Key: {IT}\r\nConnection: close\r\n");
        play(
            &vaulted,
            &door,
            "s",
            &[get(
                "good.example",
                "http://good.example/mirror/plain",
                &header,
            )],
        )
        .await;
        let wanted = if plain_http { "a-secret" } else { IT };
        let arrived = vaulted.bed.world.arrived();
        assert_eq!(arrived[0].header("x-api-key"), Some(wanted));
    }
}

/// Invariant I9: when nobody knows whether a secret may go out, the request does not.
#[tokio::test]
async fn cred_4_a_holder_that_is_away_fails_the_request() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, "a-secret"));
    let door = vaulted.tight("s");
    vaulted.holder.leave();
    let mut steps = inside("good.example", "good.example:443");
    steps.push(get(
        "good.example",
        "/bytes/1",
        &format!("X-Api-Key: {IT}\r\n"),
    ));
    let read = text(&play(&vaulted, &door, "s", &steps).await);
    assert!(read.contains("HTTP/1.1 503 "), "{read}");
    assert!(vaulted.bed.world.arrived().is_empty());
    // What names nothing needs nobody.
    let mut steps = inside("good.example", "good.example:443");
    steps.push(get("good.example", "/bytes/1", "Connection: close\r\n"));
    let read = text(&play(&vaulted, &door, "s", &steps).await);
    assert!(read.contains("HTTP/1.1 200 OK"), "{read}");
}

/// security CRED-6, NET-10: an answer that cannot be looked through is refused, and that is written down.
#[tokio::test]
async fn cred_6_what_cannot_be_inspected_is_refused_and_noted() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, "a-secret"));
    let door = vaulted.tight("s");
    for way in ["gzip", "range", "coded", "switch"] {
        let mut steps = inside("good.example", "good.example:443");
        steps.push(get(
            "good.example",
            &format!("/mirror/{way}"),
            &format!("X-Api-Key: {IT}\r\n"),
        ));
        let read = text(&play(&vaulted, &door, "s", &steps).await);
        assert!(
            read.contains("x-egress-reason: not_inspectable") || read.contains("502"),
            "{way}: {read}"
        );
    }
    let noted = vaulted.bed.audited("s").into_iter().filter(|entry| {
        matches!(&entry.outcome, Outcome::Refused { reason, .. } if reason == "not_inspectable")
    });
    assert!(noted.count() >= 3);
}

/// The same answers without a secret in the request are nobody's business.
#[tokio::test]
async fn answers_without_a_secret_are_passed_on_as_they_are() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, "a-secret"));
    let door = vaulted.tight("s");
    let mut steps = inside("good.example", "good.example:443");
    steps.push(get(
        "good.example",
        "/mirror/gzip",
        "X-Api-Key: public\r\nRange: bytes=0-3\r\nAccept-Encoding: gzip\r\nConnection: close\r\n",
    ));
    let read = play(&vaulted, &door, "s", &steps).await;
    assert!(super::leaks(&read, "public").contains(&"plain"));
    let arrived = vaulted.bed.world.arrived().remove(0);
    assert_eq!(arrived.header("range"), Some("bytes=0-3"));
    assert_eq!(arrived.header("accept-encoding"), Some("gzip"));
}

/// runtime VA-14: under `unrestricted` TLS is opened with hosts of credentials, and with no others.
#[tokio::test]
async fn va_14_only_what_is_named_is_opened() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, "a-secret"));
    let door = vaulted.open("s");
    let header = format!("X-Api-Key: {IT}\r\nConnection: close\r\n");
    let mut steps = inside("good.example", "good.example:443");
    steps.push(get("good.example", "/bytes/1", &header));
    play(&vaulted, &door, "s", &steps).await;
    assert_eq!(vaulted.arrived_with("a-secret").len(), 1);
    // The client trusts the proxy's authority alone: TLS that is passed on is the host's own, and not trusted.
    let steps = inside("a.wild.example", "a.wild.example:443");
    let read = text(&play(&vaulted, &door, "s", &steps).await);
    assert_eq!(read, "HTTP/1.1 200 Connection established\r\n\r\n");
    assert_eq!(vaulted.bed.world.arrived().len(), 1);
    // Nor is anything opened for a session without credentials.
    let door = vaulted.open("s2");
    let steps = inside("good.example", "good.example:443");
    play(&vaulted, &door, "s2", &steps).await;
    assert_eq!(vaulted.bed.world.arrived().len(), 1);
}

/// runtime GH-4, GH-5, AR-5; security CRED-9: a repository's token goes with its own requests alone, and its host is open for them alone.
#[tokio::test]
async fn gh_5_a_repositorys_requests_carry_its_token_and_no_others_pass() {
    let vaulted = Vaulted::new().await;
    let world = &vaulted.bed.world;
    world.name("git.wild.example", &[&[crate::bed::GOOD]]);
    vaulted
        .holder
        .repository("s", "/mirror", Some("gh-token-123456"));
    vaulted.holder.repository("s", "/bytes", None);
    let door = vaulted.bed.open("s", &limited(&["good.example"]));
    let ask = async |path: &str, headers: &str| {
        let mut steps = inside("git.wild.example", "git.wild.example:443");
        steps.push(get(
            "git.wild.example",
            path,
            &format!("{headers}Connection: close\r\n"),
        ));
        text(&play(&vaulted, &door, "s", &steps).await)
    };
    let read = ask("/mirror/plain", "Authorization: Bearer mine\r\n").await;
    assert!(read.contains("HTTP/1.1 200 OK"), "{read}");
    let encoded = STANDARD.encode("x-access-token:gh-token-123456");
    let value = format!("Basic {encoded}");
    assert_eq!(
        world.arrived()[0].header("authorization"),
        Some(value.as_str())
    );
    assert!(
        ask("/bytes/5", "Authorization: Bearer mine\r\n")
            .await
            .contains("200 OK")
    );
    assert_eq!(
        world.arrived()[1].header("authorization"),
        Some("Bearer mine")
    );
    let read = ask("/echo", "").await;
    assert!(read.contains("x-egress-reason: host_not_allowed"), "{read}");
    // Not without TLS, and not from another door.
    for steps in [
        vec![get(
            "git.wild.example",
            "http://git.wild.example/mirror/plain",
            "",
        )],
        vec![Step::Connect("git.wild.example:80")],
    ] {
        let read = text(&play(&vaulted, &door, "s", &steps).await);
        assert!(
            read.contains("x-egress-reason: host_not_allowed") || read.contains("403"),
            "{read}"
        );
    }
    let other = vaulted.bed.open("s2", &limited(&["good.example"]));
    let steps = [Step::Connect("git.wild.example:443")];
    let read = text(&play(&vaulted, &other, "s2", &steps).await);
    assert!(read.starts_with("HTTP/1.1 403 "), "{read}");
    assert_eq!(world.arrived().len(), 2);
}

/// security CRED-4: a client that waits to be asked for its body is asked by the proxy, which has to see all of it.
#[tokio::test]
async fn cred_5_a_body_that_is_waited_for_is_looked_through() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, "a-secret"));
    let door = vaulted.tight("s");
    let mut steps = inside("good.example", "good.example:443");
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: good.example\r\nContent-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        IT.len()
    );
    steps.extend([
        Step::Send(head.into_bytes()),
        Step::Send(IT.as_bytes().to_vec()),
    ]);
    let read = text(&play(&vaulted, &door, "s", &steps).await);
    assert!(
        read.contains("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
        "{read}"
    );
    let arrived = vaulted.bed.world.arrived().remove(0);
    assert_eq!(arrived.body, b"a-secret");
    assert_eq!(arrived.header("expect"), None);
}

/// runtime VA-13, security CRED-5: a secret that cannot stand where its placeholder stands fails the request.
#[tokio::test]
async fn cred_5_a_secret_with_a_line_break_stands_in_no_header() {
    let vaulted = Vaulted::new().await;
    let door = vaulted.tight("s");
    vaulted.holder.hold(Held::new("s", IT, ""));
    // Nor one that is too long to be looked for in the answer.
    for secret in ["a\r\nX-Evil: secret", &"Evil".repeat(5000)] {
        vaulted.holder.rotate("s", secret);
        let mut steps = inside("good.example", "good.example:443");
        let header = format!("X-Api-Key: {IT}\r\n");
        steps.push(get("good.example", "/bytes/1", &header));
        let read = text(&play(&vaulted, &door, "s", &steps).await);
        assert!(
            read.contains("HTTP/1.1 502 ") && !read.contains("Evil"),
            "{read}"
        );
    }
    assert!(vaulted.bed.world.arrived().is_empty());
}
