//! Models of an entry's word, explored by loom. A cell stands for the bytes of a place, so that a
//! read, a write or a reuse without an order is an error.
//!
//! Each model says its preemption bound.
#![cfg(zpool_loom)]
#![allow(unsafe_code, reason = "reads and writes loom's cell, which is how loom sees them")]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use zpool_core::internal::sync::Mutex;
use zpool_zsmalloc::models::{
    EntryRef, ExchangeOutcome, Freed, HandleEntry, HazardTable, MagazineSet, PackedLocation,
    PushOutcome, SharedPins, exchange,
};
use zpool_zsmalloc::{ClassConfig, ClassIndex, ClassTable};

/// Two places that an object may be in, a bit for each under a lock as in a class, and the entry of
/// its handle.
struct Pool {
    entry: HandleEntry,
    hazards: HazardTable,
    /// Readers pin, as if no hazard were empty.
    pins_only: bool,
    places: [UnsafeCell<u32>; 2],
    /// Whether each place is claimed.
    bits: Mutex<[bool; 2]>,
    /// Whether the free was finished.
    gone: Mutex<bool>,
}

// SAFETY: the cells are loom's, which checks at run time what this promises.
unsafe impl Sync for Pool {}
// SAFETY: as above.
unsafe impl Send for Pool {}

const OBJECT: u32 = 7;

/// Index of the handle's entry.
const INDEX: u32 = 0;

impl Pool {
    fn with_object(pins_only: bool) -> (Arc<Pool>, u16) {
        let pool = Pool {
            entry: HandleEntry::default(),
            hazards: HazardTable::new(),
            pins_only,
            places: [UnsafeCell::new(OBJECT), UnsafeCell::new(0)],
            bits: Mutex::new([true, false]),
            gone: Mutex::new(false),
        };
        let generation = pool.entry.set_live(PackedLocation(0));
        (Arc::new(pool), generation)
    }

    fn write(&self, place: PackedLocation, value: u32) {
        // SAFETY: loom checks that no other thread reads or writes meanwhile.
        self.places[place.0 as usize].with_mut(|bytes| unsafe { *bytes = value });
    }

    fn look(&self, place: PackedLocation) -> u32 {
        // SAFETY: loom checks that no other thread writes meanwhile.
        self.places[place.0 as usize].with(|bytes| unsafe { *bytes })
    }

    fn claim(&self) -> Option<PackedLocation> {
        let mut bits = self.bits.lock();
        let place = bits.iter().position(|claimed| !claimed)?;
        bits[place] = true;
        Some(PackedLocation(place as u64))
    }

    fn release(&self, place: PackedLocation) {
        assert!(
            std::mem::replace(&mut self.bits.lock()[place.0 as usize], false),
            "released twice"
        );
    }

    fn finish_free(&self, place: PackedLocation) {
        assert!(!std::mem::replace(&mut *self.gone.lock(), true), "freed twice");
        self.release(place);
    }

    /// Does what `PoolCore::read` and the drop of its guard do.
    fn read(&self, generation: u16) {
        if let Some(place) = (!self.pins_only).then(|| self.hazards.publish(INDEX)).flatten() {
            let seen = self.entry.location_if_idle(generation);
            if let Some(at) = seen {
                assert_eq!(self.look(at), OBJECT);
            }
            if !self.hazards.clear(place) {
                self.unpin();
            }
            if seen.is_some() {
                return;
            }
        }
        if let Ok(pinned) = self.entry.pin(generation) {
            assert_eq!(self.look(pinned.location), OBJECT);
            self.unpin();
        }
    }

    /// Does what a read beyond the limit of a word's pins and the drop of its guard do.
    fn read_shared(&self, generation: u16, shared: &SharedPins) {
        if let Ok(pinned) = shared.add(&self.entry, (INDEX, generation), |_| ()) {
            assert_eq!(self.look(pinned.location), OBJECT);
            if let Some(unpinned) = shared.remove(&self.entry, INDEX) {
                unpinned.dead.into_iter().for_each(|place| self.finish_free(place));
            }
        }
    }

    fn unpin(&self) {
        if let Some(place) = self.entry.unpin().dead {
            self.finish_free(place);
        }
    }

