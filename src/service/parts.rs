//! The parts of [`service!`](crate::service!): macros that each make one piece of what it makes.

/// An item with its attributes, without those that are ours: `[done] [[attribute] ...] item`.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_item {
    ([$($done:tt)*] [] $($item:tt)*) => { $($done)* $($item)* };
    ([$($done:tt)*] [[idempotent] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[name = $value:expr] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[version = $value:expr] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
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

/// A method of the trait. Arguments that cannot be read are complained of here; the other macros let them pass.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_trait {
    ($attributes:tt notify $method:ident ($($argument:ident : $type:ty),* $(,)?) $reply:tt) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(&self, call: &$crate::Call $(, $argument: $type)*);
        }
    };
    ($attributes:tt stream $method:ident ($($argument:ident : $type:ty),* $(,)?) [$($item:ty)?]) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(
                &self,
                call: &$crate::Call $(, $argument: $type)*,
                items: $crate::ItemSink<$crate::__service_type!($($item)?)>
            );
        }
    };
    (
        $attributes:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(&self, call: &$crate::Call $(, $argument: $type)*) $(-> $reply)?;
        }
    };
    ($attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt) => {
        $crate::__service_arguments! { $arguments $arguments }
    };
}

/// Fails on what is wrong with the arguments, which come twice: to be recognized, and to be pointed at.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_arguments {
    ($all:tt ($($argument:ident : $type:ty),* $(,)?)) => {};
    (($first:tt $($more:tt)*) (self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
    (($first:tt $($more:tt)*) (mut self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
    (($first:tt $($more:tt)*) (&self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
    (($first:tt $($more:tt)*) (&mut self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
}

/// Fails, with its rule beside what breaks it.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_self {
    (no self is written here: the trait and the client have it anyway) => {};
}

/// What is wrong with the kind and the types of a method is complained of here, each where it stands.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_types {
    (fn ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]) => {{
        $($crate::__private::sent::<$type>();)*
        $($crate::__private::sent::<$reply>();)?
    }};
    (notify ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]) => {{
        $($crate::__private::sent::<$type>();)*
        $($crate::__private::nothing::<$reply>();)?
    }};
    (stream ($($argument:ident : $type:ty),* $(,)?) [$item:ty]) => {{
        $($crate::__private::sent::<$type>();)*
        $crate::__private::sent::<$item>();
    }};
    (stream $arguments:tt []) => { $crate::__service_no_item! { $arguments } };
    (fn $($mistake:tt)*) => {};
    (notify $($mistake:tt)*) => {};
    (stream $($mistake:tt)*) => {};
    ($kind:ident $($more:tt)*) => { $crate::__private::a_method_is_fn_notify_or_stream::$kind };
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

/// Fails, beside a stream that does not say what its items are.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_no_item {
    (a stream says what its items are) => {};
}

/// What a stream does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_open {
    (
        ($trait:ident, $service:ident, $payload:ident, $call:ident, $opening:ident)
        stream $method:ident ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::DefaultCodec, ($($type,)*)>()?;
        <__PipetalkService as $trait>::$method(
            $service, $call $(, $argument)*,
            $opening.into_sink::<$item, $crate::DefaultCodec>()
        );
        return ::core::result::Result::Ok(());
    };
    ($($other:tt)*) => {};
}

/// What a method does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_dispatch {
    ($names:tt stream $($stream:tt)*) => {};
    (
        ($trait:ident, $service:ident, $payload:ident, $call:ident, $out:ident)
        $kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::DefaultCodec, ($($type,)*)>()?;
        let reply = <__PipetalkService as $trait>::$method($service, $call $(, $argument)*);
        return $crate::__service_reply!($kind reply $out);
    };
    ($($mistake:tt)*) => {};
}

/// What becomes of a method's value.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_reply {
    (fn $reply:ident $out:ident) => {
        $crate::server::encode_reply::<$crate::DefaultCodec, _>(&$reply, $out)
    };
    ($kind:ident $reply:ident $out:ident) => {
        ::core::result::Result::Ok(())
    };
}

