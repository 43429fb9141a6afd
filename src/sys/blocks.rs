//! Memory that a disk reads by itself: aligned blocks of one chunk each, of one region.
//!
//! Fills gather a chunk in a [`Block`], the disk's thread hands it to the kernel as it is, and it
//! is used again once nobody holds it. A [`super::ring`] registers the whole [`region`], so that
//! its pages are looked up once and not with each write. Never waits: when the region is lent out,
//! a block is memory of its own, which works as well and is not registered.

use crate::lock::lock;
use crate::object::CHUNK_BYTES;
use std::alloc::Layout;
use std::alloc::handle_alloc_error;
use std::fmt;
use std::ptr::NonNull;
use std::slice;
use std::sync::Mutex;
use std::sync::OnceLock;

/// A block holds one chunk.
pub const BLOCK_BYTES: usize = 256 << 10;
const _: () = assert!(BLOCK_BYTES as u64 == CHUNK_BYTES);

/// Address, offset and length of what a disk reads by itself. No disk in use has larger blocks.
pub const ALIGNMENT: usize = 4096;

/// 26 MiB: eight streams, each with two batches of four chunks on their way to the disk, one that
/// is gathered, and a chunk that comes.
const REGION_BLOCKS: usize = 104;
const REGION_BYTES: usize = REGION_BLOCKS * BLOCK_BYTES;

/// The region begins at a large page, which the kernel then may use.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// An aligned piece of memory, filled from its beginning.
pub struct Block {
    at: NonNull<u8>,
    length: usize,
    /// Memory of its own, not of the region.
    is_own: bool,
}

/// Address and length of the memory that blocks are of, for registering. `None`: there is none.
pub fn region() -> Option<(*const u8, usize)> {
    let region = Region::get()?;
    Some((region.at.as_ptr().cast_const(), REGION_BYTES))
}

/// Does all of `bytes` lie in the region?
pub fn is_of_region(bytes: &[u8]) -> bool {
    let Some((at, length)) = region() else {
        return false;
    };
    let from = bytes.as_ptr().addr().checked_sub(at.addr());
    let end = from.and_then(|from| from.checked_add(bytes.len()));
    end.is_some_and(|end| end <= length)
}

/// Does `bytes` begin where a disk may begin to read?
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGNMENT)
}

/// One mapping for the life of the process.
struct Region {
    at: NonNull<u8>,
    idle: Mutex<Vec<NonNull<u8>>>,
}

// SAFETY: the pointers are to a mapping that is never removed; each block of it is in the list or
// with the one `Block` that took it from there.
unsafe impl Send for Region {}
// SAFETY: as above; the list is locked.
unsafe impl Sync for Region {}

impl Region {
    fn get() -> Option<&'static Self> {
        static REGION: OnceLock<Option<Region>> = OnceLock::new();
        REGION.get_or_init(Self::map).as_ref()
    }

    fn map() -> Option<Self> {
        let whole = REGION_BYTES + LARGE_PAGE_BYTES;
        // SAFETY: an anonymous mapping of fresh pages touches no memory of ours.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        let mapped = NonNull::new(mapped.cast::<u8>())?;
        let skipped = mapped.as_ptr().align_offset(LARGE_PAGE_BYTES);
        // SAFETY: `skipped` is less than a large page, by which the mapping is longer.
        let at = unsafe { mapped.add(skipped) };
        // SAFETY: the range is within the mapping. Only a wish: its answer does not matter.
        unsafe { libc::madvise(at.as_ptr().cast(), REGION_BYTES, libc::MADV_HUGEPAGE) };
        // SAFETY: each offset is within the region. The last is the first to be taken.
        let block = |number: usize| unsafe { at.add(number * BLOCK_BYTES) };
        let idle = (0..REGION_BLOCKS).rev().map(block).collect();
        Some(Self {
            at,
            idle: Mutex::new(idle),
        })
    }
}

const OWN: Layout = match Layout::from_size_align(BLOCK_BYTES, ALIGNMENT) {
    Ok(layout) => layout,
    Err(_) => panic!("a block is larger than its alignment"),
};

