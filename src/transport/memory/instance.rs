//! One of the connections that a listener may have open at once.

use std::sync::Arc;

/// What counts connections.
pub(super) trait Place: Send + Sync {
    /// There is one less.
    fn free(&self);
}

/// A connection that is counted until this is dropped.
pub(super) struct Instance(Arc<dyn Place>);

impl Instance {
    pub(super) fn of(place: Arc<dyn Place>) -> Instance {
        Instance(place)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.free();
    }
}
