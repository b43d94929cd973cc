//! Single flight: concurrent misses of one key compute its value once.
//!
//! ```text
//!   join(key) ─► no flight: Leader ─► look again ─► load() ─► store unless stale ─► land(bytes)
//!            └─► a flight:  Follower ─► wait ─► landed: the bytes; no value: join again
//!
//!   remove(key), insert(key) ─► flight of this key: stale, so that its value is not stored
//! ```
//!
//! A flight ends when its leader's guard is dropped, by a return, an error or a panic of the
//! loader. Flights are few (one per running loader), so a stripe keeps them in a plain list.

mod waits;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::{Duration, Instant};

use zpool_core::internal::TryArc;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex, thread};
use zpool_core::might_block;

use crate::error::CacheError;
use crate::flight::waits::Wait;

/// Lists of flights, so that threads that miss different keys seldom meet.
const STRIPES: usize = 32;

/// A flight in a stripe, with its key.
type Listed<K> = (K, TryArc<Flight>);

/// The flights of a cache.
pub(crate) struct FlightTable<K> {
    stripes: [Mutex<Vec<Listed<K>>>; STRIPES],
    hasher: RandomState,
    /// Flights in all stripes: removals and stores look no further while there are none.
    len: AtomicUsize,
}

/// One computation.
#[derive(Debug)]
pub(crate) struct Flight {
    leader: thread::ThreadId,
    state: Mutex<FlightState>,
    ended: Condvar,
    /// Written before `ended` is signalled, for threads that look for cycles.
    is_over: AtomicBool,
    /// Whether the key was removed or stored since the flight began.
    stale: AtomicBool,
}

#[derive(Debug, Default)]
struct FlightState {
    followers: usize,
    outcome: Option<Outcome>,
}

/// The outcome of a flight.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Landed(TryArc<Vec<u8>>),
    /// The loader failed or panicked, there was no memory for a copy of its value, or no thread was
    /// waiting when the value was stored. Look up again.
    NoValue,
}

/// Result of [`FlightTable::join`].
pub(crate) enum Joined<'t, K: Eq> {
    /// The caller computes the value, and then lands or drops the guard.
    Leader(LeaderGuard<'t, K>),
    /// Another thread computes it.
    Follower(TryArc<Flight>),
    /// There is no memory to note a flight: the caller computes the value for itself.
    Alone,
}

impl<K> FlightTable<K> {
    pub(crate) fn new() -> FlightTable<K> {
        FlightTable {
            stripes: std::array::from_fn(|_| Mutex::new(Vec::new())),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }

    fn stripe<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.hasher.hash_one(key) as usize % STRIPES
    }

    /// Marks the flight of `key`, if there is one: its value must not be stored any more.
    #[inline]
    pub(crate) fn invalidate<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // SeqCst, and in `join`: either this sees the flight, or the flight begins after this
        // removal or store, and its loader reads what was there after it.
        if self.len.load(Ordering::SeqCst) > 0 {
            let stripe = self.stripes[self.stripe(key)].lock();
            if let Some((_, flight)) = stripe.iter().find(|(other, _)| other.borrow() == key) {
                flight.mark_stale();
            }
        }
    }

    /// Marks all flights.
    pub(crate) fn invalidate_all(&self) {
        if self.len.load(Ordering::SeqCst) > 0 {
            for stripe in &self.stripes {
                stripe.lock().iter().for_each(|(_, flight)| flight.mark_stale());
            }
        }
    }
}

impl<K: Eq> FlightTable<K> {
    /// Joins the flight of `key`, or begins one. The key is made only then, with no lock held.
    pub(crate) fn join<Q>(&self, key: &Q) -> Joined<'_, K>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let number = self.stripe(key);
        if let Some(flight) = find(&self.stripes[number].lock(), key) {
            return Joined::Follower(flight);
        }
        let owned = key.to_owned();
        let Ok(flight) = TryArc::try_new(Flight::new()) else { return Joined::Alone };
        let mut stripe = self.stripes[number].lock();
        if let Some(flight) = find(&stripe, key) {
            return Joined::Follower(flight);
        }
        if stripe.try_reserve(1).is_err() {
            return Joined::Alone;
        }
        self.len.fetch_add(1, Ordering::SeqCst);
        stripe.push((owned, TryArc::clone(&flight)));
        Joined::Leader(LeaderGuard { table: self, stripe: number, flight })
    }
}

fn find<K, Q>(stripe: &[Listed<K>], key: &Q) -> Option<TryArc<Flight>>
where
    K: Borrow<Q>,
    Q: Eq + ?Sized,
{
    let listed = stripe.iter().find(|(other, _)| other.borrow() == key);
    listed.map(|(_, flight)| TryArc::clone(flight))
}

