//! The walk that compares everything which should agree.
//!
//! It holds all class locks at once, in order of size, so that no slot is claimed or released
//! meanwhile. Reads, frees and inserts from magazines go on. A freed object keeps its bit until its
//! class can be locked, and a claimed slot has its bit before a handle names it. So each handle
//! must have its bit, but a bit need not have a handle.

use std::collections::HashMap;

use zpool_core::Violation;
use zpool_core::internal::sync::MutexGuard;

use super::core::PoolCore;
use crate::class::{Class, ClassState};
use crate::handle::entry::PackedLocation;

impl PoolCore {
    /// See `ZPool::validate`.
    pub(crate) fn validate(&self) -> Result<(), Violation> {
        self.drain_magazines(None);
        // A class that is created during the walk is not locked, and may explain any difference.
        // Then the walk proves nothing.
        loop {
            let classes = self.classes.iter().count();
            let result = self.walk();
            if result.is_ok() || self.classes.iter().count() == classes {
                return result.and_then(|()| self.check_charged());
            }
        }
    }

    /// Checks that resident frames are charged. The two figures are read without a lock, so one
    /// comparison proves little: frames may go back in between.
    fn check_charged(&self) -> Result<(), Violation> {
        let source = self.zspages.source();
        for _ in 0..8 {
            let resident = self.classes.resident_frames();
            if source.charged_frames() >= resident {
                return Ok(());
            }
        }
        let (charged, resident) = (source.charged_frames(), self.classes.resident_frames());
        Err(Violation::new(format!("source: {charged} frames charged, {resident} resident")))
    }

    fn walk(&self) -> Result<(), Violation> {
        let mut classes = Vec::new();
        self.classes.lock_all(&mut classes);
        for (class, state) in &classes {
            state.validate(class, &self.zspages)?;
        }
        let sum = |of: fn(&ClassState) -> usize| {
            classes.iter().map(|(_, state)| of(state)).sum::<usize>()
        };
        let figures = self.figures();
        for (what, kept, counted) in [
            ("frames", figures.frames, sum(|state| state.resident())),
            ("idle frames", figures.idle, sum(|state| state.idle())),
        ] {
            if kept != counted {
                return Err(Violation::new(format!(
                    "pool, {what}: {kept} kept, {counted} counted"
                )));
            }
        }
        self.check_handles(&classes)
    }

    /// Checks that each handle names a claimed slot of a zspage that lives, that no two name one
    /// slot, and that the bytes lie in resident frames.
    fn check_handles(
        &self,
        classes: &[(&Class, MutexGuard<'_, ClassState>)],
    ) -> Result<(), Violation> {
        let mut named = HashMap::new();
        for (index, snapshot) in self.handles.walk() {
            let Some(location) = snapshot.named() else { continue };
            let (at, slack) = self.handles.unpack(location);
            let wrong = |why: &str| Violation::new(format!("handle entry {index}, {at:?}: {why}"));
            let zspage = self.zspages.get(at.zspage).ok_or_else(|| wrong("no such zspage"))?;
            let state = classes.iter().find(|(class, _)| class.index() == zspage.class());
            let state = &state.ok_or_else(|| wrong("no such class"))?.1;
            let local = state
                .local_of(zspage, at.zspage)
                .ok_or_else(|| wrong("the zspage is not a member of its class"))?;
            if !state.is_claimed(local, at.slot) {
                return Err(wrong("the slot is not claimed"));
            }
            let len = state.slot_map().slot_bytes.checked_sub(slack).filter(|&len| len > 0);
            let len = len.ok_or_else(|| wrong("the slack exceeds the slot"))?;
            if !state.is_resident(local, at.slot, len) {
                return Err(wrong("bytes in a frame that is not resident"));
            }
            if let Some(other) = named.insert((at.zspage, at.slot), index)
                && self.both_name(other, index, location)
            {
                return Err(wrong(&format!("handle entry {other} names it too")));
            }
        }
        Ok(())
    }

    /// Returns whether two entries name one object. A move or an exchange changes an object's place
    /// or entry in one step, but the walk takes longer and may meet the object twice. So the
    /// entries are asked often enough that the object would have to come and go between any two
    /// questions.
    fn both_name(&self, one: u32, other: u32, location: PackedLocation) -> bool {
        let names = |index| {
            self.handles.snapshot(index).is_some_and(|entry| entry.named() == Some(location))
        };
        (0..64).all(|_| names(one) && names(other))
    }
}
