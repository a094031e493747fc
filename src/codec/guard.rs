//! [`guarded`]: a wrapper around any deserializer that holds it to limits.
//!
//! A [`Guard`] is put around everything that serde passes to and fro: deserializers, visitors, seeds, and the
//! accesses to sequences, maps and enums. So whichever way a type and a format call one another, a value inside
//! another one is reached only through here.
//!
//! Errors stay the format's own on the way out: to change their type at every level would cost more than all the
//! checks. So which limit was exceeded stands in the [`Budget`], where no error type can lose it.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::error::CodecError;

/// How many levels a value may have: an option, a newtype, a sequence, a map, a tuple, a struct and an enum are a level
/// each, and a variant's fields are another one if they have names or are several.
///
/// So many levels decode on the smallest stack that is usual, that of a main thread on Windows with its [1 MiB],
/// in a debug build, and leave half of it to the caller: measured there, a level takes 1 to 3 KiB, and 4 KiB where
/// each second one is a struct of half a kilobyte. A recursive type of larger structs wants a larger stack.
///
/// [1 MiB]: https://learn.microsoft.com/en-us/cpp/build/reference/stack-stack-allocations
pub const MAX_DEPTH: usize = 128;

/// How many elements a value may have beyond the bytes of its message.
///
/// An element takes a byte at least, unless it is of a type with no content, such as `()`: a sequence of these has any
/// number in a few bytes.
pub const SPARE_ELEMENTS: usize = 4096;

/// What any value may take of memory, whatever its message: a mebibyte.
const SPARE_MEMORY: usize = 1 << 20;

/// How many bytes of memory a value may take for each byte of its message, up to [`MUCH_MEMORY`].
const MEMORY_PER_BYTE: usize = 64;

/// From here on, memory is given sparingly.
const MUCH_MEMORY: usize = 32 << 20;

/// The same, beyond [`MUCH_MEMORY`]: what a vector of the smallest numbers takes that has just doubled.
const SPARING_MEMORY_PER_BYTE: usize = 16;

/// Values of up to so many bytes are not looked at one by one: the bytes that they have in a message pay for them, also
/// where they stand behind a pointer. It costs a call of small values nothing.
const SMALL: usize = 64;

/// How many bytes of memory a value may take that comes in a message of `len` bytes.
///
/// That is 1 MiB and 64 bytes for each byte of the message, but not more than 32 MiB, or, if that is more, 16 bytes for
/// each byte of the message. What is counted is with the [limits](crate::codec#memory).
#[must_use]
pub const fn max_memory(len: usize) -> usize {
    let generous = SPARE_MEMORY.saturating_add(len.saturating_mul(MEMORY_PER_BYTE));
    let most = if generous < MUCH_MEMORY {
        generous
    } else {
        MUCH_MEMORY
    };
    let sparing = len.saturating_mul(SPARING_MEMORY_PER_BYTE);
    if most > sparing { most } else { sparing }
}

/// Decodes a value with any deserializer, within the [limits](crate::codec#limits).
///
/// `len` is the length of the input, which sets how many elements there may be. Whether all of the input was used
/// is for the caller to check, who has the deserializer. An example is with [`Codec`](crate::Codec#implementing).
///
/// The format is asked in such ways that it can check a length before it sets memory aside: for strings with
/// `deserialize_str` and for bytes with `deserialize_bytes`, also where the type asks for the owned kind.
///
/// # Errors
///
/// [`CodecError::TooDeep`], [`CodecError::TooManyElements`] and [`CodecError::TooMuchMemory`], even if the type makes
/// nothing of an error in one of its parts; [`CodecError::Malformed`] with the text of the type's or the format's error.
pub fn guarded<'de, T, D>(deserializer: D, len: usize) -> Result<T, CodecError>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let budget = Budget::new(len);
    let result = T::deserialize(budget.guard(deserializer));
    budget.close(result, CodecError::malformed)
}

/// What one value may still cost, from its outermost level to the innermost.
pub(super) struct Budget {
    len: usize,
    levels: Cell<usize>,
    elements: Cell<usize>,
    /// How many bytes are taken: what there may be is looked at by those alone that take some.
    memory: Cell<usize>,
    /// How much of the value around, which is paid for, can still be that of values in it. What is larger is behind a
    /// pointer.
    inside: Cell<usize>,
    exceeded: Cell<Option<Limit>>,
}

#[derive(Clone, Copy)]
enum Limit {
    Depth,
    Elements,
    Memory,
}

impl Budget {
    /// For a value in `len` bytes.
    #[inline]
    pub(super) fn new(len: usize) -> Budget {
        Budget {
            len,
            levels: Cell::new(MAX_DEPTH),
            elements: Cell::new(len.saturating_add(SPARE_ELEMENTS)),
            memory: Cell::new(0),
            inside: Cell::new(0),
            exceeded: Cell::new(None),
        }
    }

