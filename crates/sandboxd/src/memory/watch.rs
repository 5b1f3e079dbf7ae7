//! Hearing of changes in the folders of memory stores, without polling: inotify on every folder in them. What is heard only says
//! that a look is due; one that is missed is found by the next look anyhow.

use std::fs::File;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::{Answer, Ask, Folders, directory, parent};
use crate::frame;

/// The most folders that are watched.
const MOST: usize = 4096;

/// A descriptor that can be read when something has changed.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// When the system has no more of them.
    pub fn new() -> io::Result<Self> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        Ok(Self(inotify::init(flags)?))
    }

    /// Forgets what has been heard; whether there was anything.
    pub fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut heard = false;
        while matches!(rustix::io::read(&self.0, &mut buffer), Ok((read, _)) if !read.is_empty()) {
            heard = true;
        }
        heard
    }

    /// Watches a folder. The same folder again is fine.
    fn add(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.0, path, flags) {
            // It went, or became something else.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folders {
    /// Watches these folders of a store, as a look has found them. Beyond what can be watched nothing is heard.
    ///
    /// # Errors
    /// When the system has no more room for it.
    pub fn watch(&self, watch: &Watch, name: &str, folders: &[Vec<u8>]) -> io::Result<()> {
        let top = directory(&self.above, name.as_bytes())?;
        for path in folders.iter().take(MOST) {
            // Reached by no link, and then by its handle.
            let below;
            let handle = if path.is_empty() {
                &top
            } else {
                let Ok((above, last)) = parent(&top, path) else {
                    continue;
                };
                let Ok(found) = directory(above, last) else {
                    continue;
                };
                below = found;
                &below
            };
            let shown = format!("/proc/self/fd/{}", handle.as_raw_fd());
            watch.add(&PathBuf::from(shown))?;
        }
        Ok(())
    }
}

/// Answers what is asked on `input`, as [frames](crate::frame), until it ends, and says [`Answer::Stirred`] when something has
/// changed in a folder that tools write and that was looked at.
///
/// # Errors
/// When nobody takes the answers, or something is asked that has no meaning.
pub fn serve(folders: &Folders, input: impl AsFd, output: impl AsFd) -> io::Result<()> {
    // Not buffered: what was read ahead would not wake us.
    let mut input = File::from(input.as_fd().try_clone_to_owned()?);
    let mut output = File::from(output.as_fd().try_clone_to_owned()?);
    let watch = Watch::new()?;
    let mut stirred = false;
    loop {
        let (asked, heard) = {
            let mut polled = [
                PollFd::new(&input, PollFlags::IN),
                PollFd::new(&watch, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [input, watch] = polled.map(|it| !it.revents().is_empty());
            (input, watch)
        };
        if heard && watch.drain() && !stirred {
            stirred = true;
            say(&mut output, &Answer::Stirred)?;
        }
        if !asked {
            continue;
        }
        let Some(ask) = frame::read::<Ask>(&mut input).map_err(io::Error::other)? else {
            return Ok(());
        };
        if matches!(ask, Ask::Look { first: true, .. }) {
            // What changes from here on is heard again.
            watch.drain();
            stirred = false;
        }
        let answer = folders.answer(&ask);
        if let (
            Ask::Look {
                folder,
                writable: true,
                ..
            },
            Answer::Seen(seen),
        ) = (&ask, &answer)
            && let Err(error) = folders.watch(&watch, folder, &seen.folders)
        {
            eprintln!("manyhands-sandboxd: changes of memories are not heard: {error}");
        }
        say(&mut output, &answer)?;
    }
}

fn say(output: &mut File, answer: &Answer) -> io::Result<()> {
    frame::write(output, answer).map_err(io::Error::other)?;
    output.flush()
}
