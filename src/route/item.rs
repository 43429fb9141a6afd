//! The item of the routes' set hash, made in parts (docs/LINK.md defines it).

use super::Class;
use super::Filtered;
use crate::object::Digest;
use crate::prefix::Family;
use crate::prefix::Prefix;

const DIGEST_BYTES: usize = 32;

/// What is hashed of a route: the digest of its packed attributes, its prefix and path identifier,
/// the neighbour's class and name, and the filter's word. Short, so that most take one block of the
/// hash, and written in parts into one piece, because most routes differ from the one before in the
/// digest and the prefix alone.
#[derive(Clone, Debug)]
pub struct Item {
    /// Digest; family, length, address, path identifier; source.
    bytes: Vec<u8>,
    place_bytes: usize,
}

impl Default for Item {
    fn default() -> Self {
        Self {
            bytes: vec![0; DIGEST_BYTES],
            place_bytes: 0,
        }
    }
}

impl Item {
    pub fn attributes(&mut self, digest: &Digest) {
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = digest.0;
        }
    }

    pub fn source(&mut self, class: Class, neighbour: &str, filtered: Option<Filtered>) {
        self.bytes.truncate(DIGEST_BYTES + self.place_bytes);
        self.bytes.push(class as u8);
        self.bytes.extend_from_slice(neighbour.as_bytes());
        self.bytes.push(0);
        let word = filtered.map_or("", Filtered::as_str);
        self.bytes.extend_from_slice(word.as_bytes());
    }

    pub fn place(&mut self, prefix: &Prefix, path_id: u32) {
        let bits = prefix.bits().to_be_bytes();
        let [a, b, c, d] = path_id.to_be_bytes();
        let length = prefix.length();
        match prefix.family() {
            Family::Ipv4 => {
                let [e, f, g, h, ..] = bits;
                self.put([4, length, e, f, g, h, a, b, c, d]);
            }
            Family::Ipv6 => {
                let mut place = [0; 22];
                place[..2].copy_from_slice(&[6, length]);
                place[2..18].copy_from_slice(&bits);
                place[18..].copy_from_slice(&[a, b, c, d]);
                self.put(place);
            }
        }
    }

    /// The source moves where the place before was of another family.
    fn put<const N: usize>(&mut self, place: [u8; N]) {
        if self.place_bytes != N {
            let old = DIGEST_BYTES..DIGEST_BYTES + self.place_bytes;
            self.bytes.splice(old, place);
            self.place_bytes = N;
        } else if let Some(old) = self.bytes[DIGEST_BYTES..].first_chunk_mut() {
            *old = place;
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
