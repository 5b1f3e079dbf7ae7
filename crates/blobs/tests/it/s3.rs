//! An S3 server of the test's own: the contract, and a server that does not answer.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use manyhands_blobs::{Blobs, Error, S3, fresh};

use crate::contract::{content, holds, put};

/// How long the server may take to come up.
const START: Duration = Duration::from_secs(60);

/// A server that plays S3, with an empty bucket. It ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    async fn start() -> Self {
        let program = program();
        assert!(
            program.is_file(),
            "{} is not there: \"make setup\" brings it",
            program.display()
        );
        let child = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("it starts");
        let said = BufReader::new(child.stderr.take().expect("its words"));
        let (sender, receiver) = mpsc::channel();
        // To its end: a server whose words nobody reads would stop.
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("http://127.0.0.1:") {
                    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
                    let _ = sender.send(format!("127.0.0.1:{port}"));
                }
            }
        });
        let address = receiver.recv_timeout(START).expect("it listens");
        let server = Self { child, address };
        let client = reqwest::Client::builder().timeout(START).build();
        let made = client
            .expect("a client")
            .put(format!("http://{}/bucket", server.address))
            .send()
            .await;
        assert!(made.expect("an answer").status().is_success());
        server
    }

    fn settings(&self) -> S3 {
        S3 {
            bucket: "bucket".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(format!("http://{}", self.address)),
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some("secret".to_owned().into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the set-up puts it.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("MANYHANDS_S3_SERVER") {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"));
    cache.join("manyhands/s3-python/bin/moto_server")
}

/// security STORE-3, INP-4, and reading what somebody has changed in the bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_3_a_bucket_holds_the_contract() {
    // The process has one provider of TLS, as the server has.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::start().await;
    let blobs = Blobs::s3(&server.settings()).expect("settings");
    holds(&blobs).await;

    let (name, content) = (fresh("files"), content((1 << 20) + 9));
    let stored = put(&blobs, &name, &content).await;
    // Somebody writes something else of the same size there.
    put(&blobs, &name, &vec![0; content.len()]).await;
    let read = blobs.read(&name, &stored, 2 << 20).await;
    assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
}

/// A bucket that is not there is an error that may pass, not a missing blob; and no secret is in its words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_is_said_without_secrets() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::start().await;
    let elsewhere = S3 {
        bucket: "another".to_owned(),
        ..server.settings()
    };
    let blobs = Blobs::s3(&elsewhere).expect("settings");
    let refused = blobs.put(&fresh("files"), &b"x"[..], 10).await;
    let error = refused.expect_err("no such bucket");
    assert!(
        matches!(error, Error::Missing { .. } | Error::Unavailable { .. }),
        "{error:?}"
    );
    assert!(!format!("{error} {elsewhere:?}").contains("secret\""));
}
