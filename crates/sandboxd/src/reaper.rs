//! Waits for every child, its own and the orphans it inherits, and tells whoever started one that it ended.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// How long a start that finds no room for one more process waits for those that end: a call that was killed leaves them to us,
/// dying (security TOOL-1: the next call works).
const ROOM: Duration = Duration::from_secs(2);

/// Called once, with the status the process ended with; `None` if it cannot be known.
type OnExit = Box<dyn FnOnce(Option<WaitStatus>) + Send>;

/// The one place of the process that starts and waits for children.
#[derive(Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    children: Mutex<HashMap<Pid, OnExit>>,
    started: Condvar,
    ended: Condvar,
}

impl Reaper {
    /// Starts waiting, in a thread that lives as long as the process.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let reaper = Self {
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || shared.run())?;
        Ok(reaper)
    }

    /// Starts a child. Where there is no room for it, what ends meanwhile makes some.
    ///
    /// # Errors
    /// As of [`Command::spawn`]; [`io::ErrorKind::WouldBlock`] when there was no room for two seconds.
    pub fn spawn(
        &self,
        command: &mut Command,
        on_exit: impl FnOnce(Option<WaitStatus>) + Send + 'static,
    ) -> io::Result<Pid> {
        // The lock is held over the start, so that a child that ends at once is known when it is waited for.
        let mut children = self.shared.lock();
        let begun = Instant::now();
        let child = loop {
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(left) = ROOM.checked_sub(begun.elapsed()) else {
                        return Err(error);
                    };
                    let waited = self.shared.ended.wait_timeout(children, left);
                    children = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                started => break started?,
            }
        };
        let pid = Pid::from_child(&child);
        children.insert(pid, Box::new(on_exit));
        self.shared.started.notify_one();
        Ok(pid)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, OnExit>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    let on_exit = self.lock().remove(&pid);
                    self.ended.notify_all();
                    if let Some(on_exit) = on_exit {
                        on_exit(Some(status));
                    }
                }
                Ok(None) | Err(Errno::INTR) => {}
                // No children: without one of its own there can be no orphans either.
                Err(_) => {
                    let children = self.lock();
                    drop(
                        self.started
                            .wait_while(children, |children| children.is_empty()),
                    );
                }
            }
        }
    }
}
