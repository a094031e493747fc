//! System calls for each request, where there is somebody to count them.

#[cfg_attr(target_os = "linux", path = "syscalls/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "syscalls/none.rs")]
mod system;

pub(crate) use system::{count, counter};

/// For each request, in each process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syscalls {
    pub(crate) client: f64,
    pub(crate) server: f64,
}
