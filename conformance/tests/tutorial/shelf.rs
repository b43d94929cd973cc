// The least that a pool is: a shelf of numbered vectors.

use std::{collections::HashMap, sync::Arc, sync::Mutex};
use zpool_core::{
    Capabilities, FreeError, Handle, HandleMint, PoolError, PoolId, PoolStats, ReadGuard, Violation, ZPool, might_block,
};

#[derive(Debug)]
pub struct Shelf {
    pub mint: HandleMint,
    pub objects: Mutex<(u32, Objects)>, // how many there were, and those there are
}

type Objects = HashMap<(u32, u16), Vec<u8>>;

impl ZPool for Shelf {
    fn id(&self) -> PoolId { self.mint.pool_id() }
    fn capabilities(&self) -> Capabilities { Capabilities::new(4096) }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object.len() {
            0 => return Err(PoolError::EmptyObject),
            1..=4096 => might_block("Shelf::insert"),
            len => return Err(PoolError::TooLarge { len, max: 4096 }),
        }
        let (number, objects) = &mut *self.objects.lock().unwrap();
        *number = number.checked_add(1).ok_or(PoolError::OutOfMemory)?;
        objects.insert((*number, 0), object.to_vec());
        Ok(self.mint.mint(*number, 0))
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let key = self.mint.open(handle).map(|opened| (opened.index, opened.generation))?;
        let objects = &self.objects.lock().unwrap().1;
        Ok(ReadGuard::shared(Arc::from(&objects.get(&key).ok_or(PoolError::StaleHandle)?[..])))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let key = match self.mint.open(&handle) {
            Ok(opened) => (opened.index, opened.generation),
            Err(foreign) => return Err(FreeError::new(foreign, handle)),
        };
        let object = self.objects.lock().unwrap().1.remove(&key);
        object.map(drop).ok_or_else(|| FreeError::new(PoolError::StaleHandle, handle))
    }

    fn bytes_held(&self) -> usize { self.stats().pool_bytes() }

    fn stats(&self) -> PoolStats {
        let (mut stats, objects) = (PoolStats::default(), &self.objects.lock().unwrap().1);
        stats.objects = objects.len();
        stats.payload_bytes = objects.values().map(Vec::len).sum();
        stats.metadata_bytes = objects.capacity() * size_of::<((u32, u16), Vec<u8>)>();
        stats
    }

    fn validate(&self) -> Result<(), Violation> { Ok(()) }
}

impl Drop for Shelf {
    fn drop(&mut self) { might_block("Shelf::drop") }
}
