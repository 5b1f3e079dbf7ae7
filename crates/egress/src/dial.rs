//! Dialling: a name is resolved, every address is checked, and a checked address is the one dialled (security NET-3).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::address::{Allowed, NotGlobal};
use crate::host::Host;

/// How many addresses of a name are tried.
const TRIED: usize = 6;
/// How many addresses of a name are looked at; a name with more is refused, unread.
const MOST: usize = 64;
/// How long one address is tried alone before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Asks for the addresses of names.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of exactly this name: no search domains.
    ///
    /// # Errors
    /// When the name has none or nobody answers.
    async fn resolve(&self, host: &Host) -> io::Result<Vec<IpAddr>>;
}

/// Opens connections.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A connection to exactly this address.
    ///
    /// # Errors
    /// As the operating system says.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has an address that may not be dialled; then none of its addresses is (a policy's refusal).
    #[error(transparent)]
    NotGlobal(#[from] NotGlobal),
    /// The name could not be resolved: it does not exist, or nobody answered. A retry may help.
    #[error("{host} cannot be resolved")]
    Unresolved {
        /// The name.
        host: Host,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address could be reached. A retry may help.
    #[error("{host}:{port} cannot be reached")]
    Unreachable {
        /// The name.
        host: Host,
        /// The port.
        port: u16,
        /// What the last attempt said.
        source: io::Error,
    },
}

/// How long a dial may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the addresses of a name.
    pub resolve: Duration,
    /// For a connection, all addresses together.
    pub connect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(10),
        }
    }
}

/// The one way to a connection from a name. Cheap to clone.
#[derive(Clone)]
pub struct Dialler {
    resolve: Arc<dyn Resolve>,
    connect: Arc<dyn Connect>,
    allowed: Arc<Allowed>,
    timeouts: Timeouts,
}

impl Dialler {
    /// A dialler over this resolver and these connections.
    pub fn new(
        resolve: Arc<dyn Resolve>,
        connect: Arc<dyn Connect>,
        allowed: Allowed,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            resolve,
            connect,
            allowed: Arc::new(allowed),
            timeouts,
        }
    }

    /// A dialler with this machine's resolver and network.
    ///
    /// # Errors
    /// When the resolver's configuration cannot be read.
    pub fn system(allowed: Allowed) -> io::Result<Self> {
        Ok(Self::new(
            Arc::new(crate::resolver::System::new()?),
            Arc::new(Tcp),
            allowed,
            Timeouts::default(),
        ))
    }

    /// The addresses of a name, all of them checked, in the order in which they are to be tried.
    ///
    /// # Errors
    /// One address that may not be dialled refuses the name: an honest answer mixes no kinds.
    pub async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Error> {
        let unresolved = |source| Error::Unresolved {
            host: host.clone(),
            source,
        };
        let answer = tokio::time::timeout(self.timeouts.resolve, self.resolve.resolve(host)).await;
        let addresses = answer
            .map_err(|_| unresolved(io::ErrorKind::TimedOut.into()))?
            .map_err(unresolved)?;
        if addresses.is_empty() {
            return Err(unresolved(io::ErrorKind::NotFound.into()));
        }
        if addresses.len() > MOST {
            return Err(unresolved(io::Error::other("too many addresses")));
        }
        for address in &addresses {
            self.allowed.check(*address)?;
        }
        Ok(interleaved(addresses))
    }

    /// A connection to a checked address of the name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dial(&self, host: &Host, port: u16) -> Result<TcpStream, Error> {
        let addresses = self.addresses(host).await?;
        let deadline = Instant::now() + self.timeouts.connect;
        let race = self.race(&addresses, port);
        let won = timeout_at(deadline, race)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = won.map_err(|source| Error::Unreachable {
            host: host.clone(),
            port,
            source,
        })?;
        // Bytes are passed on as they come.
        drop(stream.set_nodelay(true));
        Ok(stream)
    }

    /// Tries the addresses one after the other, each with a head start, and takes the first that answers.
    async fn race(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let mut waiting = addresses.iter().take(TRIED);
        let mut running = FuturesUnordered::new();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        loop {
            if let Some(address) = waiting.next() {
                running.push(self.connect.connect(SocketAddr::new(*address, port)));
            } else if running.is_empty() {
                return Err(last);
            }
            let next = Instant::now() + HEAD_START;
            tokio::select! {
                biased;
                Some(ended) = running.next() => match ended {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                },
                () = sleep_until(next), if waiting.len() > 0 => {}
            }
        }
    }
}

/// IPv6 and IPv4 in turns, beginning with IPv6, so that one broken family costs one head start.
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let longest = six.len().max(four.len());
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut turns = Vec::new();
    for _ in 0..longest {
        turns.extend(six.next());
        turns.extend(four.next());
    }
    turns
}

/// Connections through this machine's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

#[async_trait]
impl Connect for Tcp {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

#[cfg(test)]
mod tests;
