//! Files of a running container that are brought among the blobs as they are, one behind the other. They come over the standard
//! streams of a process that the engine starts inside; nothing is read out of them (security SBX-4, SBX-6).

use std::collections::BTreeMap;
use std::io;

use manyhands_blobs::{Stored, Writer, fresh};
use manyhands_sandboxd::exchange::{Show, Want};
use tokio::io::AsyncReadExt as _;

use super::exec::Streams;
use super::files::say;
use super::host::Host;
use super::spec::{SANDBOXD, USER};
use crate::Error;
use crate::provider::link;
use crate::provider::namespace::joined::{KIND, in_tree, sort};
use crate::provider::{Join, Joined};

impl Host {
    /// Joins these files of a running container.
    pub(super) async fn join_from(
        &self,
        session: &str,
        wanted: &Join<'_>,
    ) -> Result<Option<Joined>, Error> {
        let fail = |error: io::Error| Error::io(format!("keep files of {session}"), error);
        if in_tree(wanted.folder).is_none() {
            return Ok(None);
        }
        let blobs = self.blobs()?;
        let name = self.name(session).await?;
        let words = [SANDBOXD, "show", wanted.folder];
        let streams = self.engine.run(&name, USER, &words).await;
        let mut streams = streams.map_err(|why| fail(io::Error::other(why)))?;
        let found = found(&mut streams, wanted).await.map_err(fail)?;
        let sizes = found.values().map(|(_, size)| *size);
        let all = sizes.fold(0, u64::saturating_add);
        if found.len() < wanted.files.len() || !(wanted.least..=wanted.cap).contains(&all) {
            return Ok(None);
        }
        let blob = fresh(KIND);
        let mut writer = match blobs.create(&blob, wanted.cap) {
            Ok(writer) => writer,
            Err(error) => return sort(session, error),
        };
        for file in wanted.files {
            let (stamp, _) = &found[*file];
            match append(&mut streams, &mut writer, file, stamp).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(None),
                Ok(Err(error)) => return sort(session, error),
                Err(error) => return Err(fail(error)),
            }
        }
        let head = wanted.files.first().map_or(0, |first| found[*first].1);
        match writer.finish().await {
            Ok(Stored { size, sha256 }) => Ok(Some(Joined {
                blob,
                size,
                head,
                sha256,
            })),
            Err(error) => sort(session, error),
        }
    }
}

/// The stamps and sizes of those that a container says it has.
async fn found<'j>(
    streams: &mut Streams,
    wanted: &Join<'j>,
) -> io::Result<BTreeMap<&'j str, (String, u64)>> {
    let mut found = BTreeMap::new();
    loop {
        let said = link::frame(&mut streams.output).await;
        match said.map_err(io::Error::other)? {
            Show::Found { path, stamp, size } => {
                let mut names = wanted.files.iter();
                if let Some(name) = names.find(|name| name.as_bytes() == path) {
                    found.insert(*name, (stamp, size));
                }
            }
            Show::All { .. } => return Ok(found),
            other => return Err(io::Error::other(format!("it said {other:?} unasked"))),
        }
    }
}

/// Writes one file on; `false` when it went or was written meanwhile.
async fn append(
    streams: &mut Streams,
    writer: &mut Writer,
    file: &str,
    stamp: &str,
) -> io::Result<Result<bool, manyhands_blobs::Error>> {
    let path = file.as_bytes().to_vec();
    say(&mut streams.input, &Want { path }).await?;
    let size = match link::frame(&mut streams.output).await {
        Ok(Show::Bytes { size }) => size,
        Ok(Show::Gone) => return Ok(Ok(false)),
        Ok(other) => return Err(io::Error::other(format!("it answered {other:?}"))),
        Err(error) => return Err(io::Error::other(error)),
    };
    let mut bytes = (&mut streams.output).take(size);
    let mut piece = vec![0; 256 << 10];
    while bytes.limit() > 0 {
        let read = bytes.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = writer.write(&piece[..read]).await {
            return Ok(Err(error));
        }
    }
    match link::frame(&mut streams.output).await {
        Ok(Show::After { stamp: after }) => Ok(Ok(after == stamp)),
        Ok(other) => Err(io::Error::other(format!("it answered {other:?}"))),
        Err(error) => Err(io::Error::other(error)),
    }
}
