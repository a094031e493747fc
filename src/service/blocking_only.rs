//! What [`service!`](crate::service!) makes for async programs where there are none.

/// Nothing, where nothing is asked for: what a `cfg` leaves out is not.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_items {
    ($with:tt) => {};
    (
        $with:tt
        $(#[$attribute:meta])*
        $visibility:vis async $kind:ident $name:ident ;
        $($more:tt)*
    ) => {
        $(#[$attribute])*
        const _: () = ::core::compile_error!(
            "an `async trait` and an `async struct` of a service need feature `tokio` of pipetalk"
        );
        $crate::__service_async_items! { $with $($more)* }
    };
    ($with:tt $($asked:tt)*) => {
        ::core::compile_error!(
            "an `async trait` and an `async struct` of a service need feature `tokio` of pipetalk"
        );
    };
}

/// Nothing, as has been said.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_impls {
    ($($anything:tt)*) => {};
}