/// A method of the client. The arguments go one by one from the end to the middle, with the types that they have
/// there.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_client {
    ($attributes:tt $visibility:vis $kind:ident $method:ident ($($arguments:tt)*) $reply:tt) => {
        $crate::__service_client! { @ $attributes [$visibility] $kind $method $reply () $($arguments)* }
    };
    (
        async $attributes:tt $visibility:vis $kind:ident $method:ident ($($arguments:tt)*)
        $reply:tt
    ) => {
        $crate::__service_client! {
            @ $attributes [async $visibility] $kind $method $reply () $($arguments)*
        }
    };
    (
        @ $attributes:tt $visibility:tt $kind:ident $method:ident $reply:tt ($($done:tt)*)
        $argument:ident : $type:ident $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $attributes $visibility $kind $method $reply
            ($($done)* ($argument: $crate::__service_argument!($type))) $($($more)*)?
        }
    };
    (
        @ $attributes:tt $visibility:tt $kind:ident $method:ident $reply:tt ($($done:tt)*)
        $argument:ident : Vec<$type:ty> $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $attributes $visibility $kind $method $reply
            ($($done)* ($argument: &[$type])) $($($more)*)?
        }
    };
    (
        @ $attributes:tt $visibility:tt $kind:ident $method:ident $reply:tt ($($done:tt)*)
        $argument:ident : $type:ty $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $attributes $visibility $kind $method $reply
            ($($done)* ($argument: &$type)) $($($more)*)?
        }
    };
    (
        @ [$($attribute:tt)*] [$visibility:vis] fn $method:ident [$($reply:ty)?]
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] [$($attribute)*]
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` says how a call can fail."]
            $visibility fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<$crate::__service_type!($($reply)?), $crate::CallError> {
                self.0.call(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    false $(|| $crate::__service_idempotent!($attribute))*,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        @ $attributes:tt [$visibility:vis] notify $method:ident $reply:tt
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError`; that it was sent does not say that it was carried out."]
            $visibility fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<(), $crate::CallError> {
                self.0.notify(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        @ $attributes:tt [$visibility:vis] stream $method:ident [$item:ty]
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` if the stream cannot be opened; what happens to it then, its items say."]
            $visibility fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<$crate::Items<$item>, $crate::CallError> {
                self.0.open(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        @ [$($attribute:tt)*] [async $visibility:vis] fn $method:ident [$($reply:ty)?]
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] [$($attribute)*]
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` says how a call can fail."]
            #[doc = ""]
            #[doc = "# Cancel safety"]
            #[doc = ""]
            #[doc = "A call that is dropped is given up; the connection and all other calls go on."]
            $visibility async fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<$crate::__service_type!($($reply)?), $crate::CallError> {
                self.0.call(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    false $(|| $crate::__service_idempotent!($attribute))*,
                    &($($argument,)*),
                ).await
            }
        }
    };
    (
        @ $attributes:tt [async $visibility:vis] stream $method:ident [$item:ty]
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` if the stream cannot be opened; what happens to it then, its items say."]
            #[doc = ""]
            #[doc = "# Cancel safety"]
            #[doc = ""]
            #[doc = "One that is dropped is given up, as a call is."]
            $visibility async fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<$crate::tokio::Items<$item>, $crate::CallError> {
                self.0.open(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    &($($argument,)*),
                ).await
            }
        }
    };
    (
        @ $attributes:tt [async $visibility:vis] notify $method:ident $reply:tt
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError`; that it was sent does not say that it was carried out."]
            #[doc = ""]
            #[doc = "# Cancel safety"]
            #[doc = ""]
            #[doc = "One that is dropped either is sent or is not."]
            $visibility async fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<(), $crate::CallError> {
                self.0.notify(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    &($($argument,)*),
                ).await
            }
        }
    };
    ($($mistake:tt)*) => {};
}

/// How a client passes an argument whose type is a single word.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_argument {
    (String) => {
        &::core::primitive::str
    };
    (bool) => {
        bool
    };
    (char) => {
        char
    };
    (f32) => {
        f32
    };
    (f64) => {
        f64
    };
    (i8) => {
        i8
    };
    (i16) => {
        i16
    };
    (i32) => {
        i32
    };
    (i64) => {
        i64
    };
    (i128) => {
        i128
    };
    (isize) => {
        isize
    };
    (u8) => {
        u8
    };
    (u16) => {
        u16
    };
    (u32) => {
        u32
    };
    (u64) => {
        u64
    };
    (u128) => {
        u128
    };
    (usize) => {
        usize
    };
    ($type:ident) => {
        &$type
    };
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
