//! Scripted plug-ins, and a manager over them.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this module")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use zpool_core::spec::{Component, Params, PoolSpec};
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, HandleMint, PoolConfig, PoolError, PoolId,
    PoolStats, ReadGuard, Violation, ZPool, ZPoolDriver, might_block,
};
use zpool_manager::{ManagerBuilder, PoolManager, Registry};

pub use zpool_testing::codecs::CopyDriver;

pub type OnDestroyOf = Arc<dyn Fn(PoolId, usize) + Send + Sync>;
type OnCreate = Arc<dyn Fn() -> Result<(), CreateError> + Send + Sync>;

/// Hooks inside plug-ins, and the number of their products alive.
#[derive(Default)]
pub struct Script {
    /// Runs in every constructor of the allocator. An error fails it.
    pub on_create: Mutex<Option<OnCreate>>,
    /// Runs in every destructor of the allocator.
    pub on_destroy: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// Runs in every destructor, with the pool's id and the number of its objects.
    pub on_destroy_of: Mutex<Option<OnDestroyOf>>,
    pub alive: AtomicUsize,
    pub destroyed: AtomicUsize,
}

impl Script {
    pub fn new() -> Arc<Script> {
        Arc::default()
    }

    pub fn on_create(&self, f: impl Fn() -> Result<(), CreateError> + Send + Sync + 'static) {
        *self.on_create.lock() = Some(Arc::new(f));
    }

    pub fn on_destroy(&self, f: impl Fn() + Send + Sync + 'static) {
        *self.on_destroy.lock() = Some(Arc::new(f));
    }

    pub fn on_destroy_of(&self, f: impl Fn(PoolId, usize) + Send + Sync + 'static) {
        *self.on_destroy_of.lock() = Some(Arc::new(f));
    }

    pub fn calm(&self) {
        *self.on_create.lock() = None;
        *self.on_destroy.lock() = None;
        *self.on_destroy_of.lock() = None;
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Script")
    }
}

/// A scripted allocator.
#[derive(Debug)]
pub struct ScriptedDriver {
    pub name: &'static str,
    pub script: Arc<Script>,
}

/// The last index used, and the objects by index.
type Objects = (u32, HashMap<u32, Arc<[u8]>>);

#[derive(Debug)]
struct ScriptedPool {
    mint: HandleMint,
    objects: Mutex<Objects>,
    max: usize,
    script: Arc<Script>,
}

impl ZPoolDriver for ScriptedDriver {
    fn name(&self) -> &str {
        self.name
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        Ok(params.clone())
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        let on_create = self.script.on_create.lock().clone();
        if let Some(f) = on_create {
            f()?;
        }
        self.script.alive.fetch_add(1, Ordering::SeqCst);
        let (mint, script) = (HandleMint::new(), self.script.clone());
        Ok(Box::new(ScriptedPool {
            mint,
            objects: Mutex::default(),
            max: config.max_object_len,
            script,
        }))
    }
}

impl Drop for ScriptedPool {
    fn drop(&mut self) {
        self.script.alive.fetch_sub(1, Ordering::SeqCst);
        self.script.destroyed.fetch_add(1, Ordering::SeqCst);
        let on_destroy = self.script.on_destroy.lock().clone();
        if let Some(f) = on_destroy {
            f();
        }
        let on_destroy_of = self.script.on_destroy_of.lock().clone();
        if let Some(f) = on_destroy_of {
            f(self.mint.pool_id(), self.objects.get_mut().1.len());
        }
        might_block("ScriptedPool::drop");
    }
}

impl ZPool for ScriptedPool {
    fn id(&self) -> PoolId {
        self.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.max)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let mut objects = self.objects.lock();
        objects.0 += 1;
        let index = objects.0;
        objects.1.insert(index, object.into());
        Ok(self.mint.mint(index, 0))
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let object = self.objects.lock().1.get(&opened.index).cloned();
        object.map(ReadGuard::shared).ok_or(PoolError::StaleHandle)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        match self.mint.open(&handle) {
            Ok(opened) => {
                let removed = self.objects.lock().1.remove(&opened.index);
                removed.map(drop).ok_or(FreeError::new(PoolError::StaleHandle, handle))
            }
            Err(error) => Err(FreeError::new(error, handle)),
        }
    }

    fn bytes_held(&self) -> usize {
        self.objects.lock().1.values().map(|o| o.len()).sum()
    }

    fn stats(&self) -> PoolStats {
        PoolStats::default()
    }

    fn validate(&self) -> Result<(), Violation> {
        Ok(())
    }
}

/// Makes a registry of allocators `a` and `b`, both under `script`, and compressors `x` and `y`.
pub fn registry(script: &Arc<Script>) -> Arc<Registry> {
    let registry = Arc::new(Registry::new());
    for name in ["a", "b"] {
        registry
            .register_allocator(Arc::new(ScriptedDriver { name, script: script.clone() }))
            .unwrap();
    }
    for name in ["x", "y"] {
        registry.register_compressor(Arc::new(CopyDriver(name))).unwrap();
    }
    registry
}

pub fn builder(script: &Arc<Script>) -> ManagerBuilder {
    PoolManager::builder(registry(script))
}

pub fn spec(text: &str) -> PoolSpec {
    text.parse().unwrap()
}

pub fn component(text: &str) -> Component {
    text.parse().unwrap()
}

/// An object with its pool's reference, as a caller of the manager keeps it.
#[derive(Debug)]
pub struct Stored {
    pub pool: zpool_manager::PoolRef,
    pub handle: Handle,
}

pub fn store(manager: &PoolManager, bytes: &[u8]) -> Stored {
    let pool = manager.current().expect("a pool is current");
    let handle = pool.zpool().insert(bytes).unwrap();
    Stored { pool, handle }
}

impl Stored {
    pub fn read(&self) -> Vec<u8> {
        self.pool.zpool().read(&self.handle).unwrap().to_vec()
    }

    pub fn free(self) {
        self.pool.zpool().free(self.handle).unwrap();
    }
}
