//! The allocators compared: pools, and one box per object.

use zpool_core::page::default_source;
use zpool_core::{Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zbud::ZbudDriver;
use zpool_zsmalloc::ZsmallocDriver;

/// Bytes of the largest object.
const MAX_OBJECT_BYTES: usize = 4096;

/// An allocator that keeps objects. Its methods panic where a pool would return an error, because a
/// bench cannot go on then.
pub trait Packer {
    /// The token of an object.
    type Token;

    /// Returns the name in results.
    fn name(&self) -> &str;

    /// Creates an empty packer of the same kind.
    #[must_use]
    fn fresh(&self) -> Self;

    /// Keeps a copy of `object`.
    fn insert(&self, object: &[u8]) -> Self::Token;

    /// Pins an object, passes its bytes to `look`, and unpins it.
    fn read<R>(&self, token: &Self::Token, look: impl FnOnce(&[u8]) -> R) -> R;

    /// Frees an object.
    fn free(&self, token: Self::Token);

    /// Returns the bytes held for `tokens`, which must be those of all objects.
    fn bytes_held(&self, tokens: &[Self::Token]) -> usize;
}

/// One box per object, as in a program without a pool.
#[derive(Debug, Clone, Copy)]
pub struct Boxes;

/// Bytes that common allocators add to a box or lose to rounding.
const BOX_OVERHEAD: usize = 8;

impl Packer for Boxes {
    type Token = Box<[u8]>;

    fn name(&self) -> &str {
        "boxes"
    }

    fn fresh(&self) -> Self {
        Boxes
    }

    #[inline]
    fn insert(&self, object: &[u8]) -> Box<[u8]> {
        Box::from(object)
    }

    #[inline]
    fn read<R>(&self, token: &Box<[u8]>, look: impl FnOnce(&[u8]) -> R) -> R {
        look(token)
    }

    #[inline]
    fn free(&self, token: Box<[u8]>) {
        drop(token);
    }

    /// Estimates the boxes, their pointers and lengths, and the overhead of the allocator.
    fn bytes_held(&self, tokens: &[Box<[u8]>]) -> usize {
        tokens.iter().map(|object| object.len() + size_of::<Box<[u8]>>() + BOX_OVERHEAD).sum()
    }
}

/// A pool over mapped memory, as in a store.
#[derive(Debug)]
pub struct PoolPacker {
    driver: &'static dyn ZPoolDriver,
    pool: Box<dyn ZPool>,
}

/// Returns the pools compared.
pub fn pools() -> Vec<PoolPacker> {
    let drivers: [&'static dyn ZPoolDriver; 2] = [&ZbudDriver, &ZsmallocDriver];
    drivers.into_iter().map(PoolPacker::new).collect()
}

impl PoolPacker {
    fn new(driver: &'static dyn ZPoolDriver) -> PoolPacker {
        let config = PoolConfig::new(default_source(), MAX_OBJECT_BYTES);
        PoolPacker {
            driver,
            pool: driver.create(&config).expect("a pool with defaults can be made"),
        }
    }
}

impl Packer for PoolPacker {
    type Token = Handle;

    fn name(&self) -> &str {
        self.driver.name()
    }

    fn fresh(&self) -> Self {
        PoolPacker::new(self.driver)
    }

    #[inline]
    fn insert(&self, object: &[u8]) -> Handle {
        self.pool.insert(object).expect("there is memory")
    }

    #[inline]
    fn read<R>(&self, token: &Handle, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.pool.read(token).expect("the object is there"))
    }

    #[inline]
    fn free(&self, token: Handle) {
        self.pool.free(token).expect("the object is there");
    }

    fn bytes_held(&self, _tokens: &[Handle]) -> usize {
        self.pool.bytes_held()
    }
}

/// Stores all of `objects`, compares each, and frees them.
///
/// # Panics
///
/// If an object does not come back as it was.
pub fn verify(packer: &impl Packer, objects: &[Box<[u8]>]) {
    let tokens: Vec<_> = objects.iter().map(|object| packer.insert(object)).collect();
    for (token, object) in tokens.iter().zip(objects) {
        packer.read(token, |bytes| {
            assert!(bytes == &**object, "{} changed an object", packer.name())
        });
    }
    tokens.into_iter().for_each(|token| packer.free(token));
}

/// Returns bytes held over bytes of `objects`, in a fresh packer that holds nothing else.
pub fn density<P: Packer>(packer: &P, objects: &[Box<[u8]>]) -> f64 {
    let packer = packer.fresh();
    let tokens: Vec<_> = objects.iter().map(|object| packer.insert(object)).collect();
    let payload: usize = objects.iter().map(|object| object.len()).sum();
    let held = packer.bytes_held(&tokens);
    tokens.into_iter().for_each(|token| packer.free(token));
    held as f64 / payload as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;

    /// Every packer returns its objects unchanged and holds at least their bytes.
    #[test]
    fn packers_return_what_they_keep() {
        let objects = objects(1, 500);
        verify(&Boxes, &objects);
        assert!(density(&Boxes, &objects) > 1.0);
        for pool in pools() {
            verify(&pool, &objects);
            assert!(density(&pool, &objects) > 1.0, "{}", pool.name());
        }
    }
}
