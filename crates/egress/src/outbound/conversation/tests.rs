use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use manyhands_testkit::mcp::{Asked, Peer, Reply};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::*;
use crate::address::Allowed;
use crate::dial::{Dialler, Resolve, Tcp, Timeouts};
use crate::host::Host;
use crate::outbound::Refusal;

/// Every name is this machine, until it is a private address.
#[derive(Default)]
struct Moving {
    moved: AtomicBool,
}

#[async_trait]
impl Resolve for Moving {
    async fn resolve(&self, _: &Host) -> io::Result<Vec<IpAddr>> {
        let address = match self.moved.load(Ordering::Relaxed) {
            true => "10.0.0.1",
            false => "127.0.0.1",
        };
        Ok(vec![address.parse().expect("an address")])
    }
}

/// A server, and the gate to it.
struct World {
    peer: Peer,
    names: Arc<Moving>,
    outbound: Outbound,
}

impl World {
    async fn new(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let peer = Peer::start(answer).await;
        let names = Arc::new(Moving::default());
        let allowed = Allowed::parse(["127.0.0.1/32"]).expect("a network");
        let dialler = Dialler::new(names.clone(), Arc::new(Tcp), allowed, Timeouts::default());
        let outbound = Outbound::new(dialler, &[peer.address().port()]).expect("a client");
        Self {
            peer,
            names,
            outbound,
        }
    }

    fn conversation(&self) -> Conversation {
        self.outbound.conversation().expect("a client")
    }

    fn request(&self, path: &str) -> Request {
        Request {
            method: Method::POST,
            url: Url::parse(&self.peer.url("mcp.example.com", path)).expect("a URL"),
            headers: HeaderMap::new(),
            body: b"{}".to_vec(),
        }
    }

    /// Sends a request and reads its answer to the end.
    async fn ask(&self, conversation: &Conversation, repeat: Repeat) -> Result<(), Unanswered> {
        let answer = conversation.send(self.request("/mcp"), repeat).await?;
        answer.bytes().await.expect("a body");
        Ok(())
    }

    /// The connections of all requests so far.
    fn connections(&self) -> Vec<usize> {
        let asked = self.peer.asked();
        asked.iter().map(|asked| asked.connection).collect()
    }
}

/// security NET-3: the address is checked when it is dialled; a kept connection still leads there, another is checked anew.
#[tokio::test]
async fn net_3_a_kept_connection_leads_to_the_address_that_was_checked() {
    let mut answers = 0;
    let world = World::new(move |_| {
        answers += 1;
        let answer = Reply::status(200);
        if answers < 3 { answer.keep() } else { answer }
    })
    .await;
    let conversation = world.conversation();
    world.ask(&conversation, Repeat::Harmless).await.expect("1");
    world.names.moved.store(true, Ordering::Relaxed);
    world.ask(&conversation, Repeat::Harmless).await.expect("2");
    // Another conversation has no part in it.
    let refused = world.ask(&world.conversation(), Repeat::Harmless).await;
    assert!(
        matches!(refused, Err(Unanswered::Unsent(Refusal::Address { .. }))),
        "{refused:?}"
    );
    world.ask(&conversation, Repeat::Harmless).await.expect("3");
    // The server has closed it.
    let refused = world.ask(&conversation, Repeat::Harmless).await;
    assert!(
        matches!(refused, Err(Unanswered::Unsent(Refusal::Address { .. }))),
        "{refused:?}"
    );
    assert_eq!(world.connections(), [0, 0, 0]);
}

/// security NET-4: a request over a kept connection is decided as any other.
#[tokio::test]
async fn net_4_what_is_refused_is_refused_over_a_kept_connection_too() {
    let world = World::new(|_| Reply::status(200).keep()).await;
    let conversation = world.conversation();
    world.ask(&conversation, Repeat::Harmless).await.expect("1");
    for url in [
        "ftp://mcp.example.com/mcp",
        "http://mcp.example.com:1/mcp",
        &format!("http://me:you@{}/mcp", world.peer.address()),
    ] {
        let request = Request {
            url: Url::parse(url).expect("a URL"),
            ..world.request("/mcp")
        };
        let refused = conversation.send(request, Repeat::Harmless).await;
        assert!(matches!(refused, Err(Unanswered::Unsent(_))), "{url}");
    }
    assert_eq!(world.connections(), [0]);
}

/// security TOOL-2: what must not be repeated waits for a server that is known to keep its connections.
#[tokio::test]
async fn tool_2_a_kept_connection_is_trusted_when_it_has_been_used_twice() {
    let world = World::new(|_| Reply::status(200).keep()).await;
    let conversation = world.conversation();
    for repeat in [
        Repeat::Harmless,
        Repeat::Never,
        Repeat::Harmless,
        Repeat::Never,
    ] {
        world.ask(&conversation, repeat).await.expect("an answer");
    }
    assert_eq!(world.connections(), [0, 1, 0, 0]);
}

/// security TOOL-2: a server that closes its connections without saying so costs nobody a request.
#[tokio::test]
async fn tool_2_a_server_that_closes_behind_each_answer_gets_each_request_once() {
    let world = World::new(|_| Reply::status(200).close_unsaid()).await;
    let conversation = world.conversation();
    for _ in 0..20 {
        world.ask(&conversation, Repeat::Never).await.expect("sent");
    }
    assert_eq!(world.connections(), (0..20).collect::<Vec<_>>());
}

/// security TOOL-2: what was written to a kept connection may have arrived, and is the caller's to repeat.
#[tokio::test]
async fn tool_2_a_request_that_may_have_arrived_over_a_kept_connection_is_not_repeated() {
    let mut answers = 0;
    let world = World::new(move |_| {
        answers += 1;
        match answers {
            3 => Reply::raw(""),
            _ => Reply::status(200).keep(),
        }
    })
    .await;
    let conversation = world.conversation();
    for _ in 0..2 {
        let kept = world.ask(&conversation, Repeat::Harmless).await;
        kept.expect("an answer");
    }
    let lost = world.ask(&conversation, Repeat::Never).await;
    assert!(matches!(lost, Err(Unanswered::Sent(_))), "{lost:?}");
    assert_eq!(world.connections(), [0, 0, 0]);
    // Such a server is no longer trusted.
    world.ask(&conversation, Repeat::Harmless).await.expect("1");
    world.ask(&conversation, Repeat::Never).await.expect("2");
    assert_eq!(world.connections(), [0, 0, 0, 1, 2]);
}

#[tokio::test]
async fn a_kept_connection_ends_by_itself_and_with_its_conversation() {
    let world = World::new(|_| Reply::status(200).keep()).await;
    let (idle, ended) = (world.conversation(), world.conversation());
    for conversation in [&idle, &ended] {
        let asked = world.ask(conversation, Repeat::Harmless).await;
        asked.expect("an answer");
    }
    drop(ended);
    world.peer.wait_for_left(1).await;
    world.peer.wait_for_left(2).await;
    drop(idle);
}