    /// Wraps the deserializer of the value.
    #[inline]
    pub(super) fn guard<'de, D: Deserializer<'de>>(
        &self,
        deserializer: D,
    ) -> impl Deserializer<'de, Error = D::Error> {
        Guard::new(deserializer, self)
    }

    /// What has come of it. An exceeded limit counts more than any result.
    #[inline]
    pub(super) fn close<T, E>(
        self,
        result: Result<T, E>,
        describe: impl FnOnce(E) -> CodecError,
    ) -> Result<T, CodecError> {
        match self.exceeded.get() {
            None => result.map_err(describe),
            Some(limit) => Err(self.over(limit)),
        }
    }

    #[cold]
    fn over(&self, limit: Limit) -> CodecError {
        match limit {
            Limit::Depth => CodecError::TooDeep { limit: MAX_DEPTH },
            Limit::Elements => CodecError::TooManyElements {
                limit: self.len.saturating_add(SPARE_ELEMENTS),
            },
            Limit::Memory => CodecError::TooMuchMemory {
                limit: max_memory(self.len),
            },
        }
    }

    /// Goes one level down.
    #[inline]
    fn descend<E: Error>(&self) -> Result<(), E> {
        match self.levels.get().checked_sub(1) {
            Some(left) => {
                self.levels.set(left);
                Ok(())
            }
            None => Err(self.exceed(Limit::Depth)),
        }
    }

    /// Comes up again. Not needed after an exceeded limit, which ends all.
    #[inline]
    fn ascend(&self) {
        self.levels.set(self.levels.get() + 1);
    }

    /// Pays for elements.
    #[inline]
    fn charge<E: Error>(&self, elements: usize) -> Result<(), E> {
        match self.elements.get().checked_sub(elements) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(self.exceed(Limit::Elements)),
        }
    }

    /// Pays for memory.
    fn take_memory<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let taken = self.memory.get().saturating_add(bytes);
        self.memory.set(taken);
        match taken <= max_memory(self.len) {
            true => Ok(()),
            false => Err(self.exceed(Limit::Memory)),
        }
    }

    /// Begins a value, which is a part of the one around it, and paid for with that, or stands behind a pointer. Gives
    /// what [`leave`](Self::leave) wants.
    #[inline]
    fn enter<T, E: Error>(&self) -> Result<usize, E> {
        if size_of::<T>() <= SMALL {
            return Ok(0);
        }
        let inside = self.inside.replace(size_of::<T>());
        match inside.checked_sub(size_of::<T>()) {
            Some(left) => Ok(left),
            None => self.take_memory(size_of::<T>()).map(|()| inside),
        }
    }

    /// Begins a value that is paid for.
    #[inline]
    fn enter_element<T>(&self) -> usize {
        match size_of::<T>() <= SMALL {
            true => 0,
            false => self.inside.replace(size_of::<T>()),
        }
    }

    /// The end of what was begun.
    #[inline]
    fn leave<T>(&self, inside: usize) {
        if size_of::<T>() > SMALL {
            self.inside.set(inside);
        }
    }

    #[cold]
    fn exceed<E: Error>(&self, limit: Limit) -> E {
        self.exceeded.set(Some(limit));
        E::custom("over a limit")
    }
}

/// Anything that serde passes around, and the budget that it has to keep to.
struct Guard<'b, X> {
    inner: X,
    budget: &'b Budget,
}

impl<'b, X> Guard<'b, X> {
    #[inline]
    fn new(inner: X, budget: &'b Budget) -> Self {
        Guard { inner, budget }
    }
}

/// A visitor, which may be shown a sequence. `FIXED`: the type has set how many elements such a sequence has, rather than
/// the input. It is a tuple or a struct, and its fields are a part of it.
struct GuardVisitor<'b, V, const FIXED: bool> {
    inner: V,
    budget: &'b Budget,
}

/// The elements of a sequence, or the entries of a map.
struct Elements<'b, A, const FIXED: bool> {
    inner: A,
    budget: &'b Budget,
    /// How many more of them are paid for.
    paid: usize,
    /// How large those are in memory that are paid for: an element, or a key. Nobody knows before the first is asked for.
    size: usize,
    /// The same of what belongs to a key.
    value_size: usize,
}

/// What serde sets aside for a sequence or a map before elements have come, at most.
const SERDE_SETS_ASIDE: usize = 1 << 20;

/// How many entries a `BTreeMap` has room for that has one.
const NODE: usize = 11;

impl<'b, A, const FIXED: bool> Elements<'b, A, FIXED> {
    /// So many of them are paid for.
    #[inline]
    fn paid(inner: A, paid: usize, budget: &'b Budget) -> Self {
        Elements {
            inner,
            budget,
            paid,
            size: 0,
            value_size: 0,
        }
    }

