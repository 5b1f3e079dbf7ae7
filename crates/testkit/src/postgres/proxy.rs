//! A TCP port before a PostgreSQL server: it can cut, fall silent, lead elsewhere, and cut around one message.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The port. Ends with its connections when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// When a connection is cut for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server never gets it.
    Before,
    /// The server has answered it, and the client never hears the answer.
    After,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<PathBuf>,
    /// What is to be cut once, and where.
    knife: Mutex<Option<(Vec<u8>, Side)>>,
    way: watch::Sender<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// Connections of an older generation are cut.
    generation: u64,
    /// Nothing gets through, in neither direction.
    silent: bool,
}

impl Proxy {
    /// Listens on a free port and leads to a server's socket.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(target: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            knife: Mutex::default(),
            way: watch::Sender::new(Way {
                generation: 0,
                silent: false,
            }),
        });
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(Arc::clone(&state), client));
            }
        });
        Self { port, shared, task }
    }

    /// The URL of a server's database, through this port.
    ///
    /// # Panics
    /// When it is no URL of [`Cluster::create_database`](super::Cluster::create_database).
    pub fn url(&self, database: &str) -> String {
        let path = database.split_once("@localhost/").expect("a URL").1;
        let name = path.split_once('?').expect("a URL").0;
        format!(
            "postgres://{}@127.0.0.1:{}/{name}?sslmode=disable",
            super::ROLE,
            self.port
        )
    }

    /// Cuts all connections; new ones lead to this server.
    pub fn lead_to(&self, target: &Path) {
        target.clone_into(&mut lock(&self.shared.target));
        self.cut();
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.way.send_modify(|way| way.generation += 1);
    }

    /// Lets nothing through from now on, or everything that waits and will come.
    pub fn silence(&self, silent: bool) {
        self.shared.way.send_modify(|way| way.silent = silent);
    }

    /// Cuts the next connection on which a client sends these bytes in one piece.
    pub fn cut_at(&self, bytes: &str, side: Side) {
        *lock(&self.shared.knife) = Some((bytes.as_bytes().to_vec(), side));
    }

    /// Whether the cut that was asked for is still to come.
    pub fn is_armed(&self) -> bool {
        lock(&self.shared.knife).is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(shared: Arc<Shared>, client: TcpStream) {
    let mut way = shared.way.subscribe();
    let generation = way.borrow_and_update().generation;
    let target = lock(&shared.target).clone();
    let pass = async {
        let server = UnixStream::connect(target).await.ok()?;
        pass(&shared, client, server).await
    };
    tokio::select! {
        _ = pass => {}
        _ = way.wait_for(|way| way.generation != generation) => {}
    }
}

/// Passes bytes on in both directions until one side ends or the knife falls.
async fn pass(shared: &Shared, mut client: TcpStream, mut server: UnixStream) -> Option<()> {
    let mut way = shared.way.subscribe();
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut cut_after_answer = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..some(read.ok()?)?];
                way.wait_for(|way| !way.silent).await.ok()?;
                match shared.falls(bytes) {
                    Some(Side::Before) => return None,
                    Some(Side::After) => cut_after_answer = true,
                    None => {}
                }
                server.write_all(bytes).await.ok()?;
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..some(read.ok()?)?];
                way.wait_for(|way| !way.silent).await.ok()?;
                if cut_after_answer {
                    // "Ready for query" ends an answer.
                    let ready = bytes.len() >= 6 && bytes[bytes.len() - 6..].starts_with(b"Z\0\0\0\x05");
                    if ready {
                        return None;
                    }
                    continue;
                }
                client.write_all(bytes).await.ok()?;
            }
        }
    }
}

/// Nothing at the end of a stream.
fn some(read: usize) -> Option<usize> {
    (read > 0).then_some(read)
}

impl Shared {
    fn falls(&self, bytes: &[u8]) -> Option<Side> {
        let mut knife = lock(&self.knife);
        let (wanted, side) = knife.as_ref()?;
        let side = *side;
        let found = bytes.windows(wanted.len()).any(|part| part == wanted);
        found.then(|| {
            *knife = None;
            side
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
