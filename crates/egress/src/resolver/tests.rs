use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::*;

/// A name server that answers every question for an IPv4 address with this one, and remembers the names.
async fn name_server(answer: Ipv4Addr) -> (u16, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remembered = asked.clone();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet).await {
            let (name, after) = question(&packet[..length]);
            remembered.lock().expect("a lock").push(name);
            let for_ipv4 = packet[after..after + 2] == [0, 1];
            let mut reply = packet[..2].to_vec();
            reply.extend([0x81, 0x80, 0, 1, 0, u8::from(for_ipv4), 0, 0, 0, 0]);
            reply.extend(&packet[12..after + 4]);
            if for_ipv4 {
                // The name of the question, an address, for a minute.
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend(answer.octets());
            }
            drop(socket.send_to(&reply, client).await);
        }
    });
    (port, asked)
}

/// The name of a question, and where it ends.
fn question(packet: &[u8]) -> (String, usize) {
    let (mut at, mut name) = (12, String::new());
    while packet[at] > 0 {
        let end = at + 1 + usize::from(packet[at]);
        name.push_str(std::str::from_utf8(&packet[at + 1..end]).expect("a label"));
        name.push('.');
        at = end;
    }
    (name, at + 1)
}

/// security NET-2, NET-6: one name is asked for, the one that was checked, of the servers that the file names now.
#[tokio::test]
async fn net_6_the_name_that_was_checked_is_the_one_asked_for() {
    let (port, asked) = name_server(Ipv4Addr::new(8, 8, 4, 4)).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("resolv.conf");
    let system = System::with_file(&path, port).expect("a resolver");
    let host = Host::parse("short").expect("a host");
    assert!(system.resolve(&host).await.is_err());

    std::fs::write(&path, "search corp.example\nnameserver 127.0.0.1\n").expect("written");
    let addresses = system.resolve(&host).await.expect("addresses");
    assert_eq!(addresses, [IpAddr::from([8, 8, 4, 4])]);
    let asked = asked.lock().expect("a lock");
    assert!(
        !asked.is_empty() && asked.iter().all(|name| name == "short."),
        "{asked:?}"
    );
}

/// security NET-3: what the hosts file says is an answer like any other, to be checked.
#[tokio::test]
async fn net_3_this_machine_itself_is_resolved_and_not_global() {
    let directory = tempfile::tempdir().expect("a directory");
    let system = System::with_file(&directory.path().join("none"), PORT).expect("a resolver");
    let host = Host::parse("localhost").expect("a host");
    let addresses = system.resolve(&host).await.expect("addresses");
    assert!(!addresses.is_empty());
    assert!(
        addresses
            .iter()
            .all(|address| !crate::address::is_global(*address)),
        "{addresses:?}"
    );
}
