//! The first message of TLS, read for the name in it without taking part.

use rustls::server::Acceptor;

/// The longest that is waited for, in bytes.
pub(crate) const LONGEST: usize = 64 << 10;
/// The first byte of TLS: a handshake record.
pub(crate) const TLS: u8 = 0x16;

/// What the first bytes of a tunnel are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// The beginning of TLS, and not all of its first message.
    Partial,
    /// TLS to this name, or to none.
    Tls(Option<String>),
    /// Another protocol.
    Other,
    /// It begins like TLS and is not.
    Malformed,
}

/// Reads the first bytes of a tunnel.
pub(crate) fn read(bytes: &[u8]) -> Hello {
    match bytes.first() {
        None => return Hello::Partial,
        Some(&TLS) => {}
        Some(_) => return Hello::Other,
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    loop {
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => {
                return match bytes.len() < LONGEST {
                    true => Hello::Partial,
                    false => Hello::Malformed,
                };
            }
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Hello::Tls(name);
            }
            Err(_) => return Hello::Malformed,
        }
    }
}
