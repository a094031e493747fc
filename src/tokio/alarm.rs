//! A timer that is set again and again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use ::tokio::time::{Sleep, sleep_until};

use super::runtime;

/// One timer of the runtime's for everything that a connection waits for: it is made when it is needed, and set again
/// when something earlier comes up or it has fired too early.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Alarm {
    /// Fails in words where the runtime has no timers.
    pub(super) fn check() -> io::Result<()> {
        runtime::with_driver("enable_time", || {
            drop(sleep_until(Instant::now().into()));
            Ok(())
        })
    }

    /// Sets the time at which to fire, or takes it back.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        if self.at == at {
            return;
        }
        self.at = at;
        match (at, &mut self.sleep) {
            (None, _) => self.sleep = None,
            (Some(at), Some(sleep)) => sleep.as_mut().reset(at.into()),
            // Whoever sets it has checked that there are timers.
            (Some(at), none) => *none = Some(Box::pin(sleep_until(at.into()))),
        }
    }

    /// Whether it is set, and has not fired.
    pub(super) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Ready when the time has come; then it is no longer set.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else {
            return Poll::Pending;
        };
        if self.at.is_none() || sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.at = None;
        Poll::Ready(())
    }
}
