//! What SQLite did to the files of one directory, in order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One file through all its life; a name that is removed and made again is another file.
pub(crate) type FileId = usize;

/// One thing that was done. A place in the journal is the number of things done before.
#[derive(Debug)]
pub(crate) enum Op {
    /// A name was made for a new, empty file.
    Create { name: String, file: FileId },
    /// A name was removed.
    Delete { name: String },
    /// Bytes were written.
    Write {
        file: FileId,
        offset: usize,
        bytes: Box<[u8]>,
    },
    /// A file was cut to a length in bytes.
    Truncate { file: FileId, length: usize },
    /// All of a file that was done before the place `covers` is on the disk now.
    Sync { file: FileId, covers: usize },
    /// The disk has failed to keep what was done to a file before the place `covers`. The system counts it as written
    /// all the same: a later sync of the file says nothing about it.
    FailedSync { file: FileId, covers: usize },
    /// All names made or removed before the place `covers` are on the disk now.
    SyncDirectory { covers: usize },
}

/// Takes the journal of one directory.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Journal>);

#[derive(Default)]
struct Journal {
    ops: Vec<Op>,
    names: HashMap<String, FileId>,
    files: usize,
    /// What fails, until it is lifted.
    fault: Option<Fault>,
    /// How many calls have failed since the fault was armed.
    struck: usize,
}

/// A way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
}

/// What the disk says when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// EIO.
    Broken,
    /// ENOSPC.
    Full,
}

/// A disk that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) failure: Failure,
    /// So many calls still succeed before one fails.
    pub(crate) after: usize,
    /// Whether all calls behind that one fail too.
    pub(crate) lasts: bool,
}

impl Fault {
    /// The next call fails, once.
    pub(crate) fn next(call: Call) -> Self {
        Self {
            call,
            failure: Failure::Broken,
            after: 0,
            lasts: false,
        }
    }
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much was done by now.
    pub(crate) fn place(&self) -> usize {
        self.lock().ops.len()
    }

    /// A file was opened, and made if nobody knew it.
    pub(crate) fn opened(&self, name: &str) -> FileId {
        let mut journal = self.lock();
        if let Some(file) = journal.names.get(name) {
            return *file;
        }
        let file = journal.files;
        journal.files += 1;
        journal.names.insert(name.to_owned(), file);
        let name = name.to_owned();
        journal.ops.push(Op::Create { name, file });
        file
    }

    /// A name was removed; nothing happens when it was not there.
    pub(crate) fn deleted(&self, name: &str) {
        let mut journal = self.lock();
        if journal.names.remove(name).is_some() {
            let name = name.to_owned();
            journal.ops.push(Op::Delete { name });
        }
    }

    /// Anything else happened.
    pub(crate) fn did(&self, op: Op) {
        self.lock().ops.push(op);
    }

    /// Lets calls fail from now on.
    pub(crate) fn arm(&self, fault: Fault) {
        let mut journal = self.lock();
        journal.fault = Some(fault);
        journal.struck = 0;
    }

    /// Lets nothing fail any more; says how many calls have failed.
    pub(crate) fn lift(&self) -> usize {
        let mut journal = self.lock();
        journal.fault = None;
        std::mem::take(&mut journal.struck)
    }

    /// How a call that begins now fails, if it does.
    pub(crate) fn strikes(&self, call: Call) -> Option<Failure> {
        let mut journal = self.lock();
        let fault = journal.fault.as_mut().filter(|fault| fault.call == call)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let (failure, lasts) = (fault.failure, fault.lasts);
        journal.struck += 1;
        if !lasts {
            journal.fault = None;
        }
        Some(failure)
    }

    /// The journal up to now; the recorder starts again.
    pub(crate) fn take(&self) -> Vec<Op> {
        std::mem::take(&mut *self.lock()).ops
    }
}
