//! Models of the slot's word, explored by loom: a cell stands for the bytes of a place, so that a read, a write or a reuse without order is an error.
//!
//! Bounds stand at the model.
#![cfg(zpool_loom)]
#![allow(unsafe_code, reason = "reads and writes loom's cell, which is how loom sees them")]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use zpool_core::internal::sync::Mutex;
use zpool_zsmalloc::overflow::Overflow;
use zpool_zsmalloc::readers::Readers;
use zpool_zsmalloc::slot::{Content, Exchanged, Freed, Named, Slot, exchange};
use zpool_zsmalloc::spares::{Parked, Spares};
use zpool_zsmalloc::{ClassConfig, ClassIndex, ClassTable};

/// Two places that an object may be in, a bit for each under a lock as in a class, and the word of its handle.
struct Pool {
    slot: Slot,
    readers: Readers,
    /// Readers pin, as if no place were empty.
    pins_only: bool,
    places: [UnsafeCell<u32>; 2],
    /// Claimed?
    bits: Mutex<[bool; 2]>,
    /// The object was taken down.
    gone: Mutex<bool>,
}

// SAFETY: the cells are loom's, which checks at run time what this promises.
unsafe impl Sync for Pool {}
// SAFETY: as above.
unsafe impl Send for Pool {}

const OBJECT: u32 = 7;

/// Of the handle's slot.
const INDEX: u32 = 0;

impl Pool {
    fn with_object(pins_only: bool) -> (Arc<Pool>, u16) {
        let pool = Pool {
            slot: Slot::default(),
            readers: Readers::new(),
            pins_only,
            places: [UnsafeCell::new(OBJECT), UnsafeCell::new(0)],
            bits: Mutex::new([true, false]),
            gone: Mutex::new(false),
        };
        let generation = pool.slot.publish(Content(0));
        (Arc::new(pool), generation)
    }

    fn write(&self, place: Content, value: u32) {
        // SAFETY: loom checks that nobody reads or writes meanwhile.
        self.places[place.0 as usize].with_mut(|bytes| unsafe { *bytes = value });
    }

    fn look(&self, place: Content) -> u32 {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.places[place.0 as usize].with(|bytes| unsafe { *bytes })
    }

    fn claim(&self) -> Option<Content> {
        let mut bits = self.bits.lock();
        let place = bits.iter().position(|claimed| !claimed)?;
        bits[place] = true;
        Some(Content(place as u64))
    }

    fn release(&self, place: Content) {
        assert!(
            std::mem::replace(&mut self.bits.lock()[place.0 as usize], false),
            "released twice"
        );
    }

    fn take_down(&self, place: Content) {
        assert!(!std::mem::replace(&mut *self.gone.lock(), true), "taken down twice");
        self.release(place);
    }

    /// As `Inner::read` and the drop of its guard.
    fn read(&self, generation: u16) {
        if let Some(place) = (!self.pins_only).then(|| self.readers.announce(INDEX)).flatten() {
            let seen = self.slot.look(generation);
            if let Some(at) = seen {
                assert_eq!(self.look(at), OBJECT);
            }
            if !self.readers.withdraw(place) {
                self.unpin();
            }
            if seen.is_some() {
                return;
            }
        }
        if let Ok(pinned) = self.slot.pin(generation) {
            assert_eq!(self.look(pinned.content), OBJECT);
            self.unpin();
        }
    }

    /// As a read beyond the limit of a word's pins, and the drop of its guard.
    fn read_shared(&self, generation: u16, overflow: &Overflow) {
        if let Ok(pinned) = overflow.add(&self.slot, (INDEX, generation), |_| ()) {
            assert_eq!(self.look(pinned.content), OBJECT);
            if let Some(unpinned) = overflow.remove(&self.slot, INDEX) {
                unpinned.dead.into_iter().for_each(|place| self.take_down(place));
            }
        }
    }

    fn unpin(&self) {
        if let Some(place) = self.slot.unpin().dead {
            self.take_down(place);
        }
    }

    fn unpin_mover(&self) {
        if let Some(place) = self.slot.unpin_mover() {
            self.take_down(place);
        }
    }

    fn free(&self, generation: u16) {
        if let Freed::Now(place) =
            self.slot.free(generation, INDEX, &self.readers).expect("freed once")
        {
            self.take_down(place);
        }
    }

    fn park(&self, spares: &Spares, class: ClassIndex, place: Content) {
        self.slot.set_parked(place);
        assert!(
            spares.park(zpool_core::internal::current_cpu(), class, 0) != Parked::No,
            "nobody else parks"
        );
    }

