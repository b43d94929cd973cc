//! Settings of pools: what they are made of, and who destroys them.

use std::sync::Arc;

use zpool_core::ZPoolDriver;
use zpool_core::compress::CompressorDriver;
use zpool_core::exec::Executor;
use zpool_core::page::PageSource;
use zpool_core::spec::PoolSpec;

use crate::builder::StoreBuilder;

/// # Pools and plug-ins
impl<K, S> StoreBuilder<K, S> {
    /// Sets the spec of the first pool (default: `zsmalloc+lz4`, if those features are on).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().spec("zsmalloc(chain=8)+lz4".parse()?).build()?;
    /// let current = store.manager().current().ok_or("a store always has a pool")?;
    /// assert_eq!(current.spec().to_string(), "zsmalloc(chain=8)+lz4");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spec(self, spec: PoolSpec) -> Self {
        StoreBuilder { spec: Some(spec), ..self }
    }

    /// Adds an allocator to choose from. It replaces a built-in one of the same name.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zpool_conformance::ReferenceDriver;
    /// use zswap::Store;
    ///
    /// let store = Store::<u64>::builder()
    ///     .allocator(Arc::new(ReferenceDriver))
    ///     .spec("reference+lz4".parse()?)
    ///     .build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocator(mut self, driver: Arc<dyn ZPoolDriver>) -> Self {
        self.allocators.push(driver);
        self
    }

    /// Adds a compressor to choose from. It replaces a built-in one of the same name.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zpool_conformance::RleDriver;
    /// use zswap::Store;
    ///
    /// let store = Store::<u64>::builder().compressor(Arc::new(RleDriver)).build()?;
    /// store.store(1, [7; 4096])?;
    /// store.set_compressor(&"rle".parse()?)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compressor(mut self, driver: Arc<dyn CompressorDriver>) -> Self {
        self.compressors.push(driver);
        self
    }

    /// Sets the source of the pools' memory (default: mapped memory, shared by the process).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use std::sync::Arc;
    /// use zswap::plugin::{BudgetedSource, HeapSource};
    /// use zswap::{Error, Store};
    ///
    /// // For a test: at most 64 frames of 4 KiB, from the heap.
    /// let source = BudgetedSource::new(Arc::new(HeapSource::new(4096)), 64);
    /// let store = Store::<u64>::builder().page_source(Arc::new(source)).build()?;
    /// let refused = (0..1000).find_map(|key| store.store(key, page(key)).err());
    /// assert!(matches!(refused, Some(Error::Pool(_))));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn page_source(self, source: Arc<dyn PageSource>) -> Self {
        StoreBuilder { source: Some(source), ..self }
    }

    /// Sets the executor that destroys retired pools (default: one worker thread that all stores of
    /// the process share).
    ///
    /// For stores that share a thread of their own, give each a clone of one `Arc<WorkQueue>`; see
    /// [`WorkQueue`](crate::plugin::WorkQueue) and
    /// [`ManagerBuilder::executor`](zpool_manager::ManagerBuilder::executor).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::sync::Arc;
    /// use zswap::Store;
    /// use zswap::plugin::WorkQueue;
    ///
    /// // One thread for these two stores, and none of the process's.
    /// let queue = Arc::new(WorkQueue::new("zswap-pools")?);
    /// let first = Store::<u64>::builder().executor(queue.clone()).build()?;
    /// let second = Store::<u64>::builder().executor(queue).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn executor(self, executor: Arc<dyn Executor>) -> Self {
        StoreBuilder { executor: Some(executor), ..self }
    }

    /// Sets how many pools may await destruction before a switch waits: at least 1 (default
    /// [`DEFAULT_MAX_PENDING`](zpool_manager::DEFAULT_MAX_PENDING)).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().max_pending(2).build()?;
    /// for chain in 1..=8 {
    ///     store.switch(&format!("zsmalloc(chain={chain})+lz4").parse()?)?;
    /// }
    /// assert!(store.stats().manager.pools_alive <= 3);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_pending(self, pools: usize) -> Self {
        StoreBuilder { max_pending: pools, ..self }
    }

    /// Sets whether a switch takes a live retired pool of the same spec instead of making one
    /// (default true).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{Store, Switched};
    ///
    /// let store = Store::<u64>::builder().revive(false).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// store.switch(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// let back = store.switch(&"zsmalloc+lz4".parse()?)?;
    /// assert!(matches!(back, Switched::Created(_)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn revive(self, revive: bool) -> Self {
        StoreBuilder { revive, ..self }
    }
}
