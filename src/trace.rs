//! A span for each call, on both sides, with feature `tracing`; without it, nothing.
//!
//! Both modules have the same: [`Span`], which is made as the call begins, told who is at the other end, and ended
//! with what became of it.

cfg_if::cfg_if! {
    if #[cfg(feature = "tracing")] {
        mod on;
        pub(crate) use on::Span;
        #[cfg(feature = "tokio")]
        pub(crate) use on::Within;
    } else {
        mod off;
        pub(crate) use off::Span;
        #[cfg(feature = "tokio")]
        pub(crate) use off::Within;
    }
}
