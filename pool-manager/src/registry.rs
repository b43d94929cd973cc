//! The registered allocators and compressors, by name, with the number of pools that use each.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zpool_core::compress::CompressorDriver;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::{Foreign, take_panic_message};
use zpool_core::{ZPoolDriver, might_block};

use crate::error::{RegistryError, SwitchError};

/// The drivers that a manager can make pools with.
///
/// Its locks are leaves: no driver is called under them.
#[derive(Default)]
pub struct Registry {
    allocators: Mutex<BTreeMap<String, Registered<dyn ZPoolDriver>>>,
    compressors: Mutex<BTreeMap<String, Registered<dyn CompressorDriver>>>,
    hints: Mutex<BTreeMap<&'static str, &'static str>>,
}

struct Registered<D: ?Sized> {
    driver: Foreign<Arc<D>>,
    users: Arc<AtomicUsize>,
}

/// A driver in use. While this lives, the driver cannot be unregistered.
pub(crate) struct DriverUse<D: ?Sized> {
    pub(crate) driver: Arc<D>,
    users: Arc<AtomicUsize>,
}

impl Registry {
    /// Makes an empty registry.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds an allocator.
    ///
    /// # Errors
    ///
    /// - [`RegistryError::Duplicate`] if the name is taken.
    /// - [`RegistryError::Panicked`] if the driver panics when it is asked for its name.
    pub fn register_allocator(&self, driver: Arc<dyn ZPoolDriver>) -> Result<(), RegistryError> {
        let driver = Foreign::new(driver);
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
        let driver = Foreign::new(driver);
        register(&self.compressors, name(|| driver.name().to_owned())?, driver)
    }

    /// Removes an allocator. May block, as the drop of its driver may.
    ///
    /// # Errors
    ///
    /// - [`RegistryError::Busy`] while a pool of it exists, even one that only awaits destruction.
    /// - [`RegistryError::Unknown`] if no allocator of that name is registered.
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

    /// Sets the advice in errors about an unknown `name`, such as to turn on a feature that
    /// compiles the driver in (default: to register it). Replaces an earlier hint.
    ///
    /// ```
    /// use zpool_manager::{PoolManager, Registry};
    ///
    /// let registry = Registry::new();
    /// registry.set_hint("slab", "turn on the feature `slab`");
    /// let manager = PoolManager::builder(registry.into()).build_idle()?;
    /// let error = manager.switch(&"slab+lz4".parse()?).unwrap_err();
    /// let text = "unknown allocator `slab` (known: none): turn on the feature `slab`";
    /// assert_eq!(error.to_string(), text);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_hint(&self, name: &'static str, hint: &'static str) {
        self.hints.lock().insert(name, hint);
    }

    /// Returns the names of the allocators, sorted.
    pub fn allocators(&self) -> Vec<String> {
        self.allocators.lock().keys().cloned().collect()
    }

    /// Returns the names of the compressors, sorted.
    pub fn compressors(&self) -> Vec<String> {
        self.compressors.lock().keys().cloned().collect()
    }

    pub(crate) fn use_allocator(
        &self,
        name: &str,
    ) -> Result<DriverUse<dyn ZPoolDriver>, SwitchError> {
        find(&self.allocators, name).ok_or_else(|| SwitchError::UnknownAllocator {
            name: name.to_owned(),
            known: self.allocators(),
            hint: self.hint(name),
        })
    }

    pub(crate) fn use_compressor(
        &self,
        name: &str,
    ) -> Result<DriverUse<dyn CompressorDriver>, SwitchError> {
        find(&self.compressors, name).ok_or_else(|| SwitchError::UnknownCompressor {
            name: name.to_owned(),
            known: self.compressors(),
            hint: self.hint(name),
        })
    }

    fn hint(&self, name: &str) -> Option<&'static str> {
        self.hints.lock().get(name).copied()
    }
}

impl fmt::Debug for Registry {
    /// Shows names only: a driver's own `Debug` is foreign code.
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
        .map_err(|panic| RegistryError::Panicked { message: take_panic_message(panic) })
}

fn register<D: ?Sized>(
    table: &Table<D>,
    name: String,
    driver: Foreign<Arc<D>>,
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
    // Acquire: pairs with the Release in the drop of `DriverUse`, so the pool is gone before its
    // driver is. A use begins under this lock.
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

fn find<D: ?Sized>(table: &Table<D>, name: &str) -> Option<DriverUse<D>> {
    let table = table.lock();
    let Registered { driver, users } = table.get(name)?;
    // Relaxed: ordered by the lock.
    users.fetch_add(1, Ordering::Relaxed);
    Some(DriverUse { driver: Arc::clone(driver), users: users.clone() })
}

impl<D: ?Sized> Clone for DriverUse<D> {
    fn clone(&self) -> Self {
        // Relaxed: this use is counted, so no thread sees 0 meanwhile.
        self.users.fetch_add(1, Ordering::Relaxed);
        DriverUse { driver: self.driver.clone(), users: self.users.clone() }
    }
}

impl<D: ?Sized> Drop for DriverUse<D> {
    fn drop(&mut self) {
        // Release: see `unregister`.
        self.users.fetch_sub(1, Ordering::Release);
    }
}

impl<D: ?Sized> fmt::Debug for DriverUse<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DriverUse")
    }
}
