//! The pool that all others are compared with, which is a plain map.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use zpool_core::internal::sync::{Mutex, MutexGuard};
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, HandleMint, PoolConfig, PoolError, PoolId,
    PoolStats, ReadGuard, Violation, ZPool, ZPoolDriver, might_block,
};

/// Makes [`ReferencePool`]s, under the name `reference`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReferenceDriver;

impl ZPoolDriver for ReferenceDriver {
    fn name(&self) -> &str {
        "reference"
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        self.canonical(&config.params)?;
        if config.max_object_len == 0 {
            return Err(CreateError::BadValue {
                name: "max_object_len".to_owned(),
                value: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        Ok(Box::new(ReferencePool::new(config.max_object_len)))
    }
}

/// A map from entry numbers to objects, each in an allocation of its own. It is the oracle of the
/// suites and the first example of a back end.
///
/// Objects lie on the heap, so it charges nothing to a page source. `resident_frames` is 0, and
/// `bytes_held` is what the objects and the map take on the heap, without the overhead of the
/// global allocator. An object that is freed while guards hold it is counted until the last guard
/// is gone, and its memory is freed by the next call that looks. Every method takes the one lock.
#[derive(Debug)]
pub struct ReferencePool {
    mint: HandleMint,
    max_object_len: usize,
    state: Mutex<ReferenceState>,
}

#[derive(Debug, Default)]
struct ReferenceState {
    objects: HashMap<u32, ReferenceObject>,
    /// Objects freed while a guard held them. It has room for every object, so that freeing
    /// allocates nothing.
    zombies: Vec<Arc<[u8]>>,
    payload: usize,
    /// Entry numbers are used in order, so that a number is reused as late as possible.
    next: u32,
    /// The generation of every entry: how often the numbers have wrapped.
    generation: u16,
}

#[derive(Debug)]
struct ReferenceObject {
    generation: u16,
    bytes: Arc<[u8]>,
}

/// The counts before the bytes in the allocation of an `Arc<[u8]>`.
const ARC_HEADER: usize = 2 * size_of::<usize>();

impl ReferencePool {
    /// Creates a pool of objects of up to `max_object_len` bytes.
    pub fn new(max_object_len: usize) -> ReferencePool {
        ReferencePool {
            mint: HandleMint::new(),
            max_object_len,
            state: Mutex::new(ReferenceState::default()),
        }
    }

    /// Locks the state, without the zombies that no guard holds any more.
    fn state(&self) -> MutexGuard<'_, ReferenceState> {
        let mut state = self.state.lock();
        state.drop_unheld_zombies();
        state
    }
}

impl ZPool for ReferencePool {
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
        might_block("ReferencePool::insert");
        let bytes = Arc::from(object);
        let (index, generation) = self.state().add(bytes)?;
        Ok(self.mint.mint(index, generation))
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let state = self.state.lock();
        let object = state.objects.get(&opened.index).filter(|o| o.generation == opened.generation);
        Ok(ReadGuard::shared(object.ok_or(PoolError::StaleHandle)?.bytes.clone()))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let opened = match self.mint.open(&handle) {
            Ok(opened) => opened,
            Err(error) => return Err(FreeError::new(error, handle)),
        };
        if self.state.lock().remove(opened.index, opened.generation) {
            Ok(())
        } else {
            Err(FreeError::new(PoolError::StaleHandle, handle))
        }
    }

    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        let (Ok(one), Ok(another)) = (self.mint.open(handle), self.mint.open(other)) else {
            return false;
        };
        self.state.lock().exchange((one.index, one.generation), (another.index, another.generation))
    }

    fn bytes_held(&self) -> usize {
        self.state().bytes_held()
    }

    fn stats(&self) -> PoolStats {
        let state = self.state();
        let mut stats = PoolStats::default();
        stats.objects = state.objects.len();
        stats.zombies = state.zombies.len();
        stats.payload_bytes = state.payload;
        stats.metadata_bytes = state.metadata();
        stats
    }

