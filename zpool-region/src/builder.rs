//! Settings of a region, and how it is built from them.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use zswap::{PoolSpec, SequentialKeys, Store, StoreBuilder};

use crate::engine::{Engine, EngineParts, PlantedBug};
use crate::error::RegionError;
use crate::handler::Handlers;
use crate::readahead::MAX_WINDOW;
use crate::region::{FaultMode, FaultServer, Region};
use crate::reserve::{LEAST_NUMBER, RegionReserve};
use crate::residents::Residents;
use crate::signal::SignalRegistration;
use crate::uffd::Userfault;

/// Units that a region can number. The tables of its queues have up to 8/3 as many places, in 32
/// bits.
pub(crate) const MAX_UNITS: usize = 1 << 30;

/// Lowest limit in bytes above what the empty store holds.
const LEAST_ABOVE_STORE: usize = 1 << 20;

type MakeStore = dyn FnOnce(StoreBuilder<u64>) -> StoreBuilder<u64> + Send;

/// Settings of a [`Region`]. Made by [`Region::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct RegionBuilder {
    len: usize,
    limit: Option<usize>,
    spec: Option<PoolSpec>,
    readahead: usize,
    clean_copies: bool,
    checksums: bool,
    handler_threads: usize,
    mode: FaultMode,
    planted: PlantedBug,
    configure: Option<Box<MakeStore>>,
}

