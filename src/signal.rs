//! What wakes those who wait for a state that is behind a lock: threads, and with feature `tokio` tasks as well.

cfg_if::cfg_if! {
    if #[cfg(feature = "tokio")] {
        mod tasks;
        pub(crate) use tasks::Signal;
    } else {
        pub(crate) use parking_lot::Condvar as Signal;
    }
}
