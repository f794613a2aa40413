//! Fields of messages: numbers, texts and bytes, lists and what may be absent.

use zeroize::Zeroizing;

/// Most elements of a list.
const MAX_LIST: usize = 256;

/// What is not there yet of a message that is read.
pub(crate) struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all of it was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }
}

/// A kind of field.
pub(crate) trait Field: Sized {
    /// Appends it to a message.
    fn put(&self, to: &mut Vec<u8>);
    /// Takes it from a message; none when it is malformed.
    fn take(from: &mut Rest<'_>) -> Option<Self>;
}

impl Field for u8 {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(*self);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        from.take(1)?.first().copied()
    }
}

impl Field for bool {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Field for u16 {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_be_bytes());
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        Some(Self::from_be_bytes(from.take(2)?.try_into().ok()?))
    }
}

impl Field for u32 {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_be_bytes());
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        Some(Self::from_be_bytes(from.take(4)?.try_into().ok()?))
    }
}

impl Field for Vec<u8> {
    fn put(&self, to: &mut Vec<u8>) {
        // A longer one makes a message that is over the limit, which is not sent.
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(to);
        to.extend_from_slice(self);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        let length = usize::try_from(u32::take(from)?).ok()?;
        Some(from.take(length)?.to_vec())
    }
}

impl Field for String {
    fn put(&self, to: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(to);
        to.extend_from_slice(self.as_bytes());
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        Self::from_utf8(Vec::take(from)?).ok()
    }
}

impl Field for Zeroizing<Vec<u8>> {
    fn put(&self, to: &mut Vec<u8>) {
        (**self).put(to);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        Vec::take(from).map(Self::new)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        match bool::take(from)? {
            true => Some(Some(T::take(from)?)),
            false => Some(None),
        }
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
        self.1.put(to);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

/// A list of what is not a byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T: Field> Field for List<T> {
    fn put(&self, to: &mut Vec<u8>) {
        put_list(&self.0, to);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        let count = usize::try_from(u32::take(from)?).ok().filter(|n| *n <= MAX_LIST)?;
        (0..count).map(|_| T::take(from)).collect::<Option<Vec<T>>>().map(Self)
    }
}

pub(super) fn put_list<T: Field>(items: &[T], to: &mut Vec<u8>) {
    u32::try_from(items.len()).unwrap_or(u32::MAX).put(to);
    items.iter().for_each(|item| item.put(to));
}
