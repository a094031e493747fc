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
        $(#[$attribute:meta])*
        $visibility:vis async trait $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_async_service! {
            [$(#[$attribute])*] [$visibility] $name $with
        }
        $crate::__service_async_items! { $with $($more)* }
    };
    (
        $with:tt
        $(#[$attribute:meta])*
        $visibility:vis async struct $name:ident ;
        $($more:tt)*
    ) => {
        $(#[$attribute])*
        ///
        /// Clones share the connection.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        $visibility struct $name($crate::__private::AsyncCaller);

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
        $(#[$attribute:meta])*
        $visibility:vis async trait $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_async_handler! { $name $with }
        $crate::__service_async_impls! { $with $($more)* }
    };
    (
        $with:tt
        $(#[$attribute:meta])*
        $visibility:vis async struct $name:ident ;
        $($more:tt)*
    ) => {
        $crate::__service_async_caller! { [$visibility] $name $with }
        $crate::__service_async_impls! { $with $($more)* }
    };
}

/// The trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_service {
    (
        [$($attribute:tt)*] [$visibility:vis] $service:ident
        { $client:ident $({ $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt })* }
    ) => {
        $($attribute)*
        #[allow(dead_code, clippy::too_many_arguments)]
        $visibility trait $service:
            ::core::marker::Send + ::core::marker::Sync + 'static
        {
            $(
                $crate::__service_async_trait! { $attributes $kind $method $arguments $reply }
            )*

            /// Makes of this what `pipetalk::tokio::Server::serve` takes.
            fn service(
                self,
            ) -> impl $crate::tokio::Handler<$crate::DefaultCodec, $crate::tokio::OfService>
            where
                Self: ::core::marker::Sized,
            {
                <$client>::__async_service(self)
            }
        }
    };
}

/// A method of the trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_trait {
    (
        $attributes:tt notify $method:ident
        ($($argument:ident : $type:ty),* $(,)?) $reply:tt
    ) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(
                &self, call: &$crate::Call $(, $argument: $type)*
            ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
        }
    };
    (
        $attributes:tt stream $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(
                &self,
                call: &$crate::Call $(, $argument: $type)*,
                items: $crate::tokio::ItemSink<$item>
            ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
        }
    };
    ($attributes:tt stream $($mistake:tt)*) => {};
    (
        $attributes:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(
                &self, call: &$crate::Call $(, $argument: $type)*
            ) -> impl ::core::future::Future<Output = $crate::__service_type!($($reply)?)>
                + ::core::marker::Send;
        }
    };
    // What is wrong with it is said of the blocking trait.
    ($($mistake:tt)*) => {};
}

/// How a server decodes requests and handles them.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_handler {
    (
        $service:ident
        { $client:ident $({ $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt })* }
    ) => {
        struct __PipetalkAsync<__PipetalkService>(__PipetalkService);

        /// The arguments of a method.
        #[allow(dead_code, non_camel_case_types, clippy::upper_case_acronyms)]
        enum __PipetalkRequest {
            $($method($crate::__service_tuple!($arguments))),*
        }

        impl<__PipetalkService: $service>
            $crate::tokio::Handler<$crate::DefaultCodec, $crate::tokio::OfService>
            for __PipetalkAsync<__PipetalkService>
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

            #[allow(unused_variables)]
            fn decode(
                &self,
                method: ::core::primitive::u32,
                payload: &$crate::server::Payload,
            ) -> ::core::result::Result<__PipetalkRequest, $crate::server::HandleError> {
                $(
                    if method == __PipetalkMethod::$method as ::core::primitive::u32 {
                        $crate::__service_async_decode! { $kind $method payload }
                    }
                )*
                ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
            }

            #[allow(
                deprecated, unreachable_code, unused_variables, unused_mut, clippy::unit_arg
            )]
            fn handle(
                self: ::std::sync::Arc<Self>,
                request: __PipetalkRequest,
                call: $crate::Call,
                mut reply: $crate::server::Outgoing,
            ) -> impl $crate::tokio::Replies {
                async move {
                    let handled = match request {
                        $(
                            __PipetalkRequest::$method(arguments) => $crate::__service_async_handle! {
                                ($service, self, call, reply, arguments) $kind $method $arguments
                            },
                        )*
                    };
                    (reply, handled)
                }
            }

            #[allow(deprecated, unused_variables)]
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
                        if method == __PipetalkMethod::$method as ::core::primitive::u32 {
                            $crate::__service_async_open! {
                                ($service, self, payload, call, opening)
                                $kind $method $arguments $reply
                            }
                        }
                    )*
                    ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
                }
            }
        }

        #[allow(dead_code)]
        impl $client {
            fn __async_service<__PipetalkService: $service>(
                service: __PipetalkService,
            ) -> impl $crate::tokio::Handler<$crate::DefaultCodec, $crate::tokio::OfService> {
                __PipetalkAsync(service)
            }
        }
    };
}

/// The types of arguments, as one.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_tuple {
    (($($argument:ident : $type:ty),* $(,)?)) => { ($($type,)*) };
    ($mistake:tt) => { () };
}

/// How the arguments of a method come. That of a stream is asked for in another way.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_decode {
    (stream $($stream:tt)*) => {};
    ($kind:ident $method:ident $payload:ident) => {
        return $payload
            .decode::<$crate::DefaultCodec, _>()
            .map(__PipetalkRequest::$method);
    };
}

/// What a stream does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_open {
    (
        ($trait:ident, $this:expr, $payload:ident, $call:ident, $opening:ident)
        stream $method:ident ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::DefaultCodec, ($($type,)*)>()?;
        <__PipetalkService as $trait>::$method(
            &$this.0, &$call $(, $argument)*,
            $opening.into_sink_tokio::<$item, $crate::DefaultCodec>()
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
        ($trait:ident, $this:expr, $call:ident, $out:ident, $arguments:ident)
        $kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?)
    ) => {{
        let ($($argument,)*) = $arguments;
        let reply = <__PipetalkService as $trait>::$method(
            &$this.0, &$call $(, $argument)*
        ).await;
        let out = &mut $out;
        $crate::__service_reply!($kind reply out)
    }};
    ($($mistake:tt)*) => { ::core::result::Result::Ok(()) };
}

/// The client.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_async_caller {
    (
        [$visibility:vis] $name:ident
        { $client:ident $({ $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt })* }
    ) => {
        #[allow(dead_code, clippy::too_many_arguments)]
        impl $name {
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
                Self(self.0.with_deadline(deadline.into()))
            }

            /// The channel beneath, which can ask the server who it is, and ask it to drain or to stop.
            #[must_use]
            $visibility fn channel(&self) -> &$crate::tokio::Channel {
                self.0.channel()
            }

            $(
                $crate::__service_client! {
                    async $attributes $visibility $kind $method $arguments $reply
                }
            )*
        }
    };
}