    fn compact(&self) {
        let Ok(from) = self.slot.pin_idle(None) else { return };
        if self.readers.is_announced(INDEX) {
            return self.unpin_mover();
        }
        let Some(to) = self.claim() else { return self.unpin_mover() };
        self.write(to, self.look(from));
        if self.slot.relocate(from, to) {
            self.release(from);
        } else {
            self.release(to);
            self.unpin_mover();
        }
    }

    /// Another object is put where there is room, as an insert would.
    fn insert(&self) {
        if let Some(place) = self.claim() {
            self.write(place, 99);
        }
    }
}

/// With readers that pin, and with readers that announce themselves.
fn both(preemptions: usize, f: impl Fn(bool) + Sync + Send + Copy + 'static) {
    model(preemptions, move || f(true));
    model(preemptions, move || f(false));
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// A reader, the owner's free and compaction meet at one object: read whole or not at all, taken down once, moved or not. Preemption bound 3; 0.2 s.
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
        assert!(*pool.gone.lock(), "whoever was last took it down");
        assert_eq!(*pool.bits.lock(), [false, false]);
    });
}

/// Two readers that share a pin, the owner's free and compaction: taken down once, after both.
/// Preemption bound 2.
#[test]
fn shared_pin_against_move_against_free() {
    model(2, || {
        let (pool, generation) = Pool::with_object(true);
        let overflow = Arc::new(Overflow::new());
        let (mover, readers) = (pool.clone(), [(); 2].map(|()| (pool.clone(), overflow.clone())));
        let mut threads: Vec<_> = readers
            .into_iter()
            .map(|(reader, overflow)| {
                thread::spawn(move || reader.read_shared(generation, &overflow))
            })
            .collect();
        threads.push(thread::spawn(move || mover.compact()));
        pool.free(generation);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(*pool.gone.lock(), "the last of them took it down");
        assert_eq!(*pool.bits.lock(), [false, false]);
    });
}

/// Compaction moves an object while an insert looks for a place and a reader looks at the object: the place left behind is reused only
/// after the reader is done with it. Preemption bound 3; 0.2 s.
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

/// Two readers of an object that is freed meanwhile: the last one takes it down, and its place is reused after both. Preemption bound 5; 11 s:
/// with fewer, the order that needs the fence of the last unpin is not tried.
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

/// A free parks the place as a spare while a reader looks at the object and an insert takes the spare: the next object is written there only after the
/// reader is done, under a new generation. Preemption bound 3; 0.1 s.
#[test]
fn a_spare_against_a_reader_and_an_insert() {
    let table = ClassTable::new(ClassConfig::new(4096, 16)).expect("good parameters");
    let class: ClassIndex = table.class_of(1);
    model(3, move || {
        let (pool, generation) = Pool::with_object(true);
        let spares = Arc::new(Spares::new(1));
        spares.prepare(|_| ());
        let (reader, inserter, spare) = (pool.clone(), pool.clone(), spares.clone());
        let taken = spares.clone();
        let threads = [
            thread::spawn(move || {
                if let Ok(place) = reader.slot.pin(generation) {
                    assert_eq!(reader.look(place.content), OBJECT);
                    if let Some(place) = reader.slot.unpin().dead {
                        reader.park(&spare, class, place);
                    }
                }
            }),
            thread::spawn(move || {
                if taken.take(zpool_core::internal::current_cpu(), class).is_some() {
                    let place = inserter.slot.parked();
                    inserter.write(place, 99);
                    assert_ne!(inserter.slot.publish(place), generation);
                }
            }),
        ];
        if let Freed::Now(place) =
            pool.slot.free(generation, INDEX, &pool.readers).expect("freed once")
        {
            pool.park(&spares, class, place);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(pool.slot.pin(generation).is_err());
    });
}

/// Two handles of objects in two places, of which the second is the exchanger's alone; a third place is empty.
struct Two {
    kept: Slot,
    other: Slot,
    readers: Readers,
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
        let (kept, other) = (Slot::default(), Slot::default());
        let generations = (kept.publish(Content(0)), other.publish(Content(1)));
        (Arc::new(Two { kept, other, readers: Readers::new(), places }), generations)
    }

    fn look(&self, place: Content) -> u32 {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.places[place.0 as usize].with(|bytes| unsafe { *bytes })
    }

    fn write(&self, place: Content, value: u32) {
        // SAFETY: loom checks that nobody reads or writes meanwhile.
        self.places[place.0 as usize].with_mut(|bytes| unsafe { *bytes = value });
    }

    /// As `Inner::read`: of the kept handle, which is live throughout, so this gives one object or the other.
    fn read(&self, generation: u16, pins_only: bool) -> u32 {
        if let Some(place) = (!pins_only).then(|| self.readers.announce(INDEX)).flatten() {
            let seen = self.kept.look(generation).map(|at| self.look(at));
            assert!(self.readers.withdraw(place), "nobody frees it");
            if let Some(seen) = seen {
                return seen;
            }
        }
        let seen = self.look(self.kept.pin(generation).expect("live throughout").content);
        assert_eq!(self.kept.unpin().dead, None, "nobody frees it");
        seen
    }

    /// As `Inner::exchange`; then the old object's place is used again. Says whether it was done.
    fn replace(&self, (kept, other): (u16, u16)) -> bool {
        let kept = Named { slot: &self.kept, index: INDEX, generation: kept };
        let other = Named { slot: &self.other, index: OTHER, generation: other };
        match exchange(kept, other, &self.readers) {
            Exchanged::Yes => {
                let freed =
                    self.other.free(other.generation, OTHER, &self.readers).expect("freed once");
                // Later: by compaction, which needs no handle.
                if let Freed::Now(place) = freed {
                    self.write(place, 99);
                }
                true
            }
            Exchanged::No => false,
            Exchanged::Freed(_) => panic!("nobody frees the kept handle"),
        }
    }

    /// As `Pool::compact`: moves a slot's object to the third place. Gives the place that is left.
    fn compact(&self, slot: &Slot, index: u32) -> Option<Content> {
        let from = slot.pin_idle(None).ok()?;
        let to = Content(2);
        if !self.readers.is_announced(index) {
            self.write(to, self.look(from));
            if slot.relocate(from, to) {
                return Some(from);
            }
        }
        if let Some(freed) = slot.unpin_mover() {
            self.write(freed, 99);
        }
        None
    }
}