    /// As many elements as the input claims, or shows as it goes. A claim is paid for at once, so that a false one
    /// ends here.
    #[inline]
    fn claimed<E: Error>(inner: A, claim: Option<usize>, budget: &'b Budget) -> Result<Self, E> {
        let paid = claim.unwrap_or(0);
        budget.charge(paid)?;
        Ok(Elements::paid(inner, paid, budget))
    }

    /// Pays for an element, if one has come. The end is free: every sequence has one.
    #[inline]
    fn pay<T, E: Error>(&mut self, element: Option<T>) -> Result<Option<T>, E> {
        if element.is_some() {
            match self.paid.checked_sub(1) {
                Some(left) => self.paid = left,
                None => self.pay_unclaimed()?,
            }
        }
        Ok(element)
    }

    /// What grows with each element has room for twice as many at times.
    fn pay_unclaimed<E: Error>(&self) -> Result<(), E> {
        self.budget.charge(1)?;
        if FIXED {
            return Ok(());
        }
        let size = self.size.saturating_add(self.value_size);
        self.budget.take_memory(size.saturating_mul(2))
    }

    /// For how many elements memory may be set aside: for those that are paid for, which all together are hardly
    /// more than there are bytes of input, and in one place not more at all.
    #[inline]
    fn hint(&self, hint: Option<usize>) -> Option<usize> {
        hint.map(|hint| hint.min(self.paid).min(self.budget.len))
    }

    /// Pays for the memory of a sequence whose first element is asked for: what is set aside for the elements that are
    /// claimed. Others pay for themselves.
    fn pay_for_elements<E: Error>(&mut self, size: usize) -> Result<(), E> {
        let more = size - self.size;
        self.size = size;
        if self.paid == 0 {
            return Ok(());
        }
        let aside = (SERDE_SETS_ASIDE / size)
            .min(self.paid)
            .min(self.budget.len)
            .max(1);
        // The rest comes by doubling.
        let times = self.paid.div_ceil(aside).checked_next_power_of_two();
        let room = times.map_or(usize::MAX, |times| times.saturating_mul(aside));
        self.budget.take_memory(room.saturating_mul(more))
    }

    /// The same for a map, which has nodes of a tree, or a table that is half empty.
    fn pay_for_entries<E: Error>(&self, entries: usize, more: usize) -> Result<(), E> {
        if entries == 0 {
            return Ok(());
        }
        let room = entries.saturating_mul(2).max(NODE);
        self.budget.take_memory(room.saturating_mul(more))
    }
}

// ---------------------------------------------------------------- from the type to the format

