//! A thread with a no-block rule drops the last reference to a pool: `cargo run -p zpool-manager
//! --example no_block`.
//!
//! Think of a signal-driven loop, an audio callback, or a reactor. It frees blocks, and one of them
//! is the last of a pool that was retired long ago. Destroying that pool takes locks and returns
//! memory to the system, which must not happen here.

use std::sync::Arc;
use std::thread;

use zpool_conformance::{NullDriver, ReferenceDriver, RleDriver};
use zpool_core::{CheckPolicy, NoBlock, set_check_policy, violations};
use zpool_manager::{PoolManager, Registry};

/// Runs the example. Its assertions state what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    // From now on, an operation that may block panics inside a no-block section.
    set_check_policy(CheckPolicy::Panic);
    let registry = Arc::new(Registry::new());
    registry.register_allocator(Arc::new(ReferenceDriver))?;
    registry.register_compressor(Arc::new(NullDriver))?;
    registry.register_compressor(Arc::new(RleDriver))?;
    let manager = PoolManager::builder(registry).build(&"reference+null".parse()?)?;

    let pool = manager.current().expect("it was built with one");
    let handle = pool.zpool().insert(b"the last block of its pool")?;
    manager.switch(&"reference+rle".parse()?)?;
    assert_eq!(manager.stats().pools_alive, 2, "the block keeps the retired pool");

    let strict = thread::spawn(move || {
        let _section = NoBlock::enter();
        pool.zpool().free(handle).map_err(|error| error.to_string())
        // `pool` is dropped here, the last reference, inside the section. That only hands the
        // pool's own job to the manager's queue.
    });
    strict.join().expect("nothing in it blocked")?;

    manager.flush().unwrap();
    let stats = manager.stats();
    assert_eq!((stats.pools_alive, stats.destroyed_on_caller, violations()), (1, 0, 0));
    println!("the pool was destroyed by the queue; the strict thread never blocked");
    Ok(())
}
