// The smallest pool: a shelf of vectors with names.

use std::{collections::HashMap, sync::Arc, sync::Mutex};
use zpool_core::*;

#[derive(Debug)]
pub struct Shelf {
    pub mint: HandleMint,
    pub shelf: Mutex<(u32, HashMap<HandleId, Vec<u8>>)>, // inserts so far, and live objects
}

impl ZPool for Shelf {
    fn id(&self) -> PoolId { self.mint.pool_id() }
    fn capabilities(&self) -> Capabilities { Capabilities::new(4096) }
    fn bytes_held(&self) -> usize { self.stats().pool_bytes() }
    fn validate(&self) -> Result<(), Violation> { Ok(()) }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object.len() {
            0 => return Err(PoolError::EmptyObject),
            1..=4096 => might_block("Shelf::insert"),
            len => return Err(PoolError::TooLarge { len, max: 4096 }),
        }
        let (count, objects) = &mut *self.shelf.lock().unwrap();
        *count = count.checked_add(1).ok_or(PoolError::OutOfMemory)?;
        let handle = self.mint.mint(*count, 0);
        objects.insert(handle.id(), object.to_vec());
        Ok(handle)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        self.mint.open(handle)?;
        let objects = &self.shelf.lock().unwrap().1;
        let object = objects.get(&handle.id()).ok_or(PoolError::StaleHandle)?;
        Ok(ReadGuard::shared(Arc::from(&object[..])))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let remove = |_| {
            let removed = self.shelf.lock().unwrap().1.remove(&handle.id());
            removed.ok_or(PoolError::StaleHandle)
        };
        let object = self.mint.open(&handle).and_then(remove);
        object.map(drop).map_err(|error| FreeError::new(error, handle))
    }

    fn stats(&self) -> PoolStats {
        let (mut stats, objects) = (PoolStats::default(), &self.shelf.lock().unwrap().1);
        stats.objects = objects.len();
        stats.payload_bytes = objects.values().map(Vec::len).sum();
        stats.metadata_bytes = objects.capacity() * size_of::<(HandleId, Vec<u8>)>();
        stats
    }
}

impl Drop for Shelf {
    fn drop(&mut self) { might_block("Shelf::drop") }
}
