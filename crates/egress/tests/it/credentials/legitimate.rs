//! What a credential is for: requests that carry it, each served as it should be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Held, Step, Vaulted, carries, play};
use crate::client::chunks;

const IT: &str = "mhp_abcdefghijklmnopqrstuvwxyz234567";
const SECRET: &str = "sk-live-0123456789/+=\"x\" &y";

/// A request as it is sent, and how it has to arrive.
struct Row {
    sent: Vec<u8>,
    header: Option<(&'static str, String)>,
    body: String,
}

fn rows() -> Vec<Row> {
    let with_header = |name: &'static str, before: &str| Row {
        sent: format!("GET /echo HTTP/1.1\r\nHost: good.example\r\n{name}: {before}{IT}\r\n\r\n")
            .into_bytes(),
        header: Some((name, format!("{before}{SECRET}"))),
        body: String::new(),
    };
    let with_body = |kind: &str, before: &str, behind: &str| {
        let body = format!("{before}{IT}{behind}");
        Row {
            sent: format!("POST /echo HTTP/1.1\r\nHost: good.example\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes(),
            header: Some(("content-length", (body.len() - IT.len() + SECRET.len()).to_string())),
            body: format!("{before}{SECRET}{behind}"),
        }
    };
    let in_chunks = |size: usize, behind: &str| {
        let body = format!("a=b&key={IT}&again={IT}{behind}");
        let head =
            "POST /echo HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        Row {
            sent: [
                head.as_bytes(),
                &chunks(body.as_bytes(), size),
                b"0\r\n\r\n",
            ]
            .concat(),
            header: Some(("transfer-encoding", "chunked".to_owned())),
            body: body.replace(IT, SECRET),
        }
    };
    let mut rows = vec![
        with_header("Authorization", "Bearer "),
        with_header("Authorization", "token "),
        with_header("X-Api-Key", ""),
        with_header("Api-Key", ""),
        with_header("Private-Token", ""),
        with_header("Cookie", "a=b; session="),
        with_body("application/json", "{\"model\": \"x\", \"key\": \"", "\"}"),
        with_body(
            "application/x-www-form-urlencoded",
            "grant=x&secret=",
            "&y=z",
        ),
        with_body("text/plain", "", ""),
        with_body(
            "application/octet-stream",
            &"x".repeat(300_000),
            &".".repeat(400_000),
        ),
        with_body(
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n",
            "\r\n--b--\r\n",
        ),
    ];
    rows.extend((1..40).map(|size| in_chunks(size, "")));
    rows.push(in_chunks(5000, &".".repeat(200_000)));
    let basic = STANDARD.encode(format!("user:{IT}"));
    rows.push(Row {
        sent: format!(
            "GET /echo HTTP/1.1\r\nHost: good.example\r\nAuthorization: Basic {basic}\r\n\r\n"
        )
        .into_bytes(),
        header: Some((
            "Authorization",
            format!("Basic {}", STANDARD.encode(format!("user:{SECRET}"))),
        )),
        body: String::new(),
    });
    rows
}

/// runtime VA-9, VA-13; security CRED-5: all of them on one connection, and each arrives with its secret and nothing else changed.
#[tokio::test]
async fn va_9_requests_arrive_with_their_secret() {
    let vaulted = Vaulted::new().await;
    vaulted.holder.hold(Held::new("s", IT, SECRET));
    for door in [
        vaulted.tight("s"),
        vaulted.bed.open("s2", &crate::bed::limited(&[])),
    ] {
        let mut steps = vec![Step::Connect("good.example:443"), Step::Tls("good.example")];
        for row in rows() {
            steps.extend([Step::Send(row.sent), Step::Answer]);
        }
        steps.push(Step::Send(
            b"GET /bytes/1 HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n".to_vec(),
        ));
        if door.ends_with("s2") {
            // The other door's policy admits nothing, whatever the credential says.
            let read = play(&vaulted, &door, "s2", &steps).await;
            assert!(
                read.starts_with(b"HTTP/1.1 403 "),
                "{}",
                String::from_utf8_lossy(&read)
            );
            continue;
        }
        let read = play(&vaulted, &door, "s", &steps).await;
        assert!(
            !super::contains(&read, b"sk-live"),
            "the echo of a secret came back"
        );
        let arrived = vaulted.bed.world.arrived();
        assert_eq!(arrived.len(), rows().len() + 1);
        for (row, arrived) in rows().iter().zip(&arrived) {
            let sent = String::from_utf8_lossy(&row.sent);
            assert!(carries(arrived, SECRET), "{sent:.300}");
            assert!(!carries(arrived, IT), "{sent:.300}");
            if let Some((name, value)) = &row.header {
                assert_eq!(arrived.header(name), Some(value.as_str()), "{sent:.300}");
            }
            assert_eq!(
                String::from_utf8_lossy(&arrived.body),
                row.body,
                "{sent:.300}"
            );
            assert_eq!(arrived.header("accept-encoding"), Some("identity"));
        }
    }
}

/// runtime VA-12: what is not released arrives as it was sent.
#[tokio::test]
async fn va_12_what_is_not_released_is_passed_on_as_it_came() {
    let vaulted = Vaulted::new().await;
    let mut held = Held::new("s", IT, SECRET);
    held.credential.body = false;
    vaulted.holder.hold(held);
    let door = vaulted.tight("s");
    let long = format!(
        "POST /echo HTTP/1.1\r\nHost: good.example\r\nAccept-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\nkey={IT}",
        IT.len() + 4
    );
    let steps = [
        Step::Connect("good.example:443"),
        Step::Tls("good.example"),
        Step::Send(long.into_bytes()),
    ];
    let read = play(&vaulted, &door, "s", &steps).await;
    let arrived = vaulted.bed.world.arrived().remove(0);
    assert_eq!(arrived.body, format!("key={IT}").into_bytes());
    assert_eq!(arrived.header("accept-encoding"), Some("gzip"));
    assert!(read.ends_with(format!("key={IT}").as_bytes()));
    let elsewhere = format!(
        "GET /echo HTTP/1.1\r\nHost: a.wild.example\r\nX-Api-Key: {IT}\r\nConnection: close\r\n\r\n"
    );
    let steps = [
        Step::Connect("a.wild.example:443"),
        Step::Tls("a.wild.example"),
        Step::Send(elsewhere.into_bytes()),
    ];
    play(&vaulted, &door, "s", &steps).await;
    let arrived = vaulted.bed.world.arrived().remove(1);
    assert_eq!(arrived.header("x-api-key"), Some(IT));
    assert_eq!(vaulted.holder.released("s"), Vec::<String>::new());
}
