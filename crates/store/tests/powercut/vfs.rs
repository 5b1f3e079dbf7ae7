//! SQLite's way to the disk with a recorder beside it.
//!
//! The process's default file system of SQLite is a copy of the real one in which opening and deleting are ours. A file
//! of a watched directory gets a copy of its real methods in which reading, writing, cutting, syncing and closing are
//! ours: they call the real ones and tell the recorder, unless it says that the disk fails. All else is the real thing, called directly.
#![expect(
    unsafe_code,
    reason = "SQLite asks for its file system by function pointers"
)]

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use libsqlite3_sys::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ,
    SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_CREATE,
    SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_SUPER_JOURNAL, SQLITE_OPEN_WAL, sqlite3_file,
    sqlite3_filename, sqlite3_initialize, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs,
    sqlite3_vfs_find, sqlite3_vfs_register,
};

use crate::journal::{Call, Failure, FileId, Op, Recorder};

/// SQLite's own file system.
struct Real(*mut sqlite3_vfs);
// SAFETY: it is a static of SQLite that nobody changes once SQLite is initialised.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

/// An open file of a watched directory.
#[derive(Clone)]
struct Open {
    recorder: Arc<Recorder>,
    file: FileId,
    methods: &'static sqlite3_io_methods,
    /// Its first sync also syncs the directory, as SQLite's own does for a journal that it may have made.
    first: bool,
}

static REAL: OnceLock<Real> = OnceLock::new();
static WATCHED: LazyLock<Mutex<HashMap<PathBuf, Arc<Recorder>>>> = LazyLock::new(Mutex::default);
/// By the address of SQLite's file object, which lives from open to close.
static OPEN: LazyLock<Mutex<HashMap<usize, Open>>> = LazyLock::new(Mutex::default);
/// Our copy of each of SQLite's tables of methods, by the address of the table.
static TABLES: LazyLock<Mutex<HashMap<usize, &'static sqlite3_io_methods>>> =
    LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records what SQLite does in a directory from now on, which it has not touched yet. The path has no symbolic links.
pub(crate) fn watch(directory: &Path) -> Arc<Recorder> {
    REAL.get_or_init(install);
    let recorder = Arc::new(Recorder::default());
    lock(&WATCHED).insert(directory.to_owned(), Arc::clone(&recorder));
    recorder
}

/// Ends the recording of what is opened from now on.
pub(crate) fn forget(directory: &Path) {
    lock(&WATCHED).remove(directory);
}

fn install() -> Real {
    // SAFETY: without a name SQLite's default file system is found, a static; the copy and its name are never freed.
    unsafe {
        assert_eq!(sqlite3_initialize(), SQLITE_OK);
        let real = sqlite3_vfs_find(std::ptr::null());
        assert!(!real.is_null(), "SQLite has a file system");
        let mut ours = *real;
        ours.zName = c"recording".as_ptr();
        ours.pNext = std::ptr::null_mut();
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        let ours = Box::leak(Box::new(ours));
        assert_eq!(sqlite3_vfs_register(ours, 1), SQLITE_OK);
        Real(real)
    }
}

/// The recorder of a path's directory, and the path's last part.
fn watched(name: *const c_char) -> Option<(Arc<Recorder>, String)> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite's names end with a zero byte and live through the call.
    let name = unsafe { CStr::from_ptr(name) };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    let recorder = lock(&WATCHED).get(path.parent()?).cloned()?;
    Some((recorder, path.file_name()?.to_str()?.to_owned()))
}

fn opened(file: *mut sqlite3_file) -> Option<Open> {
    lock(&OPEN).get(&file.addr()).cloned()
}

