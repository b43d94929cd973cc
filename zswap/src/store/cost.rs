//! The cost of a value in bytes: what evicting it frees, and what it needs to fit.

use crate::index::Index;
use crate::store::Store;
use crate::value::{PooledBlock, Value};

/// Bytes of a handle in its pool's table.
const HANDLE_BYTES: usize = 8;

/// Returns the share that an object of `len` bytes takes of a page with room for at most `objects`.
#[inline]
pub(crate) fn page_share(page: usize, objects: u32, len: usize) -> usize {
    let objects = objects.max(1) as usize;
    if len * objects > page { page } else { page / objects }
}

impl<K, S> Store<K, S> {
    /// Returns the cost of a value: its objects, its bucket in the index with the key, its handle,
    /// and the list of a value of several blocks.
    pub(crate) fn cost(&self, stored: &Value) -> usize {
        let place = Index::<K>::entry_bytes();
        place
            + match stored {
                Value::SameFilled { .. } | Value::Backed(_) => 0,
                Value::Pooled(block) => self.object_cost(block) + HANDLE_BYTES,
                Value::Large(large) => {
                    let parts = large.parts.iter().map(|part| match part {
                        Value::Pooled(block) => self.object_cost(block) + HANDLE_BYTES,
                        _ => 0,
                    });
                    large.heap_bytes() + parts.sum::<usize>()
                }
            }
    }

    /// Returns the cost of a value without its bucket in the index: what leaves memory if it goes
    /// to the tier.
    pub(crate) fn memory_cost(&self, stored: &Value) -> usize {
        self.cost(stored) - Index::<K>::entry_bytes()
    }

    /// Returns the cost of an object: its length, or its share of a page in a pool that bounds the
    /// number of objects per page.
    #[inline]
    pub(crate) fn object_cost(&self, block: &PooledBlock) -> usize {
        match block.object.pool().objects_per_page() {
            None => block.meta.object_len,
            Some(objects) => page_share(self.page_bytes(), objects, block.meta.object_len),
        }
    }

    /// Returns the page of allocators with a bounded number of objects in each: it has room for a
    /// block.
    #[inline]
    pub(crate) fn page_bytes(&self) -> usize {
        self.block_size().max(4096)
    }
}
