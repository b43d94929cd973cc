//! Contexts of a compressor are made and freed without a lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::compress::CodecError;
use zpool_core::exec::Manual;
use zpool_manager::{PoolManager, PoolRef};
use zpool_testing::codecs::{CodecHooks, HookedDriver};

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// Hooks for the next time that a context is made or dropped.
#[derive(Default)]
struct Hooks {
    on_make: Hook,
    on_drop: Hook,
    alive: AtomicUsize,
}

impl Hooks {
    fn call(hook: &Hook) {
        let hook = hook.lock().take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl CodecHooks for Hooks {
    fn on_make(&self) -> Result<(), CodecError> {
        Hooks::call(&self.on_make);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn on_drop_context(&self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        Hooks::call(&self.on_drop);
    }
}

fn compress(pool: &PoolRef) {
    pool.codec().compress(b"block", 5, |out| assert_eq!(out, Some(&b"block"[..]))).unwrap();
}

/// Returns a manager over `a+hooked`, its pool, and the hooks.
fn hooked() -> (PoolManager, PoolRef, Arc<Hooks>, Arc<Manual>) {
    let (hooks, manual, registry) =
        (Arc::<Hooks>::default(), Arc::new(Manual::new()), registry(&Script::new()));
    registry.register_compressor(Arc::new(HookedDriver("hooked", hooks.clone()))).unwrap();
    let manager =
        PoolManager::builder(registry).executor(manual.clone()).build(&spec("a+hooked")).unwrap();
    let pool = manager.current().unwrap();
    (manager, pool, hooks, manual)
}

/// B33: a thread holds a lock and needs a context, while another one frees a context, whose drop
/// takes that lock. If the codec held a lock in either, each would wait for the other. The maker
/// also re-enters the codec, which needs a second context.
#[test]
fn b33_free_waits_for_lock_of_context_maker() {
    let (manager, pool, hooks, manual) = hooked();
    let (lock, (begun, begins)) = (Arc::new(Mutex::new(())), mpsc::channel());
    compress(&pool);
    manager.switch(&spec("b+hooked")).unwrap();
    let (wanted, again) = (lock.clone(), pool.clone());
    *hooks.on_drop.lock() = Some(Box::new(move || {
        begun.send(()).unwrap();
        drop(wanted.lock());
    }));
    *hooks.on_make.lock() = Some(Box::new(move || compress(&again)));
    let held = lock.lock();
    std::thread::scope(|scope| {
        // The job that frees the contexts of a retired pool.
        scope.spawn(|| manual.run_all());
        begins.recv().unwrap();
        compress(&pool);
        drop(held);
    });
    assert!(hooks.on_make.lock().is_none() && hooks.on_drop.lock().is_none(), "both hooks ran");
    assert_eq!((pool.codec().stats().contexts_made, hooks.alive.load(Ordering::SeqCst)), (3, 0));
}

/// B33: the maker waits for a lock, and its holder frees a context, whose drop re-enters the codec.
#[test]
fn b33_make_waits_for_lock_of_context_freer() {
    let (_manager, pool, hooks, _manual) = hooked();
    let (lock, (begun, begins)) = (Arc::new(Mutex::new(())), mpsc::channel());
    let (wanted, again) = (lock.clone(), pool.clone());
    *hooks.on_make.lock() = Some(Box::new(move || {
        begun.send(()).unwrap();
        drop(wanted.lock());
    }));
    let held = lock.lock();
    std::thread::scope(|scope| {
        scope.spawn(|| compress(&pool));
        begins.recv().unwrap();
        // Makes a second one, and frees it.
        compress(&pool);
        *hooks.on_drop.lock() = Some(Box::new(move || compress(&again)));
        pool.codec().retire_compression();
        drop(held);
    });
    assert!(hooks.on_make.lock().is_none() && hooks.on_drop.lock().is_none(), "both hooks ran");
    // The context of the waiting maker, ours, and the one that the drop needed. A retired codec
    // keeps none.
    assert_eq!((pool.codec().stats().contexts_made, hooks.alive.load(Ordering::SeqCst)), (3, 0));
}
