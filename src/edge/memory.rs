//! Memory that a burst of calls left behind.

/// Hands free pages back to the system. glibc keeps what was freed below its highest live block, which after a burst is nearly all
/// of it; only `malloc_trim` gives that up. A few milliseconds: for a moment when nothing is going on.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: malloc_trim takes no pointer and only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give free pages back by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