/// An object is replaced under its handle while somebody reads it, and its place is used again: the reader sees the one or the other whole, and the handle is
/// good throughout. Preemption bound 4; 0.01 s.
#[test]
fn an_exchange_against_a_reader() {
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

/// The same while compaction moves the object and uses the place that it leaves. Preemption bound 3; 0.3 s.
#[test]
fn an_exchange_against_a_move_and_a_reader() {
    exchange_while_one_is_moved(|pool| (&pool.kept, INDEX));
}

/// The same with the other handle's object, which compaction meets before it is out of sight or after, and which a reader of the kept one finds where it is then.
/// Preemption bound 3; 0.2 s. (That retracting acquires what an unpin or a move released is not shown: the fence that loom needs between a step and a look does it here.)
#[test]
fn an_exchange_against_a_move_of_the_other() {
    exchange_while_one_is_moved(|pool| (&pool.other, OTHER));
}

fn exchange_while_one_is_moved(moved: fn(&Two) -> (&Slot, u32)) {
    both(3, move |pins_only| {
        let (pool, generations) = Two::with_objects();
        let (reader, mover) = (pool.clone(), pool.clone());
        let threads = [
            thread::spawn(move || {
                let seen = reader.read(generations.0, pins_only);
                assert!(seen == OBJECT || seen == NEW, "{seen}");
            }),
            thread::spawn(move || {
                let (slot, index) = moved(&mover);
                if let Some(left) = mover.compact(slot, index) {
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

/// Somebody who should not (it takes a second handle of that name) frees the kept handle meanwhile: each object is taken down once or left under the other handle.
/// Preemption bound 4; 0.01 s.
#[test]
fn an_exchange_against_a_free() {
    model(4, || {
        let (pool, (kept, other)) = Two::with_objects();
        let stranger = pool.clone();
        let thread =
            thread::spawn(move || match stranger.kept.free(kept, INDEX, &stranger.readers) {
                Ok(Freed::Now(place)) => Some(place),
                outcome => {
                    assert_eq!(outcome, Ok(Freed::Later), "the exchange does not end its life");
                    None
                }
            });
        let kept = Named { slot: &pool.kept, index: INDEX, generation: kept };
        let named = Named { slot: &pool.other, index: OTHER, generation: other };
        let by_exchange = match exchange(kept, named, &pool.readers) {
            Exchanged::Freed(place) => Some(place),
            Exchanged::Yes | Exchanged::No => None,
        };
        let by_free = thread.join().unwrap();
        let left = pool.other.pin(other).expect("the other handle is good");
        let taken = by_exchange.or(by_free).expect("whoever was last took it down");
        assert!(by_exchange.is_none() || by_free.is_none(), "and nobody else");
        assert_ne!(left.content, taken);
    });
}
