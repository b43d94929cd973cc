//! The allocators compared: pools, and one box per object.

use zpool_core::page::default_source;
use zpool_core::{Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zbud::ZbudDriver;
use zpool_zsmalloc::ZsmallocDriver;

/// Bytes of the largest object.
const MAX_OBJECT_BYTES: usize = 4096;

/// An allocator that keeps objects. Its methods panic where a pool would return an error, because a
/// bench cannot go on then.
pub trait BenchAllocator {
    /// The token of an object.
    type Token;

    /// Returns the name in results.
    fn name(&self) -> &str;

    /// Creates an empty allocator of the same kind.
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
pub struct BenchBoxes;

/// Bytes that common allocators add to a box or lose to rounding.
const BOX_OVERHEAD: usize = 8;

impl BenchAllocator for BenchBoxes {
    type Token = Box<[u8]>;

    fn name(&self) -> &str {
        "boxes"
    }

    fn fresh(&self) -> Self {
        BenchBoxes
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
pub struct BenchPool {
    driver: &'static dyn ZPoolDriver,
    pool: Box<dyn ZPool>,
}

/// Returns the pools compared.
pub fn pools() -> Vec<BenchPool> {
    let drivers: [&'static dyn ZPoolDriver; 2] = [&ZbudDriver, &ZsmallocDriver];
    drivers.into_iter().map(BenchPool::new).collect()
}

impl BenchPool {
    fn new(driver: &'static dyn ZPoolDriver) -> BenchPool {
        let config = PoolConfig::new(default_source(), MAX_OBJECT_BYTES);
        BenchPool {
            driver,
            pool: driver.create(&config).expect("a pool with defaults can be made"),
        }
    }
}

impl BenchAllocator for BenchPool {
    type Token = Handle;

    fn name(&self) -> &str {
        self.driver.name()
    }

    fn fresh(&self) -> Self {
        BenchPool::new(self.driver)
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
pub fn verify(allocator: &impl BenchAllocator, objects: &[Box<[u8]>]) {
    let tokens: Vec<_> = objects.iter().map(|object| allocator.insert(object)).collect();
    for (token, object) in tokens.iter().zip(objects) {
        allocator.read(token, |bytes| {
            assert!(bytes == &**object, "{} changed an object", allocator.name())
        });
    }
    tokens.into_iter().for_each(|token| allocator.free(token));
}

/// Returns bytes held over bytes of `objects`, in a fresh allocator that holds nothing else.
pub fn density<P: BenchAllocator>(allocator: &P, objects: &[Box<[u8]>]) -> f64 {
    let allocator = allocator.fresh();
    let tokens: Vec<_> = objects.iter().map(|object| allocator.insert(object)).collect();
    let payload: usize = objects.iter().map(|object| object.len()).sum();
    let held = allocator.bytes_held(&tokens);
    tokens.into_iter().for_each(|token| allocator.free(token));
    held as f64 / payload as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;

    /// Every allocator returns its objects unchanged and holds at least their bytes.
    #[test]
    fn allocators_return_what_they_keep() {
        let objects = objects(1, 500);
        verify(&BenchBoxes, &objects);
        assert!(density(&BenchBoxes, &objects) > 1.0);
        for pool in pools() {
            verify(&pool, &objects);
            assert!(density(&pool, &objects) > 1.0, "{}", pool.name());
        }
    }
}
