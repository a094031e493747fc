//! The parts of [`service!`](crate::service!): macros that each make one piece of what it makes.
//!
//! What they make has no `allow`, with which a `forbid` of the crate would collide: it is made so that the compiler has
//! nothing to say of it.
//! Most lints do not look at what a macro of another crate has written, but at names that were given by its caller; so
//! no such name is used for anything but a function, and everything that has one is used.

/// The codec that was found, or the default.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_codec_type {
    ([]) => {
        $crate::DefaultCodec
    };
    ([$codec:ty]) => {
        $codec
    };
}

/// An item with its attributes, without those that are ours: `[done] [[attribute] ...] item`. The item may begin with
/// `@served`: then it is a method that servers implement and that the macro calls, and is deprecated for clients alone.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_item {
    ([$($done:tt)*] [] @served $($item:tt)*) => { $($done)* $($item)* };
    ([$($done:tt)*] [] $($item:tt)*) => { $($done)* $($item)* };
    ([$($done:tt)*] [[idempotent] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[name = $($value:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[version = $($value:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[codec = $($value:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[deprecated $($value:tt)*] $($more:tt)*] @served $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] @served $($item)* }
    };
    // Long comments in larger steps, because the depth of recursion is limited.
    (
        [$($done:tt)*]
        [
            [doc $($a:tt)*] [doc $($b:tt)*] [doc $($c:tt)*] [doc $($d:tt)*]
            [doc $($e:tt)*] [doc $($f:tt)*] [doc $($g:tt)*] [doc $($h:tt)*]
            $($more:tt)*
        ]
        $($item:tt)*
    ) => {
        $crate::__service_item! {
            [
                $($done)*
                #[doc $($a)*] #[doc $($b)*] #[doc $($c)*] #[doc $($d)*]
                #[doc $($e)*] #[doc $($f)*] #[doc $($g)*] #[doc $($h)*]
            ]
            [$($more)*] $($item)*
        }
    };
    ([$($done:tt)*] [[$($attribute:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)* #[$($attribute)*]] [$($more)*] $($item)* }
    };
}

/// A method with its attributes: `(argument ...) [[attribute] ...] method`. Clippy counts what the macro adds to the
/// arguments; but only for those methods that could have too many is it told not to, as a crate may forbid that.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_method {
    (
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $($more:ident)*)
        $attributes:tt $($method:tt)*
    ) => {
        $crate::__service_item! {
            [#[allow(clippy::too_many_arguments)]] $attributes $($method)*
        }
    };
    ($arguments:tt $attributes:tt $($method:tt)*) => {
        $crate::__service_item! { [] $attributes $($method)* }
    };
}

/// An item that is there only where another is: of the attributes of that one, it gets each `cfg`.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_where {
    ([$($done:tt)*] [] $($item:tt)*) => { $($done)* $($item)* };
    ([$($done:tt)*] [[cfg $($cfg:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_where! { [$($done)* #[cfg $($cfg)*]] [$($more)*] $($item)* }
    };
    (
        [$($done:tt)*]
        [
            [doc $($a:tt)*] [doc $($b:tt)*] [doc $($c:tt)*] [doc $($d:tt)*]
            [doc $($e:tt)*] [doc $($f:tt)*] [doc $($g:tt)*] [doc $($h:tt)*]
            $($more:tt)*
        ]
        $($item:tt)*
    ) => {
        $crate::__service_where! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[$($other:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_where! { [$($done)*] [$($more)*] $($item)* }
    };
}

/// Uses a method of a client that nobody may ever call, unless it is deprecated, and not to be used.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_used {
    ($client:ident $attributes:tt fn $method:ident) => {
        $crate::__service_unless_of_client! {
            $method { $crate::__service_used! { @ $attributes <$client>::$method } } {}
        }
    };
    ($client:ident $attributes:tt notify $method:ident) => {
        $crate::__service_used! { $client $attributes fn $method }
    };
    ($client:ident $attributes:tt stream $method:ident) => {
        $crate::__service_used! { $client $attributes fn $method }
    };
    (@ [[deprecated $($value:tt)*] $($more:tt)*] $method:expr) => {};
    (
        @ [
            [doc $($a:tt)*] [doc $($b:tt)*] [doc $($c:tt)*] [doc $($d:tt)*]
            [doc $($e:tt)*] [doc $($f:tt)*] [doc $($g:tt)*] [doc $($h:tt)*]
            $($more:tt)*
        ]
        $method:expr
    ) => {
        $crate::__service_used! { @ [$($more)*] $method }
    };
    (@ [[$($other:tt)*] $($more:tt)*] $method:expr) => {
        $crate::__service_used! { @ [$($more)*] $method }
    };
    (@ [] $method:expr) => {
        const _: () = {
            let _ = $method;
        };
    };
    ($($mistake:tt)*) => {};
}

/// What one of our own attributes says, if this is it.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_own {
    (name [name = $value:expr]) => {
        ::core::option::Option::Some($value)
    };
    (version [version = $value:expr]) => {
        ::core::option::Option::Some($value)
    };
    ($which:ident [$($attribute:tt)*]) => {
        ::core::option::Option::None
    };
}

/// Whether a method is marked as idempotent.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_idempotent {
    ([idempotent]) => {
        true
    };
    ([$($attribute:tt)*]) => {
        false
    };
}

/// The part of a method in the fingerprint.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_signature {
    ($kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]) => {
        ::core::concat!(
            ::core::stringify!($kind), " ", ::core::stringify!($method),
            "(", $(::core::stringify!($type), ",",)* ")",
            $("->", ::core::stringify!($reply),)? ";"
        )
    };
    ($($mistake:tt)*) => { "" };
}

/// A type, or `()` where none is written.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_type {
    () => {
        ()
    };
    ($type:ty) => {
        $type
    };
}

/// The types of arguments, as one.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_tuple {
    (($($argument:ident : $type:ty),* $(,)?)) => { ($($type,)*) };
    ($mistake:tt) => { () };
}
