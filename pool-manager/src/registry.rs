//! Which allocators and compressors there are, by name, and how many pools use each.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zpool_core::compress::CompressorDriver;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::{Contained, swallowed_message};
use zpool_core::{ZPoolDriver, might_block};

use crate::error::{RegistryError, SwitchError};

/// The drivers a manager can make pools with. Its locks are leaves: no driver is called under them.
#[derive(Default)]
pub struct Registry {
    allocators: Mutex<BTreeMap<String, Registered<dyn ZPoolDriver>>>,
    compressors: Mutex<BTreeMap<String, Registered<dyn CompressorDriver>>>,
}

struct Registered<D: ?Sized> {
    driver: Contained<Arc<D>>,
    users: Arc<AtomicUsize>,
}

/// A driver in use: while this lives the driver cannot be unregistered.
pub(crate) struct Used<D: ?Sized> {
    pub(crate) driver: Arc<D>,
    users: Arc<AtomicUsize>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds an allocator.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Duplicate`] if one of that name is there; [`RegistryError::Panicked`] if
    /// the driver panics when it is asked for its name.
    pub fn register_allocator(&self, driver: Arc<dyn ZPoolDriver>) -> Result<(), RegistryError> {
        let driver = Contained::new(driver);
        register(&self.allocators, name(|| driver.name().to_owned())?, driver)
    }

    /// Adds a compressor.
    ///
    /// # Errors
    ///
    /// As for [`register_allocator`](Self::register_allocator).
    pub fn register_compressor(
        &self,
        driver: Arc<dyn CompressorDriver>,
    ) -> Result<(), RegistryError> {
        let driver = Contained::new(driver);
        register(&self.compressors, name(|| driver.name().to_owned())?, driver)
    }

    /// Removes an allocator. May block, as the drop of its driver may.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Busy`] while a pool of it exists, one that only waits for its destruction
    /// included; [`RegistryError::Unknown`].
    pub fn unregister_allocator(&self, name: &str) -> Result<(), RegistryError> {
        might_block("Registry::unregister_allocator");
        unregister(&self.allocators, name)
    }

    /// Removes a compressor. May block, as the drop of its driver may.
    ///
    /// # Errors
    ///
    /// As for [`unregister_allocator`](Self::unregister_allocator).
    pub fn unregister_compressor(&self, name: &str) -> Result<(), RegistryError> {
        might_block("Registry::unregister_compressor");
        unregister(&self.compressors, name)
    }

    /// The allocators' names, sorted.
    pub fn allocators(&self) -> Vec<String> {
        self.allocators.lock().keys().cloned().collect()
    }

    /// The compressors' names, sorted.
    pub fn compressors(&self) -> Vec<String> {
        self.compressors.lock().keys().cloned().collect()
    }

    pub(crate) fn use_allocator(&self, name: &str) -> Result<Used<dyn ZPoolDriver>, SwitchError> {
        find(&self.allocators, name).ok_or_else(|| SwitchError::UnknownAllocator {
            name: name.to_owned(),
            known: self.allocators(),
        })
    }

    pub(crate) fn use_compressor(
        &self,
        name: &str,
    ) -> Result<Used<dyn CompressorDriver>, SwitchError> {
        find(&self.compressors, name).ok_or_else(|| SwitchError::UnknownCompressor {
            name: name.to_owned(),
            known: self.compressors(),
        })
    }
}

impl fmt::Debug for Registry {
    /// Names only: a driver's own `Debug` is foreign code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("allocators", &self.allocators())
            .field("compressors", &self.compressors())
            .finish()
    }
}

type Table<D> = Mutex<BTreeMap<String, Registered<D>>>;

/// Asks a driver for its name, with no lock held.
fn name(ask: impl FnOnce() -> String) -> Result<String, RegistryError> {
    catch_unwind(AssertUnwindSafe(ask))
        .map_err(|panic| RegistryError::Panicked { message: swallowed_message(panic) })
}

fn register<D: ?Sized>(
    table: &Table<D>,
    name: String,
    driver: Contained<Arc<D>>,
) -> Result<(), RegistryError> {
    let mut table = table.lock();
    if table.contains_key(&name) {
        return Err(RegistryError::Duplicate(name));
    }
    table.insert(name, Registered { driver, users: Arc::default() });
    Ok(())
}

fn unregister<D: ?Sized>(table: &Table<D>, name: &str) -> Result<(), RegistryError> {
    let mut table = table.lock();
    let registered = table.get(name).ok_or_else(|| RegistryError::Unknown(name.to_owned()))?;
    // Acquire: pairs with the Release of `Used`'s drop: the pool is gone before its driver is. A
    // use begins under this lock.
    let users = registered.users.load(Ordering::Acquire);
    if users > 0 {
        return Err(RegistryError::Busy { name: name.to_owned(), pools: users });
    }
    let removed = table.remove(name);
    drop(table);
    // The driver's own drop is foreign code: outside the lock.
    drop(removed);
    Ok(())
}

fn find<D: ?Sized>(table: &Table<D>, name: &str) -> Option<Used<D>> {
    let table = table.lock();
    let Registered { driver, users } = table.get(name)?;
    // Relaxed: ordered by the lock.
    users.fetch_add(1, Ordering::Relaxed);
    Some(Used { driver: Arc::clone(driver), users: users.clone() })
}

impl<D: ?Sized> Clone for Used<D> {
    fn clone(&self) -> Self {
        // Relaxed: as ours is counted, nobody sees none meanwhile.
        self.users.fetch_add(1, Ordering::Relaxed);
        Used { driver: self.driver.clone(), users: self.users.clone() }
    }
}

impl<D: ?Sized> Drop for Used<D> {
    fn drop(&mut self) {
        // Release: see `unregister`.
        self.users.fetch_sub(1, Ordering::Release);
    }
}

impl<D: ?Sized> fmt::Debug for Used<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Used")
    }
}
