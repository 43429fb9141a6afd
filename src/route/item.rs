//! The item of the routes' set hash, made in parts (docs/LINK.md defines it).

use super::Class;
use super::Filtered;
use crate::object::Digest;
use crate::prefix::Family;
use crate::prefix::Prefix;

/// What is hashed of a route: the digest of its packed attributes, its prefix and path identifier,
/// the neighbour's class and name, and the filter's word. Short, so that most take one block of the
/// hash, and in parts, because most routes differ from the one before in the prefix alone.
#[derive(Clone, Debug, Default)]
pub struct Item {
    attributes: [u8; 32],
    /// Family, length, address, path identifier.
    place: [u8; 22],
    place_length: usize,
    source: Vec<u8>,
    joined: Vec<u8>,
}

impl Item {
    pub fn attributes(&mut self, digest: &Digest) {
        self.attributes = digest.0;
    }

    pub fn source(&mut self, class: Class, neighbour: &str, filtered: Option<Filtered>) {
        self.source.clear();
        self.source.push(class as u8);
        self.source.extend_from_slice(neighbour.as_bytes());
        self.source.push(0);
        let word = filtered.map_or("", Filtered::as_str);
        self.source.extend_from_slice(word.as_bytes());
    }

    pub fn place(&mut self, prefix: &Prefix, path_id: u32) {
        let bits = prefix.bits().to_be_bytes();
        let (family, octets): (u8, &[u8]) = match prefix.family() {
            Family::Ipv4 => (4, &bits[..4]),
            Family::Ipv6 => (6, &bits),
        };
        let end = 2 + octets.len();
        self.place[0] = family;
        self.place[1] = prefix.length();
        self.place[2..end].copy_from_slice(octets);
        self.place[end..end + 4].copy_from_slice(&path_id.to_be_bytes());
        self.place_length = end + 4;
    }

    pub fn bytes(&mut self) -> &[u8] {
        self.joined.clear();
        self.joined.extend_from_slice(&self.attributes);
        self.joined
            .extend_from_slice(&self.place[..self.place_length]);
        self.joined.extend_from_slice(&self.source);
        &self.joined
    }
}