    fn unpin_mover(&self) {
        if let Some(place) = self.entry.unpin_mover() {
            self.finish_free(place);
        }
    }

    fn free(&self, generation: u16) {
        if let Freed::Now(place) =
            self.entry.free(generation, INDEX, &self.hazards).expect("freed once")
        {
            self.finish_free(place);
        }
    }

    fn push(&self, magazines: &MagazineSet, class: ClassIndex, place: PackedLocation) {
        self.entry.set_cached(place);
        assert!(
            magazines.push(zpool_core::internal::current_cpu(), class, 0) != PushOutcome::Full,
            "no other thread pushes"
        );
    }

    fn compact(&self) {
        let Ok(from) = self.entry.pin_idle(None) else { return };
        if self.hazards.is_protected(INDEX) {
            return self.unpin_mover();
        }
        let Some(to) = self.claim() else { return self.unpin_mover() };
        self.write(to, self.look(from));
        if self.entry.relocate(from, to) {
            self.release(from);
        } else {
            self.release(to);
            self.unpin_mover();
        }
    }

    /// Writes another object into a free place, as an insert would.
    fn insert(&self) {
        if let Some(place) = self.claim() {
            self.write(place, 99);
        }
    }
}

/// Runs a model with readers that pin, and with readers that publish hazards.
fn both(preemptions: usize, f: impl Fn(bool) + Sync + Send + Copy + 'static) {
    model(preemptions, move || f(true));
    model(preemptions, move || f(false));
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// A reader, the owner's free and compaction meet at one object. It is read whole or not at all,
/// the free is finished once, and it is moved or not. Preemption bound 3.
#[test]
fn pin_against_move_against_free() {
    both(3, |pins_only| {
        let (pool, generation) = Pool::with_object(pins_only);
        let (reader, mover) = (pool.clone(), pool.clone());
        let threads = [
            thread::spawn(move || reader.read(generation)),
            thread::spawn(move || mover.compact()),
        ];
        pool.free(generation);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(*pool.gone.lock(), "the last holder finished the free");
        assert_eq!(*pool.bits.lock(), [false, false]);
    });
}

/// Two readers that share a pin, the owner's free and compaction. The free is finished once, after
/// both. Preemption bound 2.
#[test]
fn shared_pin_against_move_against_free() {
    model(2, || {
        let (pool, generation) = Pool::with_object(true);
        let shared = Arc::new(SharedPins::new());
        let (mover, hazards) = (pool.clone(), [(); 2].map(|()| (pool.clone(), shared.clone())));
        let mut threads: Vec<_> = hazards
            .into_iter()
            .map(|(reader, shared)| thread::spawn(move || reader.read_shared(generation, &shared)))
            .collect();
        threads.push(thread::spawn(move || mover.compact()));
        pool.free(generation);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(*pool.gone.lock(), "the last of them finished the free");
        assert_eq!(*pool.bits.lock(), [false, false]);
    });
}

/// Compaction moves an object while an insert looks for a place and a reader holds the object. The
/// place left behind is reused only after the reader is done with it. Preemption bound 3.
#[test]
fn compaction_against_insert_and_read() {
    both(3, |pins_only| {
        let (pool, generation) = Pool::with_object(pins_only);
        let (reader, mover) = (pool.clone(), pool.clone());
        let threads = [
            thread::spawn(move || reader.read(generation)),
            thread::spawn(move || mover.compact()),
        ];
        pool.insert();
        for thread in threads {
            thread.join().unwrap();
        }
        pool.read(generation);
        assert!(!*pool.gone.lock());
    });
}

/// Two readers of an object that is freed meanwhile. The last one finishes the free, and the place
/// is reused after both. Preemption bound 5: a smaller one does not try the order that needs the
/// Acquire of the last unpin.
#[test]
fn readers_against_free_and_reuse() {
    both(5, |pins_only| {
        let (pool, generation) = Pool::with_object(pins_only);
        let threads = [(); 2].map(|()| {
            let reader = pool.clone();
            thread::spawn(move || reader.read(generation))
        });
        pool.free(generation);
        pool.insert();
        pool.insert();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(*pool.gone.lock());
    });
}

/// A free caches the place while a reader holds the object and an insert pops the cached slot. The
/// next object is written there only after the reader is done, under a new generation. Preemption
/// bound 3.
#[test]
fn cached_slot_against_reader_and_insert() {
    let table = ClassTable::new(ClassConfig::new(4096, 16)).expect("good parameters");
    let class: ClassIndex = table.class_of(1);
    model(3, move || {
        let (pool, generation) = Pool::with_object(true);
        let magazines = Arc::new(MagazineSet::new(1));
        magazines.ensure_allocated(|_| ());
        let (reader, inserter, spare) = (pool.clone(), pool.clone(), magazines.clone());
        let taken = magazines.clone();
        let threads = [
            thread::spawn(move || {
                if let Ok(place) = reader.entry.pin(generation) {
                    assert_eq!(reader.look(place.location), OBJECT);
                    if let Some(place) = reader.entry.unpin().dead {
                        reader.push(&spare, class, place);
                    }
                }
            }),
            thread::spawn(move || {
                if taken.pop(zpool_core::internal::current_cpu(), class).is_some() {
                    let place = inserter.entry.cached();
                    inserter.write(place, 99);
                    assert_ne!(inserter.entry.set_live(place), generation);
                }
            }),
        ];
        if let Freed::Now(place) =
            pool.entry.free(generation, INDEX, &pool.hazards).expect("freed once")
        {
            pool.push(&magazines, class, place);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(pool.entry.pin(generation).is_err());
    });
}

/// Two handles of objects in two places, the second of which is the exchanger's alone. A third
/// place is empty.
struct Two {
    kept: HandleEntry,
    other: HandleEntry,
    hazards: HazardTable,
    places: [UnsafeCell<u32>; 3],
}

// SAFETY: as for `Pool`.
unsafe impl Sync for Two {}
// SAFETY: as for `Pool`.
unsafe impl Send for Two {}

const NEW: u32 = 8;
const OTHER: u32 = 1;

impl Two {
    fn with_objects() -> (Arc<Two>, (u16, u16)) {
        let places = [UnsafeCell::new(OBJECT), UnsafeCell::new(NEW), UnsafeCell::new(0)];
        let (kept, other) = (HandleEntry::default(), HandleEntry::default());
        let generations = (kept.set_live(PackedLocation(0)), other.set_live(PackedLocation(1)));
        (Arc::new(Two { kept, other, hazards: HazardTable::new(), places }), generations)
    }

    fn look(&self, place: PackedLocation) -> u32 {
        // SAFETY: loom checks that no other thread writes meanwhile.
        self.places[place.0 as usize].with(|bytes| unsafe { *bytes })
    }

    fn write(&self, place: PackedLocation, value: u32) {
        // SAFETY: loom checks that no other thread reads or writes meanwhile.
        self.places[place.0 as usize].with_mut(|bytes| unsafe { *bytes = value });
    }

    /// Does what `PoolCore::read` of the kept handle does. It is live throughout, so this returns
    /// one object or the other.
    fn read(&self, generation: u16, pins_only: bool) -> u32 {
        if let Some(place) = (!pins_only).then(|| self.hazards.publish(INDEX)).flatten() {
            let seen = self.kept.location_if_idle(generation).map(|at| self.look(at));
            assert!(self.hazards.clear(place), "it is not freed");
            if let Some(seen) = seen {
                return seen;
            }
        }
        let seen = self.look(self.kept.pin(generation).expect("live throughout").location);
        assert_eq!(self.kept.unpin().dead, None, "it is not freed");
        seen
    }

    /// Does what `PoolCore::exchange` does; then the old object's place is reused. Returns whether
    /// the objects were exchanged.
    fn replace(&self, (kept, other): (u16, u16)) -> bool {
        let kept = EntryRef { entry: &self.kept, index: INDEX, generation: kept };
        let other = EntryRef { entry: &self.other, index: OTHER, generation: other };
        match exchange(kept, other, &self.hazards) {
            ExchangeOutcome::Yes => {
                let freed =
                    self.other.free(other.generation, OTHER, &self.hazards).expect("freed once");
                // Later: by compaction, which needs no handle.
                if let Freed::Now(place) = freed {
                    self.write(place, 99);
                }
                true
            }
            ExchangeOutcome::No => false,
            ExchangeOutcome::Freed(_) => panic!("the kept handle is not freed"),
        }
    }

    /// Does what `Pool::compact` does: moves an entry's object to the third place. Returns the
    /// place left behind.
    fn compact(&self, entry: &HandleEntry, index: u32) -> Option<PackedLocation> {
        let from = entry.pin_idle(None).ok()?;
        let to = PackedLocation(2);
        if !self.hazards.is_protected(index) {
            self.write(to, self.look(from));
            if entry.relocate(from, to) {
                return Some(from);
            }
        }
        if let Some(freed) = entry.unpin_mover() {
            self.write(freed, 99);
        }
        None
    }
}

/// An object is replaced under its handle during a read, and its place is reused. The reader sees
/// one object or the other whole, and the handle is valid throughout. Preemption bound 4.
#[test]
fn exchange_against_reader() {
    both(4, |pins_only| {
        let (pool, generations) = Two::with_objects();
        let reader = pool.clone();
        let thread = thread::spawn(move || {
            let seen = reader.read(generations.0, pins_only);
            assert!(seen == OBJECT || seen == NEW, "{seen}");
        });
        let done = pool.replace(generations);
        thread.join().unwrap();
        assert_eq!(pool.read(generations.0, pins_only), if done { NEW } else { OBJECT });
        assert_eq!(
            pool.other.pin(generations.1).is_ok(),
            !done,
            "the other handle is as before, or free"
        );
    });
}

/// An exchange, while compaction moves the kept object and reuses the place that it leaves.
/// Preemption bound 3.
#[test]
fn exchange_against_move_of_kept() {
    exchange_while_one_is_moved(|pool| (&pool.kept, INDEX));
}

/// An exchange, while compaction moves the other handle's object, before its word is dead or after.
/// A reader of the kept handle finds the object where it is then. Preemption bound 3.
///
/// This does not show that retracting acquires what an unpin or a move released: the fence that
/// loom needs between a store and a load does it here.
#[test]
fn exchange_against_move_of_other() {
    exchange_while_one_is_moved(|pool| (&pool.other, OTHER));
}

fn exchange_while_one_is_moved(moved: fn(&Two) -> (&HandleEntry, u32)) {
    both(3, move |pins_only| {
        let (pool, generations) = Two::with_objects();
        let (reader, mover) = (pool.clone(), pool.clone());
        let threads = [
            thread::spawn(move || {
                let seen = reader.read(generations.0, pins_only);
                assert!(seen == OBJECT || seen == NEW, "{seen}");
            }),
            thread::spawn(move || {
                let (entry, index) = moved(&mover);
                if let Some(left) = mover.compact(entry, index) {
                    mover.write(left, 77);
                }
            }),
        ];
        let done = pool.replace(generations);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(pool.read(generations.0, pins_only), if done { NEW } else { OBJECT });
    });
}

/// A second copy of the kept handle is freed meanwhile, against the contract. Each object's free is
/// finished once, or the object is left under the other handle. Preemption bound 4.
#[test]
fn exchange_against_free() {
    model(4, || {
        let (pool, (kept, other)) = Two::with_objects();
        let stranger = pool.clone();
        let thread =
            thread::spawn(move || match stranger.kept.free(kept, INDEX, &stranger.hazards) {
                Ok(Freed::Now(place)) => Some(place),
                outcome => {
                    assert_eq!(outcome, Ok(Freed::Later), "the exchange does not end its life");
                    None
                }
            });
        let kept = EntryRef { entry: &pool.kept, index: INDEX, generation: kept };
        let named = EntryRef { entry: &pool.other, index: OTHER, generation: other };
        let by_exchange = match exchange(kept, named, &pool.hazards) {
            ExchangeOutcome::Freed(place) => Some(place),
            ExchangeOutcome::Yes | ExchangeOutcome::No => None,
        };
        let by_free = thread.join().unwrap();
        let left = pool.other.pin(other).expect("the other handle is good");
        let taken = by_exchange.or(by_free).expect("the last holder finished the free");
        assert!(by_exchange.is_none() || by_free.is_none(), "and no other thread did");
        assert_ne!(left.location, taken);
    });
}
