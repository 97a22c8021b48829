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
