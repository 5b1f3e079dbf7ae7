//! The frames between a server and the `sandboxd` of a sandbox (security SBX-5).
//!
//! A frame is a length (4 bytes, big-endian) and that many bytes of JSON. Each request carries an id that its one
//! reply repeats; replies come in any order. The first frame of a connection is `hello`, within
//! [`HANDSHAKE_LIMIT`]. Everything read from a sandbox is data: a frame over [`MAX_FRAME`] or out of shape ends the
//! connection.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::output::Output;
pub use crate::shell::Variables;

/// The largest frame either side takes, in bytes of JSON: 32 MiB, room for a PDF of 20 MiB in base64.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;

/// How long a new connection may take to say `hello`.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// The version of these frames; both sides must speak the same one.
pub const PROTOCOL: u32 = 1;

/// A request from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the server, repeated in the reply; unique among the open requests of a connection.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

/// What a server can ask for. Every operation but `hello` carries the epoch of the lease it is done under; an epoch
/// below the highest seen is refused (security LEASE-1, invariant I5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Opens a connection.
    Hello {
        /// [`PROTOCOL`] of the server.
        protocol: u32,
    },
    /// Runs a tool call, or attaches to the run it already has: a call id is started at most once (invariant I4).
    Execute {
        /// The id of the tool use.
        call_id: String,
        /// The lease's epoch.
        epoch: i64,
        /// The tool: `bash`, `read`, `write`, `edit`, `glob` or `grep`.
        name: String,
        /// The tool's input, as the model wrote it.
        input: Value,
        /// The outer limit of the call in milliseconds, counted from its start (runtime TL-20).
        timeout_ms: u64,
    },
    /// Ends a call and its processes; its result says that it was interrupted.
    Kill {
        /// The id of the tool use.
        call_id: String,
        /// The lease's epoch.
        epoch: i64,
    },
    /// Drops the stored results of calls whose results are durable elsewhere. The ids stay known: such a call is
    /// never run again.
    Forget {
        /// The ids of the tool uses.
        call_ids: Vec<String>,
        /// The lease's epoch.
        epoch: i64,
    },
    /// Sets variables of the environment of what is run after this, as a shell has them.
    Set {
        /// By their names.
        variables: Variables,
        /// The lease's epoch.
        epoch: i64,
    },
    /// Ends the sandbox.
    Shutdown {
        /// The lease's epoch.
        epoch: i64,
    },
}

/// The reply to one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The id of the request.
    pub id: u64,
    /// What came of it.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What can come of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To `hello`: who is speaking.
    Hello {
        /// [`PROTOCOL`] of this `sandboxd`.
        protocol: u32,
        /// Unique for each start of `sandboxd`.
        instance: String,
    },
    /// To `execute`: the result, now or stored from before.
    Output {
        /// The result.
        output: Output,
    },
    /// To the rest: it is done.
    Done,
    /// The epoch is older than one seen before.
    StaleEpoch {
        /// The highest epoch seen.
        seen: i64,
    },
    /// Asked for in a way that makes no sense; nothing was done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Why a frame could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed or ended.
    #[error("the connection ended")]
    Io(#[from] io::Error),
    /// The frame is longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The frame is not JSON of the expected shape.
    #[error("a frame is not of the expected shape")]
    Shape(#[from] serde_json::Error),
}

/// The bytes of a frame, length included.
///
/// # Errors
/// [`Error::TooLong`] over [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    bytes[..4].copy_from_slice(&checked_length(length)?.to_be_bytes());
    Ok(bytes)
}

/// The body length that a frame's first four bytes announce.
///
/// # Errors
/// [`Error::TooLong`] over [`MAX_FRAME`].
pub fn body_length(head: [u8; 4]) -> Result<usize, Error> {
    let length = u32::from_be_bytes(head);
    checked_length(length as usize).map(|length| length as usize)
}

/// The message in a frame's body.
///
/// # Errors
/// [`Error::Shape`] when it is something else.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    Ok(serde_json::from_slice(body)?)
}

/// Reads one frame; `None` when the connection ends between frames.
///
/// # Errors
/// See [`Error`]; the connection is of no more use after one.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, Error> {
    let mut head = [0; 4];
    match from.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut head[1..])?,
    }
    let length = body_length(head)?;
    // The body grows as it arrives, so that a length alone does not claim memory.
    let mut body = Vec::new();
    if from.take(length as u64).read_to_end(&mut body)? < length {
        return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    decode(&body).map(Some)
}

/// Writes one frame.
///
/// # Errors
/// See [`Error`].
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), Error> {
    to.write_all(&encode(message)?)?;
    Ok(())
}

fn checked_length(length: usize) -> Result<u32, Error> {
    match u32::try_from(length) {
        Ok(short) if length <= MAX_FRAME => Ok(short),
        _ => Err(Error::TooLong(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_have_a_stable_shape() {
        let request = Request {
            id: 7,
            op: Op::Execute {
                call_id: "toolu_1".into(),
                epoch: 3,
                name: "bash".into(),
                input: json!({"command": "ls"}),
                timeout_ms: 150_000,
            },
        };
        let shape = json!({"id": 7, "op": "execute", "call_id": "toolu_1", "epoch": 3, "name": "bash",
            "input": {"command": "ls"}, "timeout_ms": 150_000});
        assert_eq!(serde_json::to_value(&request).unwrap(), shape);
        let bytes = encode(&request).unwrap();
        assert_eq!(read::<Request>(&mut &bytes[..]).unwrap(), Some(request));

        let reply = Reply {
            id: 7,
            answer: Answer::StaleEpoch { seen: 4 },
        };
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            json!({"id": 7, "answer": "stale_epoch", "seen": 4})
        );
    }

    #[test]
    fn sbx_5_bad_frames_are_refused() {
        #[track_caller]
        fn check(bytes: &[u8], expected: &str) {
            let error = read::<Request>(&mut &bytes[..]).unwrap_err();
            assert!(format!("{error:?}").contains(expected), "{error:?}");
        }
        assert!(
            read::<Request>(&mut &b""[..]).unwrap().is_none(),
            "an end between frames is no error"
        );
        check(&[0, 0], "UnexpectedEof");
        check(&[0, 0, 0, 9, b'{'], "UnexpectedEof");
        check(&[0xff, 0xff, 0xff, 0xff], "TooLong");
        check(&[0, 0, 0, 2, b'{', b'}'], "Shape");
        check(&[0, 0, 0, 3, b'[', 0xff, b']'], "Shape");
    }
}