impl Flight {
    fn new() -> Flight {
        Flight {
            leader: thread::current().id(),
            state: Mutex::new(FlightState::default()),
            ended: Condvar::new(),
            is_over: AtomicBool::new(false),
            stale: AtomicBool::new(false),
        }
    }

    fn mark_stale(&self) {
        // Release: pairs with the Acquire in `is_stale`. A removal marks the flight before it locks
        // the entry's shard, another store marks it under that lock, and the flight's own store
        // asks under that lock. So if the flight's store comes last, it sees the mark.
        self.stale.store(true, Ordering::Release);
    }

    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    fn end(&self, outcome: impl FnOnce(usize) -> Outcome) {
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome(state.followers));
            // Release: pairs with the Acquire in `waits`.
            self.is_over.store(true, Ordering::Release);
            self.ended.notify_all();
        }
    }
}

/// Waits until another thread's flight ends, at most `max_wait`.
///
/// # Errors
///
/// [`CacheError::Recursive`] if the flight waits for this thread, [`CacheError::WaitedTooLong`],
/// [`CacheError::OutOfMemory`].
pub(crate) fn wait_for(
    flight: &TryArc<Flight>,
    max_wait: Option<Duration>,
) -> Result<Outcome, CacheError> {
    might_block("waiting for a value that another thread computes");
    let mut state = flight.state.lock();
    if let Some(outcome) = &state.outcome {
        return Ok(outcome.clone());
    }
    // From here on the leader keeps its bytes for this thread.
    state.followers += 1;
    drop(state);
    let waited = Wait::begin(flight).and_then(|_wait| {
        let end = max_wait.and_then(|wait| Some((Instant::now().checked_add(wait)?, wait)));
        let mut state = flight.state.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return Ok(outcome.clone());
            }
            match end {
                None => flight.ended.wait(&mut state),
                Some((end, wait)) => {
                    if flight.ended.wait_until(&mut state, end).timed_out()
                        && state.outcome.is_none()
                    {
                        return Err(CacheError::WaitedTooLong(wait));
                    }
                }
            }
        }
    });
    flight.state.lock().followers -= 1;
    waited
}

/// The right to compute a value. Its drop ends the flight, whatever happened.
pub(crate) struct LeaderGuard<'t, K: Eq> {
    table: &'t FlightTable<K>,
    stripe: usize,
    flight: TryArc<Flight>,
}

impl<K: Eq> LeaderGuard<'_, K> {
    /// Returns whether the key was removed or stored since the flight began.
    pub(crate) fn is_stale(&self) -> bool {
        self.flight.is_stale()
    }

    /// Ends the flight with its value, which is copied if a thread waits for it.
    pub(crate) fn land(self, bytes: &[u8]) {
        // Delisted first: a thread that comes from here on finds the value in the store.
        self.delist();
        self.flight.end(|followers| match followers {
            0 => Outcome::NoValue,
            _ => copy(bytes).map_or(Outcome::NoValue, Outcome::Landed),
        });
    }

    fn delist(&self) {
        let mut stripe = self.table.stripes[self.stripe].lock();
        let at = stripe.iter().position(|(_, flight)| same(flight, &self.flight));
        let listed = at.map(|at| stripe.swap_remove(at));
        if listed.is_some() {
            self.table.len.fetch_sub(1, Ordering::SeqCst);
        }
        drop(stripe);
        // The key's drop is foreign.
        drop(listed);
    }
}

impl<K: Eq> Drop for LeaderGuard<'_, K> {
    fn drop(&mut self) {
        // The flight ends even if the drop of its key panics.
        let flight = TryArc::clone(&self.flight);
        let _end = EndOnDrop(&flight);
        self.delist();
    }
}

/// Ends a flight without a value, unless it has ended.
struct EndOnDrop<'f>(&'f Flight);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end(|_| Outcome::NoValue);
    }
}

/// Copies bytes, if there is memory.
fn copy(bytes: &[u8]) -> Option<TryArc<Vec<u8>>> {
    let mut copied = Vec::new();
    copied.try_reserve_exact(bytes.len()).ok()?;
    copied.extend_from_slice(bytes);
    TryArc::try_new(copied).ok()
}

fn same(one: &TryArc<Flight>, other: &TryArc<Flight>) -> bool {
    let (one, other): (&Flight, &Flight) = (one, other);
    std::ptr::eq(one, other)
}

impl<K> fmt::Debug for FlightTable<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut flights, mut waiting) = (0, 0);
        for stripe in &self.stripes {
            for (_, flight) in stripe.lock().iter() {
                flights += 1;
                waiting += flight.state.lock().followers;
            }
        }
        write!(f, "{flights} flights, {waiting} threads wait")
    }
}
