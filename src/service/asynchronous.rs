//! What [`service!`](crate::service!) makes for async programs, where it is asked for: the trait, the client, and what
//! they do.
//!
//! The trait and the client stand where the service does, and what they do where its definition is.

/// The items: `service client { method } ...`, and what is written behind the blocking client.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_items {
    ($with:tt) => {};
    (
        $with:tt
        $(#[$($attribute:tt)*])*
        $visibility:vis async trait $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_async_service! {
            [$(#[$($attribute)*])*] [$visibility] $name $with
        }
        $crate::__service_async_items! { $with $($more)* }
    };
    (
        $with:tt
        $(#[$($attribute:tt)*])*
        $visibility:vis async struct $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_async_client! {
            [$(#[$($attribute)*])*] [$visibility] $name $with
        }

        $crate::__service_async_items! { $with $($more)* }
    };
}

/// What they do.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_impls {
    ($with:tt) => {};
    (
        $with:tt
        $(#[$($attribute:tt)*])*
        $visibility:vis async trait $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_where! {
            [] [$([$($attribute)*])*]
            const _: () = {
                $crate::__service_async_handler! { $name $with }
            };
        }
        $crate::__service_async_impls! { $with $($more)* }
    };
    (
        $with:tt
        $(#[$($attribute:tt)*])*
        $visibility:vis async struct $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_where! {
            [] [$([$($attribute)*])*]
            const _: () = {
                $crate::__service_async_caller! { [$visibility] $name $with }
            };
        }
        $crate::__service_async_impls! { $with $($more)* }
    };
}

/// The trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_service {
    (
        [$($attribute:tt)*] [$visibility:vis] $service:ident
        {
            $blocking:ident $codec:tt
            $({
                $number:ident $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt
            })*
        }
    ) => {
        $($attribute)*
        $visibility trait $service:
            ::core::marker::Send + ::core::marker::Sync + 'static
        {
            $(
                $crate::__service_unless_of_trait! {
                    $method
                    {
                        $crate::__service_async_trait! {
                            $attributes $codec $kind $method $arguments $reply
                        }
                    }
                    {}
                }
            )*

            /// Makes of this what `pipetalk::tokio::Server::serve` takes.
            fn service(
                self,
            ) -> impl $crate::tokio::Handler<
                $crate::__service_codec_type!($codec),
                $crate::tokio::OfService,
            >
            where
                Self: ::core::marker::Sized,
            {
                <dyn $blocking as $crate::__private::AsyncServe<
                    Self,
                    $crate::__service_codec_type!($codec),
                >>::serve(self)
            }
        }
    };
}

/// The type of the client.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_client {
    (
        [$($attribute:tt)*] [$visibility:vis] $client:ident
        { $blocking:ident [$($codec:ty)?] $($methods:tt)* }
    ) => {
        $($attribute)*
        ///
        /// Clones share the connection.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        $visibility struct $client($crate::__private::AsyncCaller$(<$codec>)?);
    };
}

/// A method of the trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_trait {
    (
        $attributes:tt $codec:tt notify $method:ident
        ($($argument:ident : $type:ty),* $(,)?) $reply:tt
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            @served fn $method(
                &self, call: &$crate::Call $(, $argument: $type)*
            ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
        }
    };
    (
        $attributes:tt [$($codec:ty)?] stream $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            @served fn $method(
                &self,
                call: &$crate::Call $(, $argument: $type)*,
                items: $crate::tokio::ItemSink<$item $(, $codec)?>
            ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
        }
    };
    ($attributes:tt $codec:tt stream $($mistake:tt)*) => {};
    (
        $attributes:tt $codec:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            @served fn $method(
                &self, call: &$crate::Call $(, $argument: $type)*
            ) -> impl ::core::future::Future<Output = $crate::__service_type!($($reply)?)>
                + ::core::marker::Send;
        }
    };
    // What is wrong with it is said of the blocking trait.
    ($($mistake:tt)*) => {};
}

/// The same method where the trait is implemented by something that points at what implements it.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_pointed_at {
    (
        $trait:ident [$($codec:ty)?] stream $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        fn $method(
            &self,
            call: &$crate::Call $(, $argument: $type)*,
            items: $crate::tokio::ItemSink<$item $(, $codec)?>
        ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send {
            <__PipetalkService as $trait>::$method(self, call $(, $argument)*, items)
        }
    };
    ($trait:ident $codec:tt stream $($mistake:tt)*) => {};
    (
        $trait:ident $codec:tt notify $method:ident
        ($($argument:ident : $type:ty),* $(,)?) $reply:tt
    ) => {
        fn $method(
            &self, call: &$crate::Call $(, $argument: $type)*
        ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send {
            <__PipetalkService as $trait>::$method(self, call $(, $argument)*)
        }
    };
    (
        $trait:ident $codec:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        fn $method(
            &self, call: &$crate::Call $(, $argument: $type)*
        ) -> impl ::core::future::Future<Output = $crate::__service_type!($($reply)?)>
            + ::core::marker::Send
        {
            <__PipetalkService as $trait>::$method(self, call $(, $argument)*)
        }
    };
    ($($mistake:tt)*) => {};
}

/// How a server decodes requests and handles them.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_handler {
    (
        $service:ident
        {
            $blocking:ident $codec:tt
            $({
                $number:ident $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt
            })*
        }
    ) => {
        struct __PipetalkAsync<__PipetalkService>(__PipetalkService);

        /// The arguments of a method. There may be none, and the code is to be reached all the same.
        enum __PipetalkRequest {
            Unknown,
            $($number($crate::__service_tuple!($arguments))),*
        }

        #[doc(hidden)]
        impl<__PipetalkService: $service>
            $crate::__private::AsyncServe<
                __PipetalkService,
                $crate::__service_codec_type!($codec),
            > for dyn $blocking
        {
            fn serve(
                service: __PipetalkService,
            ) -> impl $crate::tokio::Handler<
                $crate::__service_codec_type!($codec),
                $crate::tokio::OfService,
            > {
                __PipetalkAsync(service)
            }
        }

        impl<__PipetalkService: $service>
            $crate::tokio::Handler<
                $crate::__service_codec_type!($codec),
                $crate::tokio::OfService,
            > for __PipetalkAsync<__PipetalkService>
        {
            type Request = __PipetalkRequest;

            fn service(&self) -> &'static ::core::primitive::str {
                __PIPETALK_DEFINITION.name
            }

            fn version(&self) -> &'static ::core::primitive::str {
                __PIPETALK_DEFINITION.version
            }

            fn fingerprint(&self) -> ::core::primitive::u64 {
                __PIPETALK_DEFINITION.fingerprint
            }

            fn methods(&self) -> &'static [&'static ::core::primitive::str] {
                __PIPETALK_DEFINITION.methods
            }

            fn decode(
                &self,
                method: ::core::primitive::u32,
                payload: &$crate::server::Payload,
            ) -> ::core::result::Result<__PipetalkRequest, $crate::server::HandleError> {
                $(
                    if method == __PipetalkMethod::$number as ::core::primitive::u32 {
                        $crate::__service_async_decode! { $kind $number $codec payload }
                    }
                )*
                ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
            }

            fn handle(
                self: ::std::sync::Arc<Self>,
                request: __PipetalkRequest,
                call: $crate::Call,
                mut reply: $crate::server::Outgoing,
            ) -> impl $crate::tokio::Replies {
                async move {
                    let handled = match request {
                        __PipetalkRequest::Unknown => ::core::result::Result::Err(
                            $crate::server::HandleError::UnknownMethod,
                        ),
                        $(
                            __PipetalkRequest::$number(arguments) => {
                                $crate::__service_unless_of_trait! {
                                    $method
                                    {
                                        $crate::__service_async_handle! {
                                            ($service, $codec, self, call, reply, arguments)
                                            $kind $method $arguments
                                        }
                                    }
                                    {
                                        ::core::result::Result::Err(
                                            $crate::server::HandleError::UnknownMethod,
                                        )
                                    }
                                }
                            }
                        )*
                    };
                    (reply, handled)
                }
            }

            fn open(
                self: ::std::sync::Arc<Self>,
                method: ::core::primitive::u32,
                payload: $crate::server::Payload,
                call: $crate::Call,
                opening: $crate::server::Opening,
            ) -> impl ::core::future::Future<
                Output = ::core::result::Result<(), $crate::server::HandleError>,
            > + ::core::marker::Send + 'static {
                async move {
                    $(
                        if method == __PipetalkMethod::$number as ::core::primitive::u32 {
                            $crate::__service_unless_of_trait! {
                                $method
                                {
                                    $crate::__service_async_open! {
                                        ($service, $codec, self, payload, call, opening)
                                        $kind $method $arguments $reply
                                    }
                                }
                                {}
                            }
                        }
                    )*
                    ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
                }
            }
        }

        impl<__PipetalkService: $service + ?::core::marker::Sized> $service
            for ::std::sync::Arc<__PipetalkService>
        {
            $(
                $crate::__service_unless_of_trait! {
                    $method
                    {
                        $crate::__service_async_pointed_at! {
                            $service $codec $kind $method $arguments $reply
                        }
                    }
                    {}
                }
            )*
        }

        const _: () = {
            let _ = ::core::marker::PhantomData::<__PipetalkAsync<()>>;
        };
    };
}

