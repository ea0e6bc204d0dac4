//! Memory that a compaction freed goes back to the system.
//!
//! glibc keeps freed memory for itself as long as anything above it on the heap lives, which after a burst of objects
//! means nearly all of it. It gives pages in the middle back when asked, but the upper end of a thread's heap only
//! when something next to it is freed: so the last of what is to be freed is freed after asking. Other C libraries
//! are left to their own ways, and so is another allocator that a program has chosen: there asking finds nothing.

/// Asks the allocator to return free pages, and frees `last` in the right moment. Takes milliseconds, during which
/// other threads may wait to allocate.
pub(super) fn give_back<T>(last: T) {
    trim();
    drop(last);
    trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C function has no safe wrapper")]
fn trim() {
    // SAFETY: malloc_trim takes no pointers, may be called from any thread at any time, and moves nothing that is
    // allocated; glibc documents it as MT-Safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
