//! How soon the kernel lets a thread run that has been woken.
//!
//! Linux gives a thread that runs its slice before another one that has the same right is let in: some 3 ms, which a message waits on a
//! machine whose cores are all busy with something else of the server (a burst of log-ins, a digest of a password). Since Linux 6.12 a
//! thread may ask for a shorter slice, and is let in at once by those whose slices are longer, for no more of the machine in all
//! (`sched_setattr(2)`; EEVDF's `PREEMPT_SHORT`). No privilege is needed.

use std::io;
use std::time::Duration;

/// The shortest slice that Linux gives.
pub const SHORTEST: Duration = Duration::from_micros(100);

/// Asks for slices of this length for the calling thread, whose priority stays as it is; threads that it starts ask for the same. Linux takes 0.1 to 100 ms and makes
/// anything else one of these.
///
/// # Errors
///
/// The system's: a sandbox that forbids the call, or `Unsupported` where the system is not Linux. An older Linux says yes, and does nothing.
pub fn ask_for_slice(slice: Duration) -> io::Result<()> {
    ask(u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(target_os = "linux")]
fn ask(slice_ns: u64) -> io::Result<()> {
    let attributes = libc::sched_attr { sched_runtime: slice_ns, ..noted()? };
    // SAFETY: it reads `size` bytes of `attributes`, which are there, and keeps no pointer to them; thread 0 is the calling one.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel has noted for the calling thread: its policy, its nice value, and its slice in ns, which is 0 where the kernel is too old to note any.
#[cfg(target_os = "linux")]
fn noted() -> io::Result<libc::sched_attr> {
    // SAFETY: all zeros are a value of this struct.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: it writes at most `size` bytes of `attributes`, and keeps no pointer to them; thread 0 is the calling one.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } {
        0 => Ok(attributes),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn ask(_: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn slice() -> u64 {
        noted().expect("no sandbox forbids it here").sched_runtime
    }

    #[test]
    fn a_slice_is_noted_for_the_calling_thread_alone() {
        let others = slice();
        let of_thread = std::thread::spawn(|| ask_for_slice(Duration::from_micros(200)).map(|()| slice()));
        let of_thread = of_thread.join().expect("it does not panic").expect("no sandbox forbids it here");
        assert!(of_thread == 200_000 || of_thread == 0, "{of_thread}");
        assert_eq!(slice(), others);
    }

    #[test]
    fn the_priority_stays() {
        let of_thread = std::thread::spawn(|| {
            let nicer = libc::sched_attr { sched_nice: 7, ..noted()? };
            // SAFETY: as in `ask`.
            assert_eq!(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const nicer, 0) }, 0);
            ask_for_slice(SHORTEST)?;
            noted().map(|attributes| attributes.sched_nice)
        });
        assert_eq!(of_thread.join().expect("it does not panic").expect("no sandbox forbids it here"), 7);
    }
}