/// How the arguments of a method come. That of a stream is asked for in another way.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_decode {
    (stream $($stream:tt)*) => {};
    ($kind:ident $number:ident $codec:tt $payload:ident) => {
        return $payload
            .decode::<$crate::__service_codec_type!($codec), _>()
            .map(__PipetalkRequest::$number);
    };
}

/// What a stream does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_open {
    (
        ($trait:ident, $codec:tt, $this:expr, $payload:ident, $call:ident, $opening:ident)
        stream $method:ident ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::__service_codec_type!($codec), ($($type,)*)>()?;
        <__PipetalkService as $trait>::$method(
            &$this.0, &$call $(, $argument)*,
            $opening.into_sink_tokio::<$item, $crate::__service_codec_type!($codec)>()
        ).await;
        return ::core::result::Result::Ok(());
    };
    ($($other:tt)*) => {};
}

/// What a method does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_handle {
    ($names:tt stream $($stream:tt)*) => {
        ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
    };
    (
        ($trait:ident, $codec:tt, $this:expr, $call:ident, $out:ident, $arguments:ident)
        $kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?)
    ) => {{
        let ($($argument,)*) = $arguments;
        let out = &mut $out;
        $crate::__service_reply!(
            $codec $kind out
            (<__PipetalkService as $trait>::$method(&$this.0, &$call $(, $argument)*).await)
        )
    }};
    ($($mistake:tt)*) => { ::core::result::Result::Ok(()) };
}

