//! A sandbox's way out, on its host's side: the socket behind it, and what clients inside have to know so that they need no
//! configuration (security NET-1, NET-8).
//!
//! The socket lies in a folder of the session's own that the sandbox sees read-only at [`INSIDE`]. The folder stays for as
//! long as the session's, and each server puts a socket of its own into it, in one step: a sandbox that outlives a server is
//! served by the next one at the same place. A sandbox that cannot see the folder comes to the socket by carriers, which its
//! provider brings.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::fs::{AtFlags, Mode, OFlags, chmodat, fchmod, mkdirat, openat, renameat, statat};
use rustix::io::Errno;
use tokio_util::task::AbortOnDropHandle;

use super::namespace::{self, chain, files, record};
use super::{Door, Gate, Network};

mod trust;

pub(super) use trust::Trust;

/// The folder in a session's.
pub(super) const FOLDER: &str = "door";

/// Where a sandbox sees it.
pub(super) const INSIDE: &str = "/run/manyhands/door";

/// The socket, as a sandbox sees it.
pub(super) const SOCKET: &str = "/run/manyhands/door/socket";

/// The socket's name in its folder.
pub(super) const NAME: &str = "socket";

/// Where a sandbox sees the [`Trust`].
pub(super) const TRUST: &str = "/run/manyhands/trust";

/// What tells clients inside of the proxy and whom to trust. Of most settings there are two spellings in use; some clients
/// read the one, some the other.
pub(super) const ENVIRONMENT: [(&str, &str); 15] = [
    ("HTTP_PROXY", "http://127.0.0.1:3128"),
    ("http_proxy", "http://127.0.0.1:3128"),
    ("HTTPS_PROXY", "http://127.0.0.1:3128"),
    ("https_proxy", "http://127.0.0.1:3128"),
    ("NO_PROXY", "localhost,127.0.0.1,::1"),
    ("no_proxy", "localhost,127.0.0.1,::1"),
    ("SSL_CERT_FILE", "/run/manyhands/trust/roots.pem"),
    ("CURL_CA_BUNDLE", "/run/manyhands/trust/roots.pem"),
    ("REQUESTS_CA_BUNDLE", "/run/manyhands/trust/roots.pem"),
    ("PIP_CERT", "/run/manyhands/trust/roots.pem"),
    ("GIT_SSL_CAINFO", "/run/manyhands/trust/roots.pem"),
    ("CARGO_HTTP_CAINFO", "/run/manyhands/trust/roots.pem"),
    // Beside the roots that it has inside; all of them again would be read at each start.
    ("NODE_EXTRA_CA_CERTS", "/run/manyhands/trust/authority.pem"),
    ("NODE_OPTIONS", "--require=/run/manyhands/trust/node.cjs"),
    // A host that is refused stays refused, and by default it is asked for again for minutes.
    ("npm_config_fetch_retries", "1"),
];

/// A way out that this server keeps open. Dropping it closes it.
pub(super) struct Opened {
    _door: Door,
    socket: Identity,
    /// What brings clients to the socket, where the sandbox does not see it.
    carriers: Option<AbortOnDropHandle<()>>,
}

/// Device and number of a file.
type Identity = (u64, u64);

impl Opened {
    /// Puts a socket into the folder of a session, whose lock the caller has, and has `gate` answer at it.
    pub(super) fn new(
        gate: &dyn Gate,
        folder: &OwnedFd,
        session: &str,
        network: &Network,
    ) -> io::Result<Self> {
        let folder = make(folder)?;
        let aside = files::unique();
        let listener = UnixListener::bind(namespace::at(&folder, &aside))?;
        // Nobody else comes as far as the session's folder.
        chmodat(&folder, &aside, Mode::from(0o666), AtFlags::empty())?;
        let door = gate.open(session, network, listener)?;
        let socket = identity(&folder, &aside)?;
        renameat(&folder, &aside, &folder, NAME)?;
        Ok(Self {
            _door: door,
            socket,
            carriers: None,
        })
    }

    /// Has these bring clients to the socket for as long as it is kept open.
    pub(super) fn carried_by(&mut self, carriers: AbortOnDropHandle<()>) {
        self.carriers = Some(carriers);
    }

    /// What brings clients to the socket, if it still does. It brings them to the next one in the place as well, and a client
    /// that it already has is not lost.
    pub(super) fn leave_carriers(&mut self) -> Option<AbortOnDropHandle<()>> {
        self.carriers.take().filter(|all| !all.is_finished())
    }

    /// Whether it is the one that the sandbox comes to: another server may have put its own in the place, and what brings
    /// clients to it may have ended.
    pub(super) fn is_current(&self, folder: &OwnedFd) -> bool {
        if self.carriers.as_ref().is_some_and(|all| all.is_finished()) {
            return false;
        }
        let now = make(folder).and_then(|folder| identity(&folder, NAME));
        now.is_ok_and(|now| now == self.socket)
    }
}

/// The folder of the socket, made if there is none. The server's own, also where the sandbox has a user of its own.
pub(super) fn make(session: &OwnedFd) -> io::Result<OwnedFd> {
    match mkdirat(session, FOLDER, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(session, FOLDER, flags, Mode::empty())?;
    fchmod(&folder, Mode::from(0o755))?;
    Ok(folder)
}

fn identity(folder: &OwnedFd, name: &str) -> io::Result<Identity> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}
/// The way out of a session's sandbox as its last start recorded it. One that cannot be opened stays closed, and the sandbox
/// works without (invariant I9).
pub(super) fn recorded(gate: &dyn Gate, folder: &OwnedFd, session: &str) -> Option<Opened> {
    let opened = record::read(folder).and_then(|record| {
        let Some(network) = record.and_then(|record| record.network) else {
            return Err(io::Error::other("nothing says what it may reach"));
        };
        Opened::new(gate, folder, session, &network)
    });
    opened
        .inspect_err(|error| {
            let error = chain(error);
            tracing::error!(session.id = session, error, "a sandbox has no way out");
        })
        .ok()
}
