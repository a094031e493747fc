//! Who may run beside whom: memory, threads and processors are the whole process's.

#[cfg(unix)]
use std::sync::RwLockReadGuard;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

static RUNNING: RwLock<()> = RwLock::new(());

/// For a test that counts what is the process's: no other runs until this is dropped.
pub(crate) type Alone = RwLockWriteGuard<'static, ()>;

pub(crate) fn alone() -> Alone {
    RUNNING.write().unwrap_or_else(PoisonError::into_inner)
}

/// For any other test: it runs beside its like.
#[cfg(unix)]
pub(crate) type Together = RwLockReadGuard<'static, ()>;

#[cfg(unix)]
pub(crate) fn together() -> Together {
    RUNNING.read().unwrap_or_else(PoisonError::into_inner)
}
