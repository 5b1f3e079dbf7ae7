use std::sync::Mutex;

use tokio::net::TcpListener;

use super::*;

/// A resolver with one answer a call, and connections that are noted and go to one listener.
struct World {
    answers: Mutex<Vec<Vec<&'static str>>>,
    dialled: Mutex<Vec<SocketAddr>>,
    /// Addresses that never answer, and those that refuse.
    silent: &'static [&'static str],
    refusing: &'static [&'static str],
    listener: SocketAddr,
}

#[async_trait]
impl Resolve for World {
    async fn resolve(&self, _: &Host) -> io::Result<Vec<IpAddr>> {
        let answer = self.answers.lock().expect("a lock").remove(0);
        Ok(answer.iter().map(|it| it.parse().expect(it)).collect())
    }
}

#[async_trait]
impl Connect for World {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.dialled.lock().expect("a lock").push(address);
        let among = |list: &[&str]| list.contains(&address.ip().to_string().as_str());
        if among(self.silent) {
            std::future::pending::<()>().await;
        }
        if among(self.refusing) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        TcpStream::connect(self.listener).await
    }
}

async fn world(
    answers: &[&[&'static str]],
    silent: &'static [&'static str],
    refusing: &'static [&'static str],
) -> (Arc<World>, Dialler, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let world = Arc::new(World {
        answers: Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect()),
        dialled: Mutex::default(),
        silent,
        refusing,
        listener: listener.local_addr().expect("an address"),
    });
    let dialler = Dialler::new(
        world.clone(),
        world.clone(),
        Allowed::default(),
        Timeouts::default(),
    );
    (world, dialler, listener)
}

fn dialled(world: &World) -> Vec<String> {
    let dialled = world.dialled.lock().expect("a lock");
    dialled.iter().map(ToString::to_string).collect()
}

fn host() -> Host {
    Host::parse("example.com").expect("a host")
}

/// security NET-3
#[tokio::test]
async fn net_3_one_address_that_is_not_global_refuses_the_name() {
    for answer in [
        &["127.0.0.1"][..],
        &["8.8.8.8", "10.0.0.1"],
        &["2606:4700::1", "::ffff:8.8.8.8"],
        &["8.8.8.8", "fe80::1"],
    ] {
        let (world, dialler, _listener) = world(&[answer], &[], &[]).await;
        let refused = dialler.dial(&host(), 443).await;
        assert!(matches!(refused, Err(Error::NotGlobal(_))), "{refused:?}");
        assert_eq!(dialled(&world), [""; 0]);
    }
}

/// security NET-3: the name is asked once a dial, and the address of that answer is the one dialled.
#[tokio::test]
async fn net_3_the_checked_address_is_the_one_dialled() {
    let answers: [&[&str]; 2] = [&["8.8.8.8"], &["127.0.0.1"]];
    let (world, dialler, _listener) = world(&answers, &[], &[]).await;
    dialler.dial(&host(), 443).await.expect("a connection");
    assert_eq!(dialled(&world), ["8.8.8.8:443"]);
    let again = dialler.dial(&host(), 443).await;
    assert!(matches!(again, Err(Error::NotGlobal(_))), "{again:?}");
    assert_eq!(dialled(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_costs_a_head_start() {
    let answer: [&[&str]; 1] = [&["8.8.8.8", "8.8.4.4", "2606:4700::1"]];
    let (world, dialler, _listener) = world(&answer, &["2606:4700::1"], &["8.8.8.8"]).await;
    dialler.dial(&host(), 80).await.expect("a connection");
    let expected = ["[2606:4700::1]:80", "8.8.8.8:80", "8.8.4.4:80"];
    assert_eq!(dialled(&world), expected);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_reached_is_given_up_in_time() {
    let answer: [&[&str]; 1] = [&["8.8.8.8"]];
    let (_, dialler, _listener) = world(&answer, &["8.8.8.8"], &[]).await;
    let before = Instant::now();
    let error = dialler.dial(&host(), 80).await.expect_err("no connection");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(before.elapsed(), Timeouts::default().connect);
}

#[tokio::test]
async fn a_name_without_addresses_or_with_too_many_is_not_resolved() {
    for answer in [vec![], vec!["8.8.8.8"; MOST + 1]] {
        let (world, dialler, _listener) = world(&[&answer], &[], &[]).await;
        let error = dialler.dial(&host(), 80).await.expect_err("no connection");
        assert!(matches!(error, Error::Unresolved { .. }), "{error}");
        assert_eq!(dialled(&world), [""; 0]);
    }
}
