//! Which keys a scan covers, and which way it goes.

use std::borrow::Cow;
use std::ops::Bound;

/// The order in which a range is visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the smallest key up.
    Ascending,
    /// From the greatest key down.
    Descending,
}

/// The keys from `start`, itself in, to `end`, itself out; without an end, to the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    start: Cow<'a, [u8]>,
    end: Option<Cow<'a, [u8]>>,
}

impl<'a> KeyRange<'a> {
    /// From `start`, itself in, to `end`, itself out. Empty when `end` is not greater than `start`.
    #[must_use]
    pub fn new(start: &'a [u8], end: &'a [u8]) -> Self {
        Self { start: Cow::Borrowed(start), end: Some(Cow::Borrowed(end)) }
    }

    /// From `start`, itself in, to the last key.
    #[must_use]
    pub fn from(start: &'a [u8]) -> Self {
        Self { start: Cow::Borrowed(start), end: None }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::from(&[])
    }

    /// Every key that starts with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &'a [u8]) -> Self {
        Self { start: Cow::Borrowed(prefix), end: successor(prefix).map(Cow::Owned) }
    }

    /// These keys without those below `start`: where to go on after an earlier ascending visit.
    #[must_use]
    pub fn starting_at<'b>(self, start: &'b [u8]) -> KeyRange<'b>
    where
        'a: 'b,
    {
        if start > &*self.start { KeyRange { start: Cow::Borrowed(start), end: self.end } } else { self }
    }

    /// These keys without those from `end` on: where to go on after an earlier descending visit.
    #[must_use]
    pub fn ending_at<'b>(self, end: &'b [u8]) -> KeyRange<'b>
    where
        'a: 'b,
    {
        match &self.end {
            Some(own) if **own <= *end => self,
            _ => KeyRange { start: self.start, end: Some(Cow::Borrowed(end)) },
        }
    }

    /// The smallest key that may be in it.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The smallest key past it, if there is an end.
    #[must_use]
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether no key can be in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end().is_some_and(|end| end <= self.start())
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start() && self.end().is_none_or(|end| key < end)
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(self.start()), self.end().map_or(Bound::Unbounded, Bound::Excluded))
    }
}

/// The smallest key greater than every key that starts with `prefix`; none if all its bytes are 0xff.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_contains_exactly_what_starts_with_it(
            prefix in proptest::collection::vec(prop_oneof![Just(0u8), Just(254), Just(255)], 0..4),
            key in proptest::collection::vec(prop_oneof![Just(0u8), Just(254), Just(255)], 0..6),
        ) {
            prop_assert_eq!(KeyRange::prefix(&prefix).contains(&key), key.starts_with(&prefix));
        }
    }

    #[test]
    fn the_end_is_out_and_the_start_is_in() {
        let range = KeyRange::new(b"b", b"d");
        assert!(range.contains(b"b") && range.contains(b"c\xff") && !range.contains(b"d") && !range.contains(b"a"));
        assert!(KeyRange::new(b"b", b"b").is_empty() && KeyRange::new(b"c", b"b").is_empty());
        assert!(KeyRange::all().contains(b"") && !KeyRange::all().is_empty());
    }

    #[test]
    fn narrowing_never_widens() {
        assert_eq!(KeyRange::new(b"b", b"d").starting_at(b"a"), KeyRange::new(b"b", b"d"));
        assert_eq!(KeyRange::new(b"b", b"d").starting_at(b"c"), KeyRange::new(b"c", b"d"));
        assert_eq!(KeyRange::new(b"b", b"d").ending_at(b"e"), KeyRange::new(b"b", b"d"));
        assert_eq!(KeyRange::from(b"b").ending_at(b"c"), KeyRange::new(b"b", b"c"));
    }
}