/// The client.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_caller {
    (
        [$visibility:vis] $client:ident
        {
            $blocking:ident $codec:tt
            $({
                $number:ident $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt
            })*
        }
    ) => {
        use $crate::__private::NotOfStd as _;

        impl $client {
            /// Connects to the server at `name` with the defaults.
            ///
            /// # Errors
            ///
            /// `CallError::Unreachable`, with kind `NotFound` if nobody listens; `CallError::TimedOut`.
            ///
            /// # Cancel safety
            ///
            /// One that is dropped leaves no connection behind.
            $visibility async fn connect(
                name: impl $crate::ToName,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                Self::connect_with(name, $crate::ClientOptions::new()).await
            }

            /// Connects to the server at `name`.
            ///
            /// # Errors
            ///
            /// As `connect`.
            ///
            /// # Cancel safety
            ///
            /// As `connect`.
            $visibility async fn connect_with(
                name: impl $crate::ToName,
                options: $crate::ClientOptions,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                $crate::__private::AsyncCaller::connect(&__PIPETALK_DEFINITION, name, options)
                    .await
                    .map(Self)
            }

            /// A client over a stream that is open already. It cannot reconnect.
            ///
            /// # Errors
            ///
            /// `CallError::Unreachable` if there is no runtime.
            $visibility fn over(
                stream: impl $crate::tokio::Stream,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                Self::over_with(stream, $crate::ClientOptions::new())
            }

            /// A client over a stream that is open already. It cannot reconnect.
            ///
            /// # Errors
            ///
            /// As `over`.
            $visibility fn over_with(
                stream: impl $crate::tokio::Stream,
                options: $crate::ClientOptions,
            ) -> ::core::result::Result<Self, $crate::CallError> {
                $crate::__private::AsyncCaller::over(&__PIPETALK_DEFINITION, stream, options)
                    .map(Self)
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
            $visibility fn channel(
                &self,
            ) -> &$crate::tokio::Channel<$crate::__service_codec_type!($codec)> {
                self.0.channel()
            }

            $(
                $crate::__service_unless_of_client! {
                    $method
                    {
                        $crate::__service_client! {
                            $number $attributes $codec [async $visibility]
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
