//! A bounded cursor over received bytes: every read either succeeds whole or says no.
//!
//! All decoding of this folder goes through it, so no length from outside is ever an index.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Moves forward only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const NONE: Self = Self(&[]);

    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What has not been read, without reading it.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next `count` bytes as a reader of their own.
    pub(super) fn part(&mut self, count: usize) -> Option<Self> {
        self.take(count).map(Self)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Three octets.
    pub(super) fn u24(&mut self) -> Option<u32> {
        let [high, middle, low] = self.array()?;
        Some(u32::from_be_bytes([0, high, middle, low]))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn ipv4(&mut self) -> Option<Ipv4Addr> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    pub(super) fn ipv6(&mut self) -> Option<Ipv6Addr> {
        self.array::<16>().map(Ipv6Addr::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_does_not_fit_changes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(
            (reader.u16(), reader.u24(), reader.ipv6()),
            (None, None, None)
        );
        assert_eq!((reader.u8(), reader.u8()), (Some(3), None));
        assert!(reader.take(usize::MAX).is_none() && reader.is_empty());
    }
}
