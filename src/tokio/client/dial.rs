//! Connecting once for all who wait for it, whoever of them is polled.

use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};

use ::tokio::sync::watch;
use ::tokio::task::AbortHandle;
use parking_lot::Mutex;

use super::link::Link;
use crate::proto::call_error::CallError;
use crate::tokio::runtime;

/// What connecting comes to.
pub(super) type Dialled = Result<Arc<Link>, CallError>;

/// The attempt to connect that is under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Dials(Mutex<Weak<Dial>>);

/// One attempt, which goes on for as long as anybody waits for it. It is a task of its own: of those who wait, any may
/// have something else to do just now.
#[derive(Debug)]
struct Dial {
    task: OnceLock<AbortHandle>,
    dialled: watch::Receiver<Option<Dialled>>,
}

impl Drop for Dial {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Dials {
    /// Waits for the attempt that is under way, or begins one.
    pub(super) async fn dial<F>(&self, connect: impl FnOnce() -> F) -> Dialled
    where
        F: Future<Output = Dialled> + Send + 'static,
    {
        runtime::check().map_err(|error| CallError::unreachable(&error))?;
        let dial = self.under_way().unwrap_or_else(|say| {
            let connecting = connect();
            let task = ::tokio::spawn(async move {
                let _ = say.1.send(Some(connecting.await));
            });
            let _ = say.0.task.set(task.abort_handle());
            say.0
        });
        let mut dialled = dial.dialled.clone();
        let dialled = dialled.wait_for(Option::is_some).await;
        // An attempt that ends without a word went down with its runtime.
        let lost = || Err(CallError::Disconnected { sent: false });
        dialled.map_or_else(|_| lost(), |dialled| dialled.clone().unwrap_or_else(lost))
    }

    /// The attempt that is under way; or a new one, with what tells its result.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    fn under_way(&self) -> Result<Arc<Dial>, (Arc<Dial>, watch::Sender<Option<Dialled>>)> {
        let mut current = self.0.lock();
        // The result of one that is over may be an old one: somebody has not come for it yet.
        let is_under_way = |dial: &Arc<Dial>| {
            dial.dialled.has_changed().is_ok() && dial.dialled.borrow().is_none()
        };
        let before = current.upgrade();
        if let Some(dial) = before.as_ref().filter(|dial| is_under_way(dial)) {
            return Ok(Arc::clone(dial));
        }
        let (say, dialled) = watch::channel(None);
        let dial = Arc::new(Dial {
            task: OnceLock::new(),
            dialled,
        });
        *current = Arc::downgrade(&dial);
        drop(current);
        // Perhaps the last of those who had waited.
        drop(before);
        Err((dial, say))
    }
}
