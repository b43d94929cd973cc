//! Which threads wait for which flights, in all caches of the process: found cycles are errors
//! instead of deadlocks.
//!
//! A thread waits for one flight at most, and a flight has one leader, so a cycle is found by
//! following one chain: the flight's leader, the flight that it waits for, and so on. All under one
//! lock, which is taken only by threads that wait.

use zpool_core::internal::TryArc;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::sync::{Mutex, thread};

use crate::error::CacheError;
use crate::flight::{Flight, same};

/// A thread, and the flight that it waits for.
static WAITS: Mutex<Vec<(thread::ThreadId, TryArc<Flight>)>> = Mutex::new(Vec::new());

/// A wait of this thread, noted while this lives.
pub(super) struct Wait<'f> {
    flight: &'f TryArc<Flight>,
}

impl<'f> Wait<'f> {
    /// Notes that this thread waits for `flight`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Recursive`] if the flight, by whatever chain, waits for this thread;
    /// [`CacheError::OutOfMemory`].
    pub(super) fn begin(flight: &'f TryArc<Flight>) -> Result<Wait<'f>, CacheError> {
        let this = thread::current().id();
        let mut waits = WAITS.lock();
        let mut at = TryArc::clone(flight);
        loop {
            if at.leader == this {
                return Err(CacheError::Recursive);
            }
            // Acquire: pairs with the Release in `Flight::end`. A flight that is over holds up no
            // thread: the one that waits for it is about to continue.
            let next = waits.iter().find(|(thread, waited_for)| {
                *thread == at.leader && !waited_for.is_over.load(Ordering::Acquire)
            });
            match next {
                Some((_, waited_for)) => at = TryArc::clone(waited_for),
                None => break,
            }
        }
        waits.try_reserve(1).map_err(|_| CacheError::OutOfMemory)?;
        waits.push((this, TryArc::clone(flight)));
        Ok(Wait { flight })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let this = thread::current().id();
        let mut waits = WAITS.lock();
        let at =
            waits.iter().position(|(thread, flight)| *thread == this && same(flight, self.flight));
        let ended = at.map(|at| waits.swap_remove(at));
        drop(waits);
        drop(ended);
    }
}
