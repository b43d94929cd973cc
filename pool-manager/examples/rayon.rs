//! rayon's thread pool as an executor: `cargo run -p zpool-manager --example rayon`.
//!
//! `rayon::spawn` allocates, so `submit` is not legal inside a no-block section, as the default
//! capabilities state. The manager therefore puts its own queue in front: the releasing thread
//! hands a job to the queue, whose thread passes it on.

use std::sync::Arc;

use zpool_conformance::{NullDriver, ReferenceDriver, RleDriver};
use zpool_core::exec::{Executor, Job, Refused};
use zpool_manager::{PoolManager, Registry};

/// Runs jobs on a rayon thread pool.
#[derive(Debug)]
pub struct RayonExecutor(pub Arc<rayon::ThreadPool>);

impl Executor for RayonExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        self.0.spawn(move || {
            if let Err(panic) = job.run() {
                eprintln!("{panic}");
            }
        });
        Ok(())
    }
}

/// Runs the example. Its assertions state what it shows.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build()?);
    let registry = Arc::new(Registry::new());
    registry.register_allocator(Arc::new(ReferenceDriver))?;
    registry.register_compressor(Arc::new(NullDriver))?;
    registry.register_compressor(Arc::new(RleDriver))?;
    let manager = PoolManager::builder(registry)
        .executor(Arc::new(RayonExecutor(threads)))
        .build(&"reference+null".parse()?)?;
    for i in 0..1000 {
        manager.set_compressor(&["rle", "null"][i % 2].parse()?)?;
    }
    manager.flush().unwrap();
    let stats = manager.stats();
    println!(
        "{} pools made, {} destroyed on rayon's threads",
        stats.pools_created, stats.pools_destroyed
    );
    assert_eq!((stats.pools_destroyed, stats.destroyed_on_caller), (1000, 0));
    Ok(())
}
