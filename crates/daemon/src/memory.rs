//! Memory of the process.

/// Gives memory that was freed back to the system, after something large is done with: reading a
/// configuration, answering for ten thousand servers. Takes well under a millisecond per MB.
#[allow(unsafe_code)]
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointers and may be called at any time; neither nix nor the
    // standard library has it.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has all threads take memory from one place, so that what one of them gives back serves the others: for
/// programs with few threads and large, short-lived data. Call before any thread is started.
#[allow(unsafe_code)]
pub fn share_between_threads() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers; a refusal leaves everything as it was. Neither nix nor the
    // standard library has it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