impl RegionBuilder {
    pub(crate) fn new() -> RegionBuilder {
        // A second thread pays if there is a processor for it that the program does not need.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        RegionBuilder {
            len: 0,
            limit: None,
            spec: None,
            readahead: MAX_WINDOW,
            clean_copies: true,
            checksums: true,
            handler_threads: if processors < 4 { 1 } else { 2 },
            mode: FaultMode::Threads,
            planted: PlantedBug::None,
            configure: None,
        }
    }

    /// Sets the bytes of the slice. There is no default.
    #[doc(alias = "size")]
    pub fn len(self, bytes: usize) -> Self {
        RegionBuilder { len: bytes, ..self }
    }

    /// Sets the limit in bytes of resident pages and of what the store holds, together (default:
    /// 1/2 of the length, plus 1 MiB and what the empty store holds).
    ///
    /// The tables of the region are not in it: 5 bytes per unit, and 4 per resident unit, plus 16
    /// where a unit of its chunk has a fingerprint.
    pub fn limit_bytes(self, bytes: usize) -> Self {
        RegionBuilder { limit: Some(bytes), ..self }
    }

    /// Sets the allocator and compressor of the store (default: those of zswap).
    pub fn spec(self, spec: PoolSpec) -> Self {
        RegionBuilder { spec: Some(spec), ..self }
    }

    /// Sets the most units that one fault brings in while faults are sequential: 1 to 16 (default
    /// 16). Values outside this range are clamped to it.
    pub fn readahead(self, units: usize) -> Self {
        RegionBuilder { readahead: units.clamp(1, MAX_WINDOW), ..self }
    }

    /// Sets whether the block of a unit stays in the store while the unit is resident and likely to
    /// be evicted unchanged (default true). It then costs no compression. The bytes of such copies
    /// count towards the limit.
    pub fn clean_copies(self, keep: bool) -> Self {
        RegionBuilder { clean_copies: keep, ..self }
    }

    /// Sets whether every block has a checksum of four bytes (default true). Without it, only the
    /// program may notice corrupted memory.
    pub fn checksums(self, checksums: bool) -> Self {
        RegionBuilder { checksums, ..self }
    }

    /// Sets the number of threads that serve faults (default 1, or 2 on a machine of 4 processors
    /// and more). At least 1, even in signal mode, which starts none.
    pub fn handler_threads(self, threads: usize) -> Self {
        RegionBuilder { handler_threads: threads, ..self }
    }

    /// Changes settings of the store that the region has none for: registered plug-ins, a page
    /// source, an executor. The region sets block size, hasher, checksums, spec and dumps itself,
    /// after this.
    ///
    /// The store must not evict and must have no limit: what it drops is lost, and an access to it
    /// raises `SIGBUS`. Its plug-ins must not touch the region.
    pub fn store(
        self,
        configure: impl FnOnce(StoreBuilder<u64>) -> StoreBuilder<u64> + Send + 'static,
    ) -> Self {
        RegionBuilder { configure: Some(Box::new(configure)), ..self }
    }

    /// Serves faults in the thread that faults, in a handler of `SIGBUS`. A fault is then cheaper,
    /// because no other thread has to be woken: see `--bin region`. Faults of the kernel are not
    /// served: see [`hold`](Region::hold).
    ///
    /// # Safety
    ///
    /// 1. No thread that touches the region blocks `SIGBUS`, and the program does not replace the
    ///    handler of `SIGBUS` later, except by one that calls ours for addresses that are not its
    ///    own. Otherwise an access ends the process.
    /// 2. Every thread has 32 KiB of stack left when it touches the region. Otherwise the fault
    ///    runs into the guard page, or beyond it in threads that have none.
    /// 3. The region is not touched while the thread is in a signal handler that interrupted this
    ///    crate or the global allocator, nor inside the global allocator.
    /// 4. A thread that touches the region holds no lock that the store's plug-ins take.
    pub unsafe fn fault_in_signal_handler(self) -> Self {
        RegionBuilder { mode: FaultMode::Signal, ..self }
    }

    /// Plants a bug, which the tests of this crate must find.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn plant(self, planted: PlantedBug) -> Self {
        RegionBuilder { planted, ..self }
    }

    /// Maps the region, makes its store and starts its threads. May block.
    ///
    /// # Errors
    ///
    /// [`RegionError`]: a setting is out of its range, the kernel lacks what a region needs, or the
    /// system refuses memory or threads.
    pub fn build(mut self) -> Result<Region, RegionError> {
        let engine = self.build_engine(false)?;
        let server = if self.mode == FaultMode::Signal {
            // SAFETY: (1) the region drops the registration before the engine; (2) the caller of
            // `fault_in_signal_handler` promised it.
            let registered = unsafe { SignalRegistration::new(&engine) };
            FaultServer::Signal { _registration: registered.map_err(RegionError::System)? }
        } else {
            let started = Handlers::start(&engine, self.handler_threads);
            FaultServer::Threads(started.map_err(RegionError::System)?)
        };
        Ok(Region {
            len: self.len,
            server: ManuallyDrop::new(server),
            engine: ManuallyDrop::new(engine),
        })
    }

    /// Reserves address space instead of building a slice: see [`RegionReserve`]. It costs a byte
    /// per page of its length. Faults are served by threads, whatever the mode. May block.
    ///
    /// # Errors
    ///
    /// As for [`build`](Self::build).
    pub fn reserve(mut self) -> Result<RegionReserve, RegionError> {
        self.mode = FaultMode::Threads;
        let engine = self.build_engine(true)?;
        RegionReserve::start(engine, self.handler_threads).map_err(RegionError::System)
    }

    fn build_engine(&mut self, reserved: bool) -> Result<Arc<Engine>, RegionError> {
        let unit = rustix::param::page_size();
        let units = self.len.div_ceil(unit);
        if self.len == 0 || units > MAX_UNITS || units.checked_mul(unit).is_none() {
            return Err(RegionError::Length(self.len));
        }
        if self.handler_threads == 0 {
            return Err(RegionError::NoHandlers);
        }
        let by_signal = self.mode == FaultMode::Signal;
        let mut uffd = Userfault::open(by_signal)?;
        if reserved {
            uffd.renumber(LEAST_NUMBER);
        }
        let store = self.make_store(unit)?;
        let limit = self.limit.unwrap_or(self.len / 2 + LEAST_ABOVE_STORE + store.bytes_held());
        let least = store.bytes_held() + LEAST_ABOVE_STORE;
        if limit < least {
            return Err(RegionError::LimitTooLow { limit, least });
        }
        let residents = Residents::new(units)
            .ok_or_else(|| RegionError::System(std::io::ErrorKind::OutOfMemory.into()))?;
        let engine = Engine::new(EngineParts {
            uffd,
            store,
            residents,
            units,
            unit,
            limit,
            readahead: self.readahead,
            clean_copies: self.clean_copies,
            planted: self.planted,
            reserved,
        });
        Ok(Arc::new(engine.map_err(|(error, locked)| match locked {
            true => RegionError::MemoryLocked,
            false => RegionError::System(error),
        })?))
    }

    fn make_store(&mut self, unit: usize) -> Result<Store<u64, SequentialKeys>, RegionError> {
        let mut builder = Store::<u64>::builder();
        if let Some(configure) = self.configure.take() {
            builder = configure(builder);
        }
        if let Some(spec) = self.spec.take() {
            builder = builder.spec(spec);
        }
        builder
            .block_size(unit)
            .checksums(self.checksums)
            .exclude_from_dumps(true)
            .hasher(SequentialKeys::default())
            .build()
            .map_err(RegionError::Store)
    }
}

impl std::fmt::Debug for RegionBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegionBuilder")
            .field("len", &self.len)
            .field("limit", &self.limit)
            .field("spec", &self.spec)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
