//! The one way of running suites with all pairs of a kind of client and a kind of server.

/// Runs suites, each of which is a file beside the caller's, with each pair in the table:
///
/// ```text
/// util::pairs! {
///     threads: calls limits;
///     tasks_call_threads: calls;
/// }
/// ```
///
/// A pair is a module of its name. In it the suites stand beside `driver`, which has the client and the server of that
/// pair with the same face as all the others: from the modules `threads_call`, `tasks_serve` and so on of the caller's
/// `drivers`, or, if it has nothing to add, of [`drivers`](crate::drivers). Pairs with one end on tokio are there with
/// feature `tokio`.
#[macro_export]
macro_rules! pairs {
    ($($pair:ident: $($suite:ident)+;)+) => {
        $($crate::pairs! { @pair $pair: $($suite)+ })+
    };
    (@pair threads: $($suite:ident)+) => {
        $crate::pairs! { @module threads threads_call threads_serve: $($suite)+ }
    };
    (@pair bare_threads: $($suite:ident)+) => {
        $crate::pairs! { @module bare_threads bare_threads_call bare_threads_serve: $($suite)+ }
    };
    (@pair tasks: $($suite:ident)+) => {
        #[cfg(feature = "tokio")]
        $crate::pairs! { @module tasks tasks_call tasks_serve: $($suite)+ }
    };
    (@pair bare_tasks: $($suite:ident)+) => {
        #[cfg(feature = "tokio")]
        $crate::pairs! { @module bare_tasks bare_tasks_call bare_tasks_serve: $($suite)+ }
    };
    (@pair threads_call_tasks: $($suite:ident)+) => {
        #[cfg(feature = "tokio")]
        $crate::pairs! { @module threads_call_tasks threads_call tasks_serve: $($suite)+ }
    };
    (@pair threads_call_blocking_tasks: $($suite:ident)+) => {
        #[cfg(feature = "tokio")]
        $crate::pairs! { @module threads_call_blocking_tasks threads_call blocking_tasks_serve: $($suite)+ }
    };
    (@pair tasks_call_threads: $($suite:ident)+) => {
        #[cfg(feature = "tokio")]
        $crate::pairs! { @module tasks_call_threads tasks_call threads_serve: $($suite)+ }
    };
    (@pair tasks_call_blocking_tasks: $($suite:ident)+) => {
        #[cfg(feature = "tokio")]
        $crate::pairs! { @module tasks_call_blocking_tasks tasks_call blocking_tasks_serve: $($suite)+ }
    };
    (@module $pair:ident $client:ident $server:ident: $($suite:ident)+) => {
        #[path = "."]
        mod $pair {
            #[allow(unused_imports, reason = "each suite uses its own part of a driver")]
            mod driver {
                pub(super) use super::super::drivers::$client::*;
                pub(super) use super::super::drivers::$server::*;
            }
            $(mod $suite;)+
        }
    };
}
