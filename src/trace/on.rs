//! Spans of the `tracing` crate: their names and fields are told in the documentation of the crate.

use std::thread;
use std::time::Instant;

use tracing::field::Empty;

use crate::proto::call_error::CallError;
use crate::proto::wire::{Code, control};

/// What one call is to one of its sides.
pub(crate) struct Span {
    span: tracing::Span,
    /// Nobody looks at the clock for a span that nobody collects.
    started: Option<Instant>,
}

impl Span {
    /// A call, for the client.
    pub(crate) fn of_call(service: &str, methods: &[&'static str], method: u32) -> Span {
        let span = tracing::info_span!(
            target: "pipetalk",
            "call",
            service,
            method = Empty,
            peer = Empty,
            outcome = Empty,
            duration_us = Empty,
        );
        Span::new(span, methods, method)
    }

    /// A request, for the server.
    pub(crate) fn of_request(service: &str, methods: &[&'static str], method: u32) -> Span {
        let span = tracing::info_span!(
            target: "pipetalk",
            "serve",
            service,
            method = Empty,
            peer = Empty,
            outcome = Empty,
            duration_us = Empty,
        );
        Span::new(span, methods, method)
    }

    fn new(span: tracing::Span, methods: &[&'static str], method: u32) -> Span {
        let started = (!span.is_disabled()).then(Instant::now);
        if started.is_some() {
            match method_name(methods, method) {
                Some(name) => span.record("method", name),
                None => span.record("method", method),
            };
        }
        Span { span, started }
    }

    /// The process at the other end, which is asked for only if somebody collects it.
    pub(crate) fn peer(&self, pid: impl FnOnce() -> Option<u32>) {
        if self.started.is_some() {
            if let Some(pid) = pid() {
                self.span.record("peer", pid);
            }
        }
    }

    pub(crate) fn run<R>(&self, what: impl FnOnce() -> R) -> R {
        self.span.in_scope(what)
    }

    pub(crate) fn end_call(mut self, result: Result<(), &CallError>) {
        self.end(|| match result {
            Ok(()) => "ok",
            Err(error) => of_error(error),
        });
    }

    /// `None`: the client had gone before it was answered.
    pub(crate) fn end_request(mut self, answered: Option<Option<Code>>) {
        self.end(|| match answered {
            Some(None) => "ok",
            Some(Some(code)) => of_code(code),
            None => "disconnected",
        });
    }

    fn end(&mut self, outcome: impl FnOnce() -> &'static str) {
        if let Some(started) = self.started.take() {
            let duration = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.span.record("outcome", outcome());
            self.span.record("duration_us", duration);
        }
    }
}

/// A span that nobody has ended is that of a call whose future was dropped, or of one that panicked on its way.
impl Drop for Span {
    fn drop(&mut self) {
        self.end(|| match thread::panicking() {
            true => "panicked",
            false => "cancelled",
        });
    }
}

/// The span that something else is to run in as well.
#[cfg(feature = "tokio")]
pub(crate) struct Within(tracing::Span);

#[cfg(feature = "tokio")]
impl Within {
    pub(crate) fn current() -> Within {
        Within(tracing::Span::current())
    }

    pub(crate) fn run<R>(&self, what: impl FnOnce() -> R) -> R {
        self.0.in_scope(what)
    }
}

/// The name of a method, where it has one: of those of a service, or of a control request.
fn method_name(of_service: &[&'static str], method: u32) -> Option<&'static str> {
    match method {
        control::INFO => Some("info"),
        control::DRAIN => Some("drain"),
        control::STOP => Some("stop"),
        _ => of_service.get(usize::try_from(method).ok()?).copied(),
    }
}

fn of_error(error: &CallError) -> &'static str {
    match error {
        CallError::TimedOut { .. } => "timed out",
        CallError::Cancelled => "cancelled",
        CallError::Panicked => "panicked",
        CallError::TooLarge { .. } => "too large",
        CallError::Refused(_) => "refused",
        CallError::Failed(_) => "failed",
        CallError::Incompatible(_) => "incompatible",
        CallError::Unavailable => "unavailable",
        CallError::Unreachable { .. } => "unreachable",
        CallError::Disconnected { .. } => "disconnected",
        CallError::Encode(_) => "not encoded",
        CallError::Decode(_) => "not decoded",
        CallError::Protocol(_) => "protocol error",
    }
}

fn of_code(code: Code) -> &'static str {
    match code {
        Code::Cancelled => "cancelled",
        Code::Panicked => "panicked",
        Code::TooLarge => "too large",
        Code::OverLimit => "over limit",
        Code::Incompatible => "incompatible",
        Code::Unavailable => "unavailable",
        Code::UnknownMethod => "unknown method",
        Code::Malformed => "malformed",
        Code::Denied => "denied",
        Code::Failed | Code::Other(_) => "failed",
    }
}
