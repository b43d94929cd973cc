//! The state byte of each unit, and its transitions.
//!
//! ```text
//!               fault                filled
//!    Empty ───────────────► Loading ────────► Resident ──► Evicting
//!      ▲      fault          ▲  │ │            ▲   victim   │ │ │
//!      │    Stored ──────────┘  │ │            └────────────┘ │ │
//!      │      ▲                 │ └──► Poisoned    pinned     │ │
//!      │      └─────────────────┴─────────────────────────────┘ │
//!      └────────────────────────────────────── all zeros ───────┘
//! ```
//!
//! In a [reserve](crate::RegionReserve), units begin as `Closed`. Opening one makes it `Empty`, and
//! closing it makes it `Closed` again, each through `Loading` or `Evicting`.
//!
//! `Loading` and `Evicting` have an owner: the thread whose compare-exchange made them. It alone
//! touches the unit's page, block and place in the queues, and ends the state with
//! [`settle`](UnitStates::settle). A thread that finds one of the two sets the bit *waited*, so
//! that the owner wakes it, and does nothing else. `tests/loom_state.rs` has models of this.

use zpool_core::internal::sync::atomic::{AtomicU8, Ordering};

/// State of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum UnitState {
    /// Reads as zeros; there is neither page nor block.
    Empty = 0,
    /// The store has its block; there is no page.
    Stored = 1,
    /// A thread fills the page, or discards the unit.
    Loading = 2,
    /// The page is resident. The store may have a copy of it, which may be stale.
    Resident = 3,
    /// A thread puts the page away.
    Evicting = 4,
    /// The page could not be filled, because the block is unreadable or the kernel has no memory.
    /// Each access raises `SIGBUS`.
    Poisoned = 5,
    /// Not memory of the program: nothing fills it, and readahead ends here.
    Closed = 6,
}

impl UnitState {
    fn of(byte: u8) -> UnitState {
        match byte & !WAITED {
            0 => UnitState::Empty,
            1 => UnitState::Stored,
            2 => UnitState::Loading,
            3 => UnitState::Resident,
            4 => UnitState::Evicting,
            5 => UnitState::Poisoned,
            _ => UnitState::Closed,
        }
    }

    /// Returns whether the unit has an owner, who will settle it.
    pub(crate) fn is_transient(self) -> bool {
        matches!(self, UnitState::Loading | UnitState::Evicting)
    }

    /// Returns whether a claim or a settlement may turn this state into `next`.
    fn may_become(self, next: UnitState) -> bool {
        use UnitState::{Closed, Empty, Evicting, Loading, Poisoned, Resident, Stored};
        matches!(
            (self, next),
            (Empty | Stored | Poisoned | Closed, Loading)
                | (Resident, Evicting)
                | (Loading, Resident | Stored | Empty | Poisoned | Closed)
                | (Evicting, Stored | Resident | Empty | Poisoned | Closed)
        )
    }
}

/// Bit of a state byte: a thread waits for the owner to settle the unit.
const WAITED: u8 = 0x80;

/// The states of all units: a byte each.
#[derive(Debug)]
pub(crate) struct UnitStates(Box<[AtomicU8]>);

impl UnitStates {
    /// Makes the states of `units` units, all of them `state`.
    pub(crate) fn new(units: usize, state: UnitState) -> UnitStates {
        UnitStates((0..units).map(|_| AtomicU8::new(state as u8)).collect())
    }

    /// Returns the number of units.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the state of a unit, which may have changed when the call returns.
    pub(crate) fn get(&self, unit: usize) -> UnitState {
        // Acquire: pairs with `settle`, so that a unit seen `Resident` has its page.
        UnitState::of(self.0[unit].load(Ordering::Acquire))
    }

    /// Makes the caller the owner of a unit, if its state is `from`.
    pub(crate) fn claim(&self, unit: usize, from: UnitState, to: UnitState) -> bool {
        debug_assert!(!from.is_transient() && to.is_transient() && from.may_become(to));
        // Acquire: pairs with the Release of the owner before, whose work on page, block and
        // queues is then complete. A settled unit never has the waited bit.
        self.0[unit]
            .compare_exchange(from as u8, to as u8, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends the caller's ownership. Returns whether a thread waits, which the caller then wakes.
    #[must_use = "a thread that waits must be woken"]
    pub(crate) fn settle(&self, unit: usize, to: UnitState) -> bool {
        // Release: pairs with `claim` and `get`. Acquire is not needed: the waited bit carries no
        // data.
        let before = self.0[unit].swap(to as u8, Ordering::Release);
        debug_assert!(UnitState::of(before).may_become(to), "{before:#x} became {to:?}");
        before & WAITED != 0
    }

    /// Asks the owner of a unit to wake waiting threads. Returns false if the unit no longer has
    /// an owner; the caller then retries.
    pub(crate) fn ask_for_wake(&self, unit: usize) -> bool {
        let state = &self.0[unit];
        let mut seen = state.load(Ordering::Relaxed);
        while UnitState::of(seen).is_transient() {
            // A compare-exchange, so that no settled state ever gets the bit: it would stay there,
            // and `claim` would fail for ever. Relaxed: the caller reads nothing of the unit's.
            let asked = state.compare_exchange_weak(
                seen,
                seen | WAITED,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match asked {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// One owner at a time, and the waited bit lives as long as the ownership.
    #[test]
    fn states_claim_and_settle() {
        let states = UnitStates::new(2, UnitState::Empty);
        assert_eq!(states.get(1), UnitState::Empty);
        assert!(states.claim(1, UnitState::Empty, UnitState::Loading));
        assert!(!states.claim(1, UnitState::Empty, UnitState::Loading));
        assert!(states.ask_for_wake(1));
        assert_eq!(states.get(1), UnitState::Loading);
        assert!(states.settle(1, UnitState::Resident));
        assert!(!states.ask_for_wake(1));
        assert!(states.claim(1, UnitState::Resident, UnitState::Evicting));
        assert!(!states.settle(1, UnitState::Stored));
        assert_eq!(states.get(0), UnitState::Empty);
    }
}
