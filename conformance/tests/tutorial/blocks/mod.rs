//! A pool that takes its memory from a page source. Objects of a class lie in blocks, in cells of a
//! power of two, and never move.

mod accounts;
mod layout;

use std::sync::Arc;

use accounts::Accounts;
use layout::Class;
use zpool_core::internal::sync::Mutex;
use zpool_core::page::{OutOfFrames, PageSource, Run};
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, HandleMint, Pins, PoolConfig, PoolError, PoolId,
    PoolStats, ReadGuard, Violation, ZPool, ZPoolDriver, might_block,
};

/// Makes pools of blocks, under the name `blocks`. No parameters.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlocksDriver;

impl ZPoolDriver for BlocksDriver {
    fn name(&self) -> &str {
        "blocks"
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        self.canonical(&config.params)?;
        let max_object_len = config.max_object_len;
        if !(1..=1 << 16).contains(&max_object_len) {
            return Err(CreateError::BadValue {
                name: "max_object_len".to_owned(),
                value: max_object_len.to_string(),
                expected: "1 to 65536".to_owned(),
            });
        }
        let (mint, source) = (HandleMint::new(), config.source.clone());
        Ok(Box::new(Blocks { mint, source, max_object_len, accounts: Mutex::default() }))
    }
}

/// # Invariants
///
/// 1. A cell with a live object or a zombie is in a run, is not written, and its run is not
///    released. Its block is in use, and `take_runs` leaves such blocks alone, except in `drop`,
///    when no guard is left.
/// 2. A free cell has no reader, because a zombie becomes free with its last guard.
#[derive(Debug)]
pub struct Blocks {
    mint: HandleMint,
    source: Arc<dyn PageSource>,
    max_object_len: usize,
    accounts: Mutex<Accounts>,
}

impl ZPool for Blocks {
    fn id(&self) -> PoolId {
        self.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.max_object_len)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        match object.len() {
            0 => return Err(PoolError::EmptyObject),
            len if len > self.max_object_len => {
                return Err(PoolError::TooLarge { len, max: self.max_object_len });
            }
            _ => {}
        }
        let class = Class::of(object.len());
        loop {
            let mut accounts = self.accounts.lock();
            if let Some((number, generation)) = accounts.take(object.len()) {
                let place = accounts.place(number);
                // SAFETY: (1) the cell was free until now (invariant 2), and the lock keeps other
                // threads from taking it.
                unsafe { place.run.write(place.offset, object) };
                return Ok(self.mint.mint(number as u32, generation));
            }
            // The source may block, so hold no lock meanwhile (N6). Another thread may take the new
            // cells first, so try again.
            let full = accounts.is_full();
            drop(accounts);
            if full {
                return Err(PoolError::OutOfMemory);
            }
            let run =
                self.new_run(class).inspect_err(|_| self.accounts.lock().failed_inserts += 1)?;
            self.accounts.lock().add(class, run, class.frames(self.source.frame_size()));
        }
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let mut accounts = self.accounts.lock();
        let number = accounts.find(opened)?;
        accounts.pin(number)?;
        let place = accounts.place(number);
        // SAFETY: (1) until the guard unpins it, the cell has a live object or a zombie: invariant
        // 1.
        let bytes = unsafe { place.run.slice(place.offset, place.len) };
        Ok(ReadGuard::pinned(bytes, self, number as u64))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let mut accounts = self.accounts.lock();
        match self.mint.open(&handle).and_then(|opened| accounts.find(opened)) {
            Ok(number) => accounts.remove(number),
            Err(error) => return Err(FreeError::new(error, handle)),
        }
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        let accounts = self.accounts.lock();
        accounts.frames * self.source.frame_size() + self.metadata(&accounts)
    }

    fn stats(&self) -> PoolStats {
        let accounts = self.accounts.lock();
        let mut stats = PoolStats::default();
        stats.objects = accounts.objects;
        stats.zombies = accounts.zombies;
        stats.payload_bytes = accounts.payload;
        stats.rounding_bytes = accounts.in_cells - accounts.payload;
        stats.fragmentation_bytes = accounts.frames * self.source.frame_size() - accounts.in_cells;
        stats.metadata_bytes = self.metadata(&accounts);
        stats.resident_frames = accounts.frames;
        stats.failed_inserts = accounts.failed_inserts;
        stats
    }

    fn validate(&self) -> Result<(), Violation> {
        self.accounts.lock().recount().map_err(Violation::new)
    }

    fn trim(&self) -> usize {
        might_block("Blocks::trim");
        let runs = self.accounts.lock().take_runs(false);
        self.give_back(runs)
    }
}

impl Pins for Blocks {
    fn unpin(&self, token: u64) {
        self.accounts.lock().unpin(token as usize);
    }
}

impl Blocks {
    /// Makes a charged run for a block of `class`.
    fn new_run(&self, class: Class) -> Result<Run, OutOfFrames> {
        might_block("Blocks::insert");
        let frames = class.frames(self.source.frame_size());
        let run = self.source.reserve(frames)?;
        if let Err(refused) = self.source.charge(frames) {
            // SAFETY: (1) it came from there; (2) no other code has seen it.
            unsafe { self.source.release(run) };
            return Err(refused);
        }
        Ok(run)
    }

    /// Releases runs that were taken out of the tables. Returns the bytes.
    fn give_back(&self, runs: Vec<Run>) -> usize {
        let bytes: usize = runs.iter().map(Run::len).sum();
        let frames = bytes / self.source.frame_size();
        // SAFETY: (1) they came from there; (2) no cell in them is live or a zombie (invariant 1),
        // and no handle leads to them any more.
        unsafe { self.source.release_all(&mut runs.into_iter()) };
        self.source.uncharge(frames);
        self.accounts.lock().frames -= frames;
        bytes
    }

    fn metadata(&self, accounts: &Accounts) -> usize {
        size_of::<Blocks>() + accounts.metadata()
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        might_block("Blocks::drop");
        let runs = self.accounts.lock().take_runs(true);
        self.give_back(runs);
    }
}
