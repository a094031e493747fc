//! What [`service!`](crate::service!) makes for servers: the methods of the trait, and what becomes of a request.

/// A method of the trait. Arguments that cannot be read are complained of here; the other macros let them pass.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_trait {
    (
        $attributes:tt $codec:tt notify $method:ident
        ($($argument:ident : $type:ty),* $(,)?) $reply:tt
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            @served fn $method(&self, call: &$crate::Call $(, $argument: $type)*);
        }
    };
    (
        $attributes:tt [$($codec:ty)?] stream $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($item:ty)?]
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            @served fn $method(
                &self,
                call: &$crate::Call $(, $argument: $type)*,
                items: $crate::ItemSink<$crate::__service_type!($($item)?) $(, $codec)?>
            );
        }
    };
    (
        $attributes:tt $codec:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        $crate::__service_method! {
            ($($argument)*) $attributes
            @served fn $method(&self, call: &$crate::Call $(, $argument: $type)*) $(-> $reply)?;
        }
    };
    ($attributes:tt $codec:tt $kind:ident $method:ident $arguments:tt $reply:tt) => {
        $crate::__service_arguments! { $arguments $arguments }
    };
}

/// The same method where the trait is implemented by something that points at what implements it.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_pointed_at {
    (
        $trait:ident $codec:tt notify $method:ident
        ($($argument:ident : $type:ty),* $(,)?) $reply:tt
    ) => {
        fn $method(&self, call: &$crate::Call $(, $argument: $type)*) {
            <__PipetalkService as $trait>::$method(self, call $(, $argument)*)
        }
    };
    (
        $trait:ident [$($codec:ty)?] stream $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        fn $method(
            &self,
            call: &$crate::Call $(, $argument: $type)*,
            items: $crate::ItemSink<$item $(, $codec)?>
        ) {
            <__PipetalkService as $trait>::$method(self, call $(, $argument)*, items)
        }
    };
    ($trait:ident $codec:tt stream $($mistake:tt)*) => {};
    (
        $trait:ident $codec:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        fn $method(&self, call: &$crate::Call $(, $argument: $type)*) $(-> $reply)? {
            <__PipetalkService as $trait>::$method(self, call $(, $argument)*)
        }
    };
    ($($mistake:tt)*) => {};
}

/// How a server decodes requests and handles them.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_server {
    (
        $service:ident $codec:tt
        $({
            $number:ident $attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt
        })*
    ) => {
        #[doc(hidden)]
        impl<__PipetalkService: $service> $crate::__private::Serve<__PipetalkService>
            for dyn $service
        {
            type Codec = $crate::__service_codec_type!($codec);

            fn serve(
                service: __PipetalkService,
            ) -> $crate::server::Service<__PipetalkService, Self::Codec> {
                $crate::__private::service(
                    service,
                    &__PIPETALK_DEFINITION,
                    __pipetalk_dispatch::<__PipetalkService>,
                    __pipetalk_open::<__PipetalkService>,
                )
            }
        }

        fn __pipetalk_dispatch<__PipetalkService: $service>(
            service: &__PipetalkService,
            method: ::core::primitive::u32,
            payload: &$crate::server::Payload,
            call: &$crate::Call,
            reply: &mut $crate::server::Outgoing,
        ) -> ::core::result::Result<(), $crate::server::HandleError> {
            $(
                if method == __PipetalkMethod::$number as ::core::primitive::u32 {
                    $crate::__service_unless_of_trait! {
                        $method
                        {
                            $crate::__service_dispatch! {
                                ($service, $codec, service, payload, call, reply)
                                $kind $method $arguments $reply
                            }
                        }
                        {}
                    }
                }
            )*
            ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
        }

        fn __pipetalk_open<__PipetalkService: $service>(
            service: &__PipetalkService,
            method: ::core::primitive::u32,
            payload: &$crate::server::Payload,
            call: &$crate::Call,
            opening: $crate::server::Opening,
        ) -> ::core::result::Result<(), $crate::server::HandleError> {
            $(
                if method == __PipetalkMethod::$number as ::core::primitive::u32 {
                    $crate::__service_unless_of_trait! {
                        $method
                        {
                            $crate::__service_open! {
                                ($service, $codec, service, payload, call, opening)
                                $kind $method $arguments $reply
                            }
                        }
                        {}
                    }
                }
            )*
            ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
        }

        impl<__PipetalkService: $service + ?::core::marker::Sized> $service
            for ::std::sync::Arc<__PipetalkService>
        {
            $(
                $crate::__service_unless_of_trait! {
                    $method
                    {
                        $crate::__service_pointed_at! {
                            $service $codec $kind $method $arguments $reply
                        }
                    }
                    {}
                }
            )*
        }

        const _: () = {
            let _ = ::core::marker::PhantomData::<dyn $service>;
            $(
                $crate::__service_unless_of_trait! {
                    $method { let _ = <dyn $service as $service>::$method; } {}
                }
            )*
        };
    };
}

/// What a stream does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_open {
    (
        ($trait:ident, $codec:tt, $service:ident, $payload:ident, $call:ident, $opening:ident)
        stream $method:ident ($($argument:ident : $type:ty),* $(,)?) [$item:ty]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::__service_codec_type!($codec), ($($type,)*)>()?;
        <__PipetalkService as $trait>::$method(
            $service, $call $(, $argument)*,
            $opening.into_sink::<$item, $crate::__service_codec_type!($codec)>()
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
        ($trait:ident, $codec:tt, $service:ident, $payload:ident, $call:ident, $out:ident)
        $kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::__service_codec_type!($codec), ($($type,)*)>()?;
        return $crate::__service_reply!(
            $codec $kind $out
            (<__PipetalkService as $trait>::$method($service, $call $(, $argument)*))
        );
    };
    ($($mistake:tt)*) => {};
}

/// What becomes of a method's value.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_reply {
    ($codec:tt fn $out:ident $reply:tt) => {
        $crate::server::encode_reply::<$crate::__service_codec_type!($codec), _>(&$reply, $out)
    };
    ($codec:tt $kind:ident $out:ident $reply:tt) => {{
        $reply;
        ::core::result::Result::Ok(())
    }};
}
