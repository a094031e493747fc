//! Nothing, at no cost.

use crate::proto::call_error::CallError;
use crate::proto::wire::Code;

pub(crate) struct Span;

impl Span {
    pub(crate) fn of_call(_service: &str, _methods: &[&'static str], _method: u32) -> Span {
        Span
    }

    pub(crate) fn of_request(_service: &str, _methods: &[&'static str], _method: u32) -> Span {
        Span
    }

    pub(crate) fn peer(&self, _pid: impl FnOnce() -> Option<u32>) {}

    pub(crate) fn run<R>(&self, what: impl FnOnce() -> R) -> R {
        what()
    }

    pub(crate) fn end_call(self, _result: Result<(), &CallError>) {}

    pub(crate) fn end_request(self, _answered: Option<Option<Code>>) {}
}

/// The span that something else is to run in as well.
#[cfg(feature = "tokio")]
pub(crate) struct Within;

#[cfg(feature = "tokio")]
impl Within {
    pub(crate) fn current() -> Within {
        Within
    }

    pub(crate) fn run<R>(&self, what: impl FnOnce() -> R) -> R {
        what()
    }
}
