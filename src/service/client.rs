//! What [`service!`](crate::service!) makes for clients.

/// The client.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_caller {
    (
        [$visibility:vis] $client:ident $codec:tt
        $({
            $number:ident $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt
        })*
    ) => {
        use $crate::__private::NotOfStd as _;

        impl $client {
            /// Connects to the server at `name` with the defaults.
            ///
            /// # Errors
            ///
            /// `CallError::Unreachable`, with kind `NotFound` if nobody listens; `CallError::TimedOut`.
            $visibility fn connect(
                name: impl $crate::ToName,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                Self::connect_with(name, $crate::ClientOptions::new())
            }

            /// Connects to the server at `name`.
            ///
            /// # Errors
            ///
            /// As `connect`.
            $visibility fn connect_with(
                name: impl $crate::ToName,
                options: $crate::ClientOptions,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                $crate::__private::Caller::connect(&__PIPETALK_DEFINITION, name, options).map(Self)
            }

            /// A client over a stream that is open already. It cannot reconnect.
            ///
            /// # Errors
            ///
            /// `CallError::Disconnected` or `CallError::TimedOut` if the greeting cannot be sent.
            $visibility fn over(
                stream: impl $crate::Stream,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                Self::over_with(stream, $crate::ClientOptions::new())
            }

            /// A client over a stream that is open already. It cannot reconnect.
            ///
            /// # Errors
            ///
            /// As `over`.
            $visibility fn over_with(
                stream: impl $crate::Stream,
                options: $crate::ClientOptions,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                $crate::__private::Caller::over(&__PIPETALK_DEFINITION, stream, options).map(Self)
            }

            /// A client on the same connection whose calls have these options.
            #[must_use]
            $visibility fn with(&self, options: $crate::CallOptions) -> Self {
                Self(self.0.with(options))
            }

            /// A client on the same connection all of whose calls end at this deadline: a point in time, or
            /// how long from now.
            #[must_use]
            $visibility fn with_deadline(
                &self,
                deadline: impl ::core::convert::Into<$crate::Deadline>,
            ) -> Self {
                Self(self.0.with_deadline(::core::convert::Into::into(deadline)))
            }

            /// The channel beneath, which can ask the server who it is, and ask it to drain or to stop.
            #[must_use]
            $visibility fn channel(&self) -> &$crate::Channel<$crate::__service_codec_type!($codec)> {
                self.0.channel()
            }

            $(
                $crate::__service_unless_of_client! {
                    $method
                    {
                        $crate::__service_client! {
                            $number $attributes $codec [$visibility]
                            $kind $method $arguments $reply
                        }
                    }
                    {}
                }
            )*
        }

        const _: () = {
            let _ = ::core::marker::PhantomData::<$client>;
        };
        $($crate::__service_used! { $client $attributes $kind $method })*
    };
}

/// A method of the client. The arguments go one by one from the end to the middle, each with how it is passed.
///
/// What is written as a `String` or a `Vec` may be another type of this name, which only the compiler knows. What the
/// type is passed as is nothing to read, so that the documentation has what it is with that of the standard library.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_client {
    (
        $number:tt $attributes:tt $codec:tt $visibility:tt $kind:ident $method:ident
        ($($arguments:tt)*) $reply:tt
    ) => {
        $crate::__service_client! {
            @ $number $attributes $codec $visibility $kind $method $reply
            () $($arguments)*
        }
    };
    (@ $number:tt $attributes:tt $codec:tt $visibility:tt $kind:ident $method:ident $reply:tt $arguments:tt) => {
        $crate::__service_client_method! { $number $attributes $codec $visibility $kind $method $reply $arguments }
    };
    (
        @ $number:tt $attributes:tt $codec:tt $visibility:tt $kind:ident $method:ident $reply:tt
        ($($done:tt)*) $argument:ident : String $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $number $attributes $codec $visibility $kind $method $reply
            (
                $($done)*
                ($argument [
                    #[cfg(not(doc))]
                    $argument: &<
                        $crate::__private::Given<String, { <$crate::__private::Of<String>>::STD }>
                        as $crate::__private::Passed
                    >::As,
                    #[cfg(doc)]
                    $argument: &::core::primitive::str
                ])
            )
            $($($more)*)?
        }
    };
    (
        @ $number:tt $attributes:tt $codec:tt $visibility:tt $kind:ident $method:ident $reply:tt
        ($($done:tt)*) $argument:ident : $type:ident $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $number $attributes $codec $visibility $kind $method $reply
            (
                $($done)*
                ($argument [$argument: $crate::__service_argument!($type)])
            )
            $($($more)*)?
        }
    };
    (
        @ $number:tt $attributes:tt $codec:tt $visibility:tt $kind:ident $method:ident $reply:tt
        ($($done:tt)*) $argument:ident : Vec<$type:ty> $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $number $attributes $codec $visibility $kind $method $reply
            (
                $($done)*
                ($argument [
                    #[cfg(not(doc))]
                    $argument: &<
                        $crate::__private::Given<Vec<$type>, { <$crate::__private::Of<Vec<$type>>>::STD }>
                        as $crate::__private::Passed
                    >::As,
                    #[cfg(doc)]
                    $argument: &[$type]
                ])
            )
            $($($more)*)?
        }
    };
    (
        @ $number:tt $attributes:tt $codec:tt $visibility:tt $kind:ident $method:ident $reply:tt
        ($($done:tt)*) $argument:ident : $type:ty $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $number $attributes $codec $visibility $kind $method $reply
            (
                $($done)*
                ($argument [$argument: &$type])
            )
            $($($more)*)?
        }
    };
    ($($mistake:tt)*) => {};
}