/// Our copy of a table of methods.
fn table(real: &'static sqlite3_io_methods) -> &'static sqlite3_io_methods {
    let address = std::ptr::from_ref(real).addr();
    lock(&TABLES).entry(address).or_insert_with(|| {
        let mut ours = *real;
        ours.xRead = Some(read);
        ours.xWrite = Some(write);
        ours.xTruncate = Some(truncate);
        ours.xSync = Some(sync);
        ours.xClose = Some(close);
        Box::leak(Box::new(ours))
    })
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let Some((real, open)) = REAL.get().and_then(|real| {
        // SAFETY: a static of SQLite.
        Some((real.0, unsafe { (*real.0).xOpen }?))
    }) else {
        return SQLITE_IOERR;
    };
    let watched = watched(name);
    if let Some((recorder, _)) = &watched
        && recorder.strikes(Call::Open).is_some()
    {
        // SAFETY: the file object is SQLite's and ours alone; without methods it counts as not opened.
        unsafe { (*file).pMethods = std::ptr::null() };
        return SQLITE_CANTOPEN;
    }
    // SAFETY: SQLite's arguments are handed on as they are; our table of sizes is a copy of the real one's.
    let result = unsafe { open(real, name, file, flags, out) };
    if let (SQLITE_OK, Some((recorder, name))) = (result, watched) {
        let journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
        // SAFETY: a file that was opened has a table of methods, which is a static of SQLite.
        let methods: &'static sqlite3_io_methods = unsafe { &*(*file).pMethods };
        let known = Open {
            file: recorder.opened(&name),
            recorder,
            methods,
            first: flags & SQLITE_OPEN_CREATE != 0 && flags & journals != 0,
        };
        lock(&OPEN).insert(file.addr(), known);
        // SAFETY: the file object is SQLite's and ours alone until we return.
        unsafe { (*file).pMethods = table(methods) };
    }
    result
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let Some((real, delete)) = REAL.get().and_then(|real| {
        // SAFETY: a static of SQLite.
        Some((real.0, unsafe { (*real.0).xDelete }?))
    }) else {
        return SQLITE_IOERR;
    };
    // SAFETY: SQLite's arguments are handed on as they are.
    let result = unsafe { delete(real, name, sync) };
    if let (SQLITE_OK, Some((recorder, name))) = (result, watched(name)) {
        recorder.deleted(&name);
        if sync != 0 {
            let covers = recorder.place();
            recorder.did(Op::SyncDirectory { covers });
        }
    }
    result
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    bytes: *mut c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let Some(known) = opened(file) else {
        return SQLITE_IOERR;
    };
    let Some(read) = known.methods.xRead else {
        return SQLITE_IOERR;
    };
    if known.recorder.strikes(Call::Read).is_some() {
        return SQLITE_IOERR_READ;
    }
    // SAFETY: the real method of this file, with SQLite's arguments.
    unsafe { read(file, bytes, length, offset) }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let Some(known) = opened(file) else {
        return SQLITE_IOERR;
    };
    let (Some(write), Ok(size), Ok(at)) = (
        known.methods.xWrite,
        usize::try_from(length),
        usize::try_from(offset),
    ) else {
        return SQLITE_IOERR;
    };
    let failure = known.recorder.strikes(Call::Write);
    // A write that fails may have done its first part.
    let (size, length) = match failure {
        Some(_) => (size / 2, length / 2),
        None => (size, length),
    };
    // Told before it is done: it may reach the disk at any time from now on.
    // SAFETY: SQLite gives at least so many bytes to be written.
    let copy = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size) };
    known.recorder.did(Op::Write {
        file: known.file,
        offset: at,
        bytes: copy.into(),
    });
    // SAFETY: the real method of this file, with SQLite's arguments or fewer bytes.
    let result = unsafe { write(file, bytes, length, offset) };
    match failure {
        None => result,
        Some(Failure::Broken) => SQLITE_IOERR_WRITE,
        Some(Failure::Full) => SQLITE_FULL,
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let Some(known) = opened(file) else {
        return SQLITE_IOERR;
    };
    let (Some(truncate), Ok(length)) = (known.methods.xTruncate, usize::try_from(size)) else {
        return SQLITE_IOERR;
    };
    if known.recorder.strikes(Call::Truncate).is_some() {
        return SQLITE_IOERR_TRUNCATE;
    }
    let file_id = known.file;
    known.recorder.did(Op::Truncate {
        file: file_id,
        length,
    });
    // SAFETY: the real method of this file, with SQLite's arguments.
    unsafe { truncate(file, size) }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let Some(known) = opened(file) else {
        return SQLITE_IOERR;
    };
    let Some(sync) = known.methods.xSync else {
        return SQLITE_IOERR;
    };
    let covers = known.recorder.place();
    if known.recorder.strikes(Call::Sync).is_some() {
        let file_id = known.file;
        known.recorder.did(Op::FailedSync {
            file: file_id,
            covers,
        });
        return SQLITE_IOERR_FSYNC;
    }
    // SAFETY: the real method of this file, with SQLite's arguments.
    let result = unsafe { sync(file, flags) };
    if result == SQLITE_OK {
        let file_id = known.file;
        known.recorder.did(Op::Sync {
            file: file_id,
            covers,
        });
        if known.first {
            known.recorder.did(Op::SyncDirectory { covers });
            if let Some(known) = lock(&OPEN).get_mut(&file.addr()) {
                known.first = false;
            }
        }
    }
    result
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let known = lock(&OPEN).remove(&file.addr());
    let Some(close) = known.and_then(|known| known.methods.xClose) else {
        return SQLITE_IOERR;
    };
    // SAFETY: the real method of this file; SQLite does not use the file object after it.
    unsafe { close(file) }
}
