//! tokio's blocking threads as an executor: `cargo run -p zpool-manager --example tokio`.
//!
//! `spawn_blocking` allocates, so `submit` is not legal inside a no-block section, as the default
//! capabilities state. The manager therefore puts its own queue in front. Destroying a pool may
//! block, so it belongs on tokio's blocking threads and never on the reactor's.

use std::sync::Arc;

use zpool_conformance::{NullDriver, ReferenceDriver, RleDriver};
use zpool_core::exec::{Executor, Job, Refused};
use zpool_manager::{PoolManager, Registry};

/// Runs jobs on the blocking threads of a tokio runtime.
#[derive(Debug)]
pub struct TokioExecutor(pub tokio::runtime::Handle);

impl Executor for TokioExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        // A runtime that shuts down drops the closure, and the job with it, unrun. A pool's own job
        // then destroys its pool at once.
        self.0.spawn_blocking(move || {
            if let Err(panic) = job.run() {
                eprintln!("{panic}");
            }
        });
        Ok(())
    }
}

/// Runs the example. Its assertions state what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let registry = Arc::new(Registry::new());
    registry.register_allocator(Arc::new(ReferenceDriver))?;
    registry.register_compressor(Arc::new(NullDriver))?;
    registry.register_compressor(Arc::new(RleDriver))?;
    let manager = PoolManager::builder(registry)
        .executor(Arc::new(TokioExecutor(runtime.handle().clone())))
        .build(&"reference+null".parse()?)?;
    for i in 0..1000 {
        manager.set_compressor(&["rle", "null"][i % 2].parse()?)?;
    }
    manager.flush().unwrap();
    let stats = manager.stats();
    println!(
        "{} pools made, {} destroyed on tokio's blocking threads",
        stats.pools_created, stats.pools_destroyed
    );
    assert_eq!((stats.pools_destroyed, stats.destroyed_on_caller), (1000, 0));
    Ok(())
}
