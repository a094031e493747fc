//! What [`service!`](crate::service!) says of mistakes: beside what is wrong, and what to do about it.
//!
//! A path that leads nowhere is complained of where its last word stands: the word is the caller's, and the path is the
//! complaint. What would be wrong with the rest because of it is left out.

/// Fails on attributes that the trait cannot have. What comes twice is to be recognized, and to be pointed at.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_trait_attribute {
    ([cfg $($value:tt)*] [$cfg:ident $($again:tt)*]) => {
        $crate::__service_complaint! { all_is_made_of_the_trait_put_this_before_the_whole_service $cfg }
    };
    ([idempotent $($value:tt)*] [$idempotent:ident $($again:tt)*]) => {
        $crate::__service_complaint! { only_a_fn_can_be_idempotent_leave_this_out $idempotent }
    };
    ([$($other:tt)*] $attribute:tt) => {};
}

/// Fails on what is wrong with the name and the attributes of a method.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_method_checks {
    ($kind:ident $method:ident [$([$($attribute:tt)*])*]) => {
        $crate::__service_unless_of_client! {
            $method {} { $crate::__service_complaint! { every_client_has_a_method_of_this_name_choose_another $method } }
        }
        $crate::__service_unless_of_trait! {
            $method {} { $crate::__service_complaint! { every_trait_has_a_method_of_this_name_choose_another $method } }
        }
        $($crate::__service_attribute! { $kind [$($attribute)*] [$($attribute)*] })*
    };
}

/// One of two, by whether a method has a name that every client has a method of.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_unless_of_client {
    (connect $new:tt { $($taken:tt)* }) => { $($taken)* };
    (connect_with $new:tt { $($taken:tt)* }) => { $($taken)* };
    (over $new:tt { $($taken:tt)* }) => { $($taken)* };
    (over_with $new:tt { $($taken:tt)* }) => { $($taken)* };
    (with $new:tt { $($taken:tt)* }) => { $($taken)* };
    (with_deadline $new:tt { $($taken:tt)* }) => { $($taken)* };
    (channel $new:tt { $($taken:tt)* }) => { $($taken)* };
    (clone $new:tt { $($taken:tt)* }) => { $($taken)* };
    ($other:ident { $($new:tt)* } $taken:tt) => { $($new)* };
}

/// One of two, by whether a method has a name that the trait has a method of.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_unless_of_trait {
    (service $new:tt { $($taken:tt)* }) => { $($taken)* };
    ($other:ident { $($new:tt)* } $taken:tt) => { $($new)* };
}

/// Fails on attributes that a method cannot have.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_attribute {
    (fn [idempotent] $attribute:tt) => {};
    (notify [idempotent] [$idempotent:ident]) => {
        $crate::__service_complaint! { only_a_fn_can_be_idempotent_leave_this_out $idempotent }
    };
    (stream [idempotent] [$idempotent:ident]) => {
        $crate::__service_complaint! { only_a_fn_can_be_idempotent_leave_this_out $idempotent }
    };
    ($kind:ident [cfg $($value:tt)*] [$cfg:ident $($again:tt)*]) => {
        $crate::__service_complaint! { all_peers_have_the_same_methods_leave_this_out $cfg }
    };
    ($kind:ident [name = $($value:tt)*] [$name:ident $($again:tt)*]) => {
        $crate::__service_complaint! { this_is_said_of_a_whole_service_put_it_before_the_trait $name }
    };
    ($kind:ident [version = $($value:tt)*] [$version:ident $($again:tt)*]) => {
        $crate::__service_complaint! { this_is_said_of_a_whole_service_put_it_before_the_trait $version }
    };
    ($kind:ident [codec = $($value:tt)*] [$codec:ident $($again:tt)*]) => {
        $crate::__service_complaint! { this_is_said_of_a_whole_service_put_it_before_the_trait $codec }
    };
    ($kind:ident $other:tt $attribute:tt) => {};
}

/// Fails where the word stands.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_complaint {
    ($complaint:ident $word:ident) => {
        const _: () = $crate::__private::$complaint::$word;
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

/// Fails, beside a stream that does not say what its items are.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_no_item {
    (a stream says what its items are) => {};
}