macro_rules! forward {
    (fixed: $fixed:literal, $($method:ident($($name:ident: $type:ty),*) => $inner:ident),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, Self::Error> {
            let budget = self.budget;
            let visitor = GuardVisitor::<_, $fixed> { inner: visitor, budget };
            if size_of::<V::Value>() <= SMALL {
                return self.inner.$inner($($name,)* visitor);
            }
            let around = budget.enter::<V::Value, _>()?;
            let result = self.inner.$inner($($name,)* visitor);
            budget.leave::<V::Value>(around);
            result
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guard<'_, D> {
    type Error = D::Error;

    forward! {
        fixed: false,
        deserialize_any() => deserialize_any,
        deserialize_bool() => deserialize_bool,
        deserialize_i8() => deserialize_i8,
        deserialize_i16() => deserialize_i16,
        deserialize_i32() => deserialize_i32,
        deserialize_i64() => deserialize_i64,
        deserialize_i128() => deserialize_i128,
        deserialize_u8() => deserialize_u8,
        deserialize_u16() => deserialize_u16,
        deserialize_u32() => deserialize_u32,
        deserialize_u64() => deserialize_u64,
        deserialize_u128() => deserialize_u128,
        deserialize_f32() => deserialize_f32,
        deserialize_f64() => deserialize_f64,
        deserialize_char() => deserialize_char,
        // For the owned kind, a format may set memory aside for a length that it has not checked.
        deserialize_str() => deserialize_str,
        deserialize_string() => deserialize_str,
        deserialize_bytes() => deserialize_bytes,
        deserialize_byte_buf() => deserialize_bytes,
        deserialize_option() => deserialize_option,
        deserialize_unit() => deserialize_unit,
        deserialize_unit_struct(name: &'static str) => deserialize_unit_struct,
        deserialize_newtype_struct(name: &'static str) => deserialize_newtype_struct,
        deserialize_seq() => deserialize_seq,
        deserialize_map() => deserialize_map,
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) => deserialize_enum,
        deserialize_identifier() => deserialize_identifier,
        deserialize_ignored_any() => deserialize_ignored_any,
    }

    forward! {
        fixed: true,
        deserialize_tuple(len: usize) => deserialize_tuple,
        deserialize_tuple_struct(name: &'static str, len: usize) => deserialize_tuple_struct,
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) => deserialize_struct,
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner
            .newtype_variant_seed(Guard::new(seed, self.budget))
    }

    forward! {
        fixed: true,
        tuple_variant(len: usize) => tuple_variant,
        struct_variant(fields: &'static [&'static str]) => struct_variant,
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Guard<'b, A> {
    type Error = A::Error;
    type Variant = Guard<'b, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (which, variant) = self.inner.variant_seed(Guard::new(seed, self.budget))?;
        Ok((which, Guard::new(variant, self.budget)))
    }
}

impl<'de, A: SeqAccess<'de>, const FIXED: bool> SeqAccess<'de> for Elements<'_, A, FIXED> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = Guard::new(seed, self.budget);
        if FIXED {
            return self.inner.next_element_seed(seed);
        }
        if size_of::<S::Value>() > self.size {
            self.pay_for_elements(size_of::<S::Value>())?;
        }
        let around = self.budget.enter_element::<S::Value>();
        let element = self.inner.next_element_seed(seed);
        self.budget.leave::<S::Value>(around);
        self.pay(element?)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>, const FIXED: bool> MapAccess<'de> for Elements<'_, A, FIXED> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = Guard::new(seed, self.budget);
        if FIXED {
            let key = self.inner.next_key_seed(seed)?;
            return self.pay(key);
        }
        if size_of::<S::Value>() > self.size {
            self.pay_for_entries(self.paid, size_of::<S::Value>() - self.size)?;
            self.size = size_of::<S::Value>();
        }
        let around = self.budget.enter_element::<S::Value>();
        let key = self.inner.next_key_seed(seed);
        self.budget.leave::<S::Value>(around);
        self.pay(key?)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = Guard::new(seed, self.budget);
        if FIXED {
            return self.inner.next_value_seed(seed);
        }
        if size_of::<S::Value>() > self.value_size {
            // With that of the key which has just come.
            let entries = self.paid.saturating_add(1);
            self.pay_for_entries(entries, size_of::<S::Value>() - self.value_size)?;
            self.value_size = size_of::<S::Value>();
        }
        let around = self.budget.enter_element::<S::Value>();
        let value = self.inner.next_value_seed(seed);
        self.budget.leave::<S::Value>(around);
        value
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

// ---------------------------------------------------------------- from the format to the type

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guard<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner
            .deserialize(Guard::new(deserializer, self.budget))
    }
}

macro_rules! visit {
    ($($method:ident($($value:ident: $type:ty)?)),* $(,)?) => {$(
        #[inline]
        fn $method<E: Error>(self, $($value: $type)?) -> Result<V::Value, E> {
            self.inner.$method($($value)?)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const FIXED: bool> Visitor<'de> for GuardVisitor<'_, V, FIXED> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool(value: bool),
        visit_i8(value: i8),
        visit_i16(value: i16),
        visit_i32(value: i32),
        visit_i64(value: i64),
        visit_i128(value: i128),
        visit_u8(value: u8),
        visit_u16(value: u16),
        visit_u32(value: u32),
        visit_u64(value: u64),
        visit_u128(value: u128),
        visit_f32(value: f32),
        visit_f64(value: f64),
        visit_char(value: char),
        visit_str(value: &str),
        visit_borrowed_str(value: &'de str),
        visit_string(value: String),
        visit_bytes(value: &[u8]),
        visit_borrowed_bytes(value: &'de [u8]),
        visit_byte_buf(value: Vec<u8>),
        visit_none(),
        visit_unit(),
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<V::Value, D::Error> {
        self.budget.descend()?;
        let result = self.inner.visit_some(Guard::new(some, self.budget));
        self.budget.ascend();
        result
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, new: D) -> Result<V::Value, D::Error> {
        self.budget.descend()?;
        let result = self
            .inner
            .visit_newtype_struct(Guard::new(new, self.budget));
        self.budget.ascend();
        result
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.budget.descend()?;
        let claim = seq.size_hint();
        let elements = if FIXED {
            // No claim of the peer's.
            Elements::<_, FIXED>::paid(seq, usize::MAX, self.budget)
        } else {
            Elements::claimed(seq, claim, self.budget)?
        };
        let result = self.inner.visit_seq(elements);
        self.budget.ascend();
        result
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.budget.descend()?;
        let claim = map.size_hint();
        // Also the fields of a struct, if their names are there: there may be any number of others.
        let entries = Elements::<_, FIXED>::claimed(map, claim, self.budget)?;
        let result = self.inner.visit_map(entries);
        self.budget.ascend();
        result
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variants: A) -> Result<V::Value, A::Error> {
        self.budget.descend()?;
        let result = self.inner.visit_enum(Guard::new(variants, self.budget));
        self.budget.ascend();
        result
    }
}
