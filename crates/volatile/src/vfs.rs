//! The tables of functions that SQLite calls.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use crate::contents::{Below, Contents};

/// Files by their path: connections of one process share what they have not synced.
static FILES: LazyLock<Mutex<HashMap<CString, Arc<Mutex<Contents>>>>> = LazyLock::new(Mutex::default);

/// What SQLite keeps for an open file; the real file system's own follows behind it, in the same memory.
#[repr(C)]
struct File {
    /// First, as SQLite asks.
    base: sqlite3_file,
    contents: Arc<Mutex<Contents>>,
}

/// The real file of a [`File`].
struct Real(*mut sqlite3_file);

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // 2: shared memory, but no memory-mapped reads, which would miss what is not synced.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Calls a method of the real file.
macro_rules! real {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let file: *mut sqlite3_file = $file;
        // SAFETY: `file` is a real file that its file system has opened: it has set its table of methods, which is static and whole for the
        // version that SQLite itself would rely on; the arguments are those that SQLite gave for just this method.
        unsafe {
            match (*(*file).pMethods).$method {
                Some(method) => method(file $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

pub(crate) fn register() -> c_int {
    // SAFETY: initializes SQLite, if nobody has; a null name asks for the default file system, which lives as long as the process.
    let below = unsafe {
        if ffi::sqlite3_initialize() != ffi::SQLITE_OK {
            return ffi::SQLITE_ERROR;
        }
        ffi::sqlite3_vfs_find(ptr::null())
    };
    if below.is_null() {
        return ffi::SQLITE_ERROR;
    }
    let Ok(name) = CString::new(crate::NAME) else { return ffi::SQLITE_ERROR };
    // SAFETY: not null, and never changed once it is registered. What is not replaced below goes to the real one's functions: those look at
    // fields of their own table only (`pAppData`), which the copy has as well.
    let mut vfs = unsafe { ptr::read(below) };
    vfs.iVersion = vfs.iVersion.min(2);
    vfs.szOsFile += size_of::<File>() as c_int;
    vfs.pNext = ptr::null_mut();
    vfs.zName = name.into_raw();
    vfs.xOpen = Some(open);
    vfs.xDelete = Some(delete);
    vfs.xAccess = Some(access);
    BELOW.get_or_init(|| BelowVfs(below));
    // SAFETY: the table and its name are leaked: they live as long as the process.
    unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0) }
}

/// The default file system.
struct BelowVfs(*mut sqlite3_vfs);

static BELOW: std::sync::OnceLock<BelowVfs> = std::sync::OnceLock::new();

// SAFETY: SQLite itself calls this table from any thread.
unsafe impl Send for BelowVfs {}
// SAFETY: as above; nobody writes to it.
unsafe impl Sync for BelowVfs {}

fn below() -> *mut sqlite3_vfs {
    BELOW.get().map_or(ptr::null_mut(), |below| below.0)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes, aligned to 8: room for a `File` and the real file behind it.
    let real = unsafe { file.cast::<File>().add(1).cast::<sqlite3_file>() };
    let kept = flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL);
    let place = if kept != 0 && !name.is_null() { real } else { file };
    // SAFETY: the real file system's own function; `name` is a name as SQLite makes them for it. A temporary file takes the whole memory and is the real
    // file system's alone.
    let opened = unsafe {
        match (*below()).xOpen {
            Some(open) => open(below(), name, place, flags, out),
            None => ffi::SQLITE_CANTOPEN,
        }
    };
    if place == file {
        return opened;
    }
    if opened != ffi::SQLITE_OK {
        // SAFETY: no methods: SQLite does not close what was not opened, and the real file system has closed what it had begun.
        unsafe { (*file).pMethods = ptr::null() };
        return opened;
    }
    // SAFETY: a C string, as checked above for null.
    let path = unsafe { CStr::from_ptr(name) }.to_owned();
    let contents = Arc::clone(held(&FILES).entry(path).or_default());
    // SAFETY: the memory is SQLite's to give, and not initialized.
    unsafe { file.cast::<File>().write(File { base: sqlite3_file { pMethods: &METHODS }, contents }) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite gives a C string.
    let path = unsafe { CStr::from_ptr(name) };
    held(&FILES).remove(path);
    // SAFETY: the real file system's own function, with SQLite's arguments.
    unsafe { (*below()).xDelete.map_or(ffi::SQLITE_IOERR, |delete| delete(below(), name, sync)) }
}

unsafe extern "C" fn access(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the real file system's own function, with SQLite's arguments.
    let result =
        unsafe { (*below()).xAccess.map_or(ffi::SQLITE_IOERR, |access| access(below(), name, flags, out)) };
    // SAFETY: SQLite gives a C string.
    let path = unsafe { CStr::from_ptr(name) };
    // A log that is empty below and has unsynced frames is there: SQLite's own function says no to an empty file.
    if result == ffi::SQLITE_OK
        && flags == ffi::SQLITE_ACCESS_EXISTS
        && held(&FILES).get(path).is_some_and(|contents| held(contents).is_written())
    {
        // SAFETY: SQLite's own place for the answer.
        unsafe { *out = 1 };
    }
    result
}

/// The parts of an open file.
///
/// # Safety
///
/// `file` was opened by [`open`] as a [`File`], and is not closed.
unsafe fn parts<'a>(file: *mut sqlite3_file) -> (&'a Mutex<Contents>, Real) {
    let file = file.cast::<File>();
    // SAFETY: by this function's own condition; SQLite calls no two methods of one file at the same time but shared ones, and closes it last.
    unsafe { (&(*file).contents, Real(file.add(1).cast())) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes what `open` has opened, once.
    let (_, Real(real)) = unsafe { parts(file) };
    let closed = real!(real, xClose);
    // SAFETY: written by `open`; from now on SQLite takes the memory for its own.
    unsafe {
        ptr::drop_in_place(&raw mut (*file.cast::<File>()).contents);
        (*file).pMethods = ptr::null();
    }
    closed
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: an open file.
    let (contents, mut real) = unsafe { parts(file) };
    // SAFETY: SQLite gives `len` bytes; it may not have written to them, but bytes have no values that they may not have.
    let into = unsafe {
        ptr::write_bytes(into.cast::<u8>(), 0, len as usize);
        std::slice::from_raw_parts_mut(into.cast::<u8>(), len as usize)
    };
    match held(contents).read(&mut real, into, offset as u64) {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(error) => error,
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    if crate::is_full() {
        return ffi::SQLITE_FULL;
    }
    // SAFETY: an open file.
    let (contents, mut real) = unsafe { parts(file) };
    // SAFETY: SQLite gives `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize) };
    held(contents).write(&mut real, bytes, offset as u64).map_or_else(|error| error, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    let (contents, mut real) = unsafe { parts(file) };
    held(contents).truncate(&mut real, size as u64).map_or_else(|error| error, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    if crate::syncs_fail() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    // SAFETY: an open file.
    let (contents, mut real) = unsafe { parts(file) };
    // Held until it is on disk: what is written meanwhile belongs to the next sync.
    let mut contents = held(contents);
    match contents.pour(&mut real) {
        Ok(()) => real!(real.0, xSync, flags),
        Err(error) => error,
    }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    let (contents, mut real) = unsafe { parts(file) };
    match held(contents).size(&mut real) {
        Ok(size) => {
            // SAFETY: SQLite's own place for the answer.
            unsafe { *out = size as sqlite3_int64 };
            ffi::SQLITE_OK
        }
        Err(error) => error,
    }
}

/// Methods that are the real file's.
macro_rules! passed_on {
    ($($name:ident => $method:ident($($argument:ident: $type:ty),*);)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $type),*) -> c_int {
            // SAFETY: an open file.
            let (_, Real(real)) = unsafe { parts(file) };
            real!(real, $method $(, $argument)*)
        }
    )*};
}

passed_on! {
    lock => xLock(level: c_int);
    unlock => xUnlock(level: c_int);
    check_reserved_lock => xCheckReservedLock(out: *mut c_int);
    sector_size => xSectorSize();
    device_characteristics => xDeviceCharacteristics();
    shm_map => xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void);
    shm_lock => xShmLock(offset: c_int, count: c_int, flags: c_int);
    shm_unmap => xShmUnmap(delete: c_int);
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    // It would make the real file larger than its writer has.
    if op == ffi::SQLITE_FCNTL_SIZE_HINT {
        return ffi::SQLITE_NOTFOUND;
    }
    // SAFETY: an open file.
    let (_, Real(real)) = unsafe { parts(file) };
    real!(real, xFileControl, op, argument)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: an open file, whose real one has a whole table of methods.
    unsafe {
        let (_, Real(real)) = parts(file);
        if let Some(barrier) = (*(*real).pMethods).xShmBarrier {
            barrier(real);
        }
    }
}

impl Below for Real {
    type Error = c_int;

    fn read(&mut self, into: &mut [u8], offset: u64) -> Result<(), c_int> {
        match real!(self.0, xRead, into.as_mut_ptr().cast(), into.len() as c_int, offset as sqlite3_int64) {
            ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(()),
            error => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), c_int> {
        result(real!(self.0, xWrite, bytes.as_ptr().cast(), bytes.len() as c_int, offset as sqlite3_int64))
    }

    fn truncate(&mut self, size: u64) -> Result<(), c_int> {
        result(real!(self.0, xTruncate, size as sqlite3_int64))
    }

    fn size(&mut self) -> Result<u64, c_int> {
        let mut size = 0;
        result(real!(self.0, xFileSize, &mut size)).map(|()| size as u64)
    }
}

const fn result(code: c_int) -> Result<(), c_int> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
}