/// The method, with its arguments as they are passed.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_client_method {
    (
        $number:ident [$($attribute:tt)*] $codec:tt [$visibility:vis] fn $method:ident [$($reply:ty)?]
        ($(($argument:ident [$($parameter:tt)*]))*)
    ) => {
        $crate::__service_method! {
            ($($argument)*) [$($attribute)*]
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` says how a call can fail."]
            $visibility fn $method(
                &self $(, $($parameter)*)*
            ) -> ::core::result::Result<$crate::__service_type!($($reply)?), $crate::CallError> {
                self.0.call(
                    __PipetalkMethod::$number as ::core::primitive::u32,
                    false $(|| $crate::__service_idempotent!($attribute))*,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        $number:ident $attributes:tt $codec:tt [$visibility:vis] notify $method:ident $reply:tt
        ($(($argument:ident [$($parameter:tt)*]))*)
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError`; that it was sent does not say that it was carried out."]
            $visibility fn $method(
                &self $(, $($parameter)*)*
            ) -> ::core::result::Result<(), $crate::CallError> {
                self.0.notify(
                    __PipetalkMethod::$number as ::core::primitive::u32,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        $number:ident $attributes:tt [$($codec:ty)?] [$visibility:vis] stream $method:ident [$item:ty]
        ($(($argument:ident [$($parameter:tt)*]))*)
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` if the stream cannot be opened; what happens to it then, its items say."]
            $visibility fn $method(
                &self $(, $($parameter)*)*
            ) -> ::core::result::Result<$crate::Items<$item $(, $codec)?>, $crate::CallError> {
                self.0.open(
                    __PipetalkMethod::$number as ::core::primitive::u32,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        $number:ident [$($attribute:tt)*] $codec:tt [async $visibility:vis] fn $method:ident [$($reply:ty)?]
        ($(($argument:ident [$($parameter:tt)*]))*)
    ) => {
        $crate::__service_method! {
            ($($argument)*) [$($attribute)*]
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` says how a call can fail."]
            #[doc = ""]
            #[doc = "# Cancel safety"]
            #[doc = ""]
            #[doc = "A call that is dropped is given up; the connection and all other calls go on."]
            $visibility async fn $method(
                &self $(, $($parameter)*)*
            ) -> ::core::result::Result<$crate::__service_type!($($reply)?), $crate::CallError> {
                self.0.call(
                    __PipetalkMethod::$number as ::core::primitive::u32,
                    false $(|| $crate::__service_idempotent!($attribute))*,
                    &($($argument,)*),
                ).await
            }
        }
    };
    (
        $number:ident $attributes:tt [$($codec:ty)?] [async $visibility:vis] stream $method:ident [$item:ty]
        ($(($argument:ident [$($parameter:tt)*]))*)
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` if the stream cannot be opened; what happens to it then, its items say."]
            #[doc = ""]
            #[doc = "# Cancel safety"]
            #[doc = ""]
            #[doc = "One that is dropped is given up, as a call is."]
            $visibility async fn $method(
                &self $(, $($parameter)*)*
            ) -> ::core::result::Result<$crate::tokio::Items<$item $(, $codec)?>, $crate::CallError> {
                self.0.open(
                    __PipetalkMethod::$number as ::core::primitive::u32,
                    &($($argument,)*),
                ).await
            }
        }
    };
    (
        $number:ident $attributes:tt $codec:tt [async $visibility:vis] notify $method:ident $reply:tt
        ($(($argument:ident [$($parameter:tt)*]))*)
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError`; that it was sent does not say that it was carried out."]
            #[doc = ""]
            #[doc = "# Cancel safety"]
            #[doc = ""]
            #[doc = "One that is dropped either is sent or is not."]
            $visibility async fn $method(
                &self $(, $($parameter)*)*
            ) -> ::core::result::Result<(), $crate::CallError> {
                self.0.notify(
                    __PipetalkMethod::$number as ::core::primitive::u32,
                    &($($argument,)*),
                ).await
            }
        }
    };
    ($($mistake:tt)*) => {};
}

/// How a client passes an argument whose type is a single word, but for a `String`.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_argument {
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