impl Block {
    /// An empty one.
    pub fn take() -> Self {
        let used = Region::get().and_then(|region| {
            let mut idle = lock(&region.idle);
            idle.pop()
        });
        let own = || {
            // SAFETY: the layout is not of size zero. Zeroed, so that every byte is initialised.
            let at = unsafe { std::alloc::alloc_zeroed(OWN) };
            NonNull::new(at).unwrap_or_else(|| handle_alloc_error(OWN))
        };
        Self {
            at: used.unwrap_or_else(own),
            length: 0,
            is_own: used.is_none(),
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds bytes behind those it has; there must be room.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= BLOCK_BYTES - self.length, "a block is full");
        // SAFETY: within the block, which is ours alone and has room for so much; `bytes` is
        // borrowed from elsewhere.
        unsafe {
            let end = self.at.add(self.length);
            end.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        self.length += bytes.len();
    }

    /// At most `most` bytes behind those it has, as they happen to be: to be written to, and then
    /// taken in with [`Block::grow`].
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        let length = most.min(BLOCK_BYTES - self.length);
        // SAFETY: within the block, which is ours alone; all of it has been initialised, by the
        // kernel for the region and by the allocator for others.
        unsafe { slice::from_raw_parts_mut(self.at.add(self.length).as_ptr(), length) }
    }

    /// The next `bytes` are part of it; there must be room.
    pub fn grow(&mut self, bytes: usize) {
        assert!(bytes <= BLOCK_BYTES - self.length, "a block is full");
        self.length += bytes;
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the first `length` bytes are within the block and have been written.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.length) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.is_own {
            // SAFETY: it was allocated with this layout, and nobody else has it.
            unsafe { std::alloc::dealloc(self.at.as_ptr(), OWN) };
        } else if let Some(region) = Region::get() {
            let mut idle = lock(&region.idle);
            idle.push(self.at);
        }
    }
}

// SAFETY: a block is memory that it alone points to.
unsafe impl Send for Block {}
// SAFETY: as above; shared, it can only be read.
unsafe impl Sync for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of the process take blocks at the same time.
    #[test]
    fn more_blocks_than_the_region_has_are_aligned_and_their_own() {
        let mut blocks: Vec<Block> = (0..REGION_BLOCKS + 3).map(|_| Block::take()).collect();
        for (number, block) in blocks.iter_mut().enumerate() {
            let byte = u8::try_from(number).unwrap();
            block.extend_from_slice(&vec![byte; BLOCK_BYTES - 1]);
            block.extend_from_slice(&[byte]);
        }
        for (number, block) in blocks.iter().enumerate() {
            assert!(is_aligned(block.as_ref()));
            assert_eq!(is_of_region(block.as_ref()), !block.is_own);
            assert!(
                block
                    .as_ref()
                    .iter()
                    .all(|byte| usize::from(*byte) == number)
            );
        }
        assert!(blocks.iter().filter(|block| block.is_own).count() >= 3);
        drop(blocks);
        let again = Block::take();
        assert!(again.is_empty());
        assert!(!is_of_region(b"elsewhere") && !is_of_region(&[]));
    }

    #[test]
    fn what_is_written_into_the_room_of_a_block_is_taken_in_when_it_grows() {
        let mut block = Block::take();
        block.extend_from_slice(b"ab");
        assert_eq!(block.room(usize::MAX).len(), BLOCK_BYTES - 2);
        block.room(3).copy_from_slice(b"cde");
        assert_eq!(block.as_ref(), b"ab");
        block.grow(2);
        assert_eq!(block.as_ref(), b"abcd");
        block.grow(BLOCK_BYTES - 4);
        assert!(block.room(1).is_empty());
    }

    #[test]
    #[should_panic(expected = "full")]
    fn a_block_grows_no_further_than_its_room() {
        Block::take().grow(BLOCK_BYTES + 1);
    }

    #[test]
    #[should_panic(expected = "full")]
    fn a_block_never_grows() {
        let mut block = Block::take();
        block.extend_from_slice(&[0; 10]);
        block.extend_from_slice(&vec![0; BLOCK_BYTES]);
    }
}