    fn validate(&self) -> Result<(), Violation> {
        let state = self.state();
        let live: usize = state.objects.values().map(|o| o.bytes.len()).sum();
        let dead: usize = state.zombies.iter().map(|bytes| bytes.len()).sum();
        if live + dead == state.payload {
            Ok(())
        } else {
            Err(Violation::new(format!(
                "{live} live and {dead} dead bytes, booked {}",
                state.payload
            )))
        }
    }

    fn trim(&self) -> usize {
        might_block("ReferencePool::trim");
        let mut state = self.state();
        let before = state.bytes_held();
        state.objects.shrink_to_fit();
        let room = state.objects.len() + state.zombies.len();
        state.zombies.shrink_to(room);
        before - state.bytes_held()
    }
}

impl Drop for ReferencePool {
    fn drop(&mut self) {
        might_block("ReferencePool::drop");
    }
}

impl ReferenceState {
    /// Puts an object into a free entry, and returns its number and generation.
    fn add(&mut self, bytes: Arc<[u8]>) -> Result<(u32, u16), PoolError> {
        if self.objects.len() >= u32::MAX as usize {
            return Err(PoolError::OutOfMemory);
        }
        self.zombies.reserve(self.objects.len() + 1);
        loop {
            let (index, generation) = (self.next, self.generation);
            self.next = self.next.wrapping_add(1);
            if self.next == 0 {
                self.generation = self.generation.wrapping_add(1);
            }
            if let Entry::Vacant(slot) = self.objects.entry(index) {
                self.payload += bytes.len();
                slot.insert(ReferenceObject { generation, bytes });
                return Ok((index, generation));
            }
        }
    }

    /// Removes an object from its entry. Returns false if it is not there.
    fn remove(&mut self, index: u32, generation: u16) -> bool {
        // Look it up first. A vacant entry would reserve room for itself, and freeing must not
        // allocate.
        if self.objects.get(&index).is_none_or(|object| object.generation != generation) {
            return false;
        }
        let Some(ReferenceObject { bytes, .. }) = self.objects.remove(&index) else { return false };
        debug_assert!(self.zombies.len() < self.zombies.capacity(), "`add` made room");
        self.zombies.push(bytes);
        self.drop_unheld_zombies();
        true
    }

    /// Exchanges the bytes of two entries. Returns false if one is missing, or if a guard holds its
    /// bytes.
    fn exchange(&mut self, one: (u32, u16), another: (u32, u16)) -> bool {
        if one.0 == another.0 {
            return false;
        }
        let [Some(first), Some(second)] = self.objects.get_disjoint_mut([&one.0, &another.0])
        else {
            return false;
        };
        let there = (first.generation, second.generation) == (one.1, another.1);
        // Guards are made under this lock, so none can appear meanwhile.
        let held =
            [&first.bytes, &second.bytes].into_iter().any(|bytes| Arc::strong_count(bytes) > 1);
        if !there || held {
            return false;
        }
        std::mem::swap(&mut first.bytes, &mut second.bytes);
        true
    }

    /// Drops the zombies that no guard holds. Guards are made of live handles only, so a count of 1
    /// stays 1.
    fn drop_unheld_zombies(&mut self) {
        let payload = &mut self.payload;
        self.zombies.retain(|bytes| {
            let held = Arc::strong_count(bytes) > 1;
            *payload -= if held { 0 } else { bytes.len() };
            held
        });
    }

    fn metadata(&self) -> usize {
        // The layout of std's hash map: a power of two of buckets, filled to 7/8, with one control
        // byte each.
        let buckets = match self.objects.capacity() {
            0 => 0,
            capacity => (capacity * 8 / 7).next_power_of_two(),
        };
        size_of::<ReferencePool>()
            + buckets * (size_of::<(u32, ReferenceObject)>() + 1)
            + self.zombies.capacity() * size_of::<Arc<[u8]>>()
            + (self.objects.len() + self.zombies.len()) * ARC_HEADER
    }

    fn bytes_held(&self) -> usize {
        self.payload + self.metadata()
    }
}
