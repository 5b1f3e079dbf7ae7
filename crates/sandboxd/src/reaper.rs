//! Waits for every child, its own and the orphans it inherits, and tells whoever started one that it ended.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

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

    /// Starts a child.
    ///
    /// # Errors
    /// As of [`Command::spawn`].
    pub fn spawn(
        &self,
        command: &mut Command,
        on_exit: impl FnOnce(Option<WaitStatus>) + Send + 'static,
    ) -> io::Result<Pid> {
        // The lock is held over the start, so that a child that ends at once is known when it is waited for.
        let mut children = self.shared.lock();
        let child = command.spawn()?;
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
                    if let Some(on_exit) = self.lock().remove(&pid) {
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
