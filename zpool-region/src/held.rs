//! Parts of a region that stay resident.

use std::ops::{Deref, DerefMut, Range};

use crate::engine::Engine;
use crate::error::RegionError;
use crate::region::Region;

/// A part of a region that stays resident while this lives. See [`Region::hold`].
#[derive(Debug)]
pub struct Held<'a> {
    bytes: &'a [u8],
    _units: HeldUnits<'a>,
}

/// A part of a region that stays resident and may be written. See [`Region::hold_mut`].
#[derive(Debug)]
pub struct HeldMut<'a> {
    region: &'a mut Region,
    range: Range<usize>,
    units: Range<usize>,
}

/// Units that are not evicted until this is dropped.
#[derive(Debug)]
struct HeldUnits<'a> {
    engine: &'a Engine,
    units: Range<usize>,
}

impl<'a> HeldUnits<'a> {
    fn new(
        engine: &'a Engine,
        units: Range<usize>,
        write: bool,
    ) -> Result<HeldUnits<'a>, RegionError> {
        if !engine.is_ours() {
            return Err(RegionError::OtherProcess);
        }
        // Held first, then brought in: units that come in after this are not evicted, and units on
        // their way out are waited for.
        engine.residents.lock().hold(units.clone());
        let held = HeldUnits { engine, units: units.clone() };
        for unit in units.clone() {
            if !engine.bring_in(unit, units.end - unit, write) {
                return Err(RegionError::Poisoned { at: unit * engine.unit });
            }
        }
        Ok(held)
    }
}

impl Drop for HeldUnits<'_> {
    fn drop(&mut self) {
        if !self.engine.is_ours() {
            // A forked child has no pages to put away, and its copy of a lock may be held for ever.
            return;
        }
        self.engine.residents.lock().release(&self.units);
        self.engine.refresh_store_bytes();
        self.engine.balance();
    }
}

impl<'a> Held<'a> {
    pub(crate) fn new(region: &'a Region, range: Range<usize>) -> Result<Self, RegionError> {
        let units = region.engine.units_of(&range, region.len);
        let units = HeldUnits::new(&region.engine, units, false)?;
        Ok(Held { bytes: &region[range], _units: units })
    }
}

impl<'a> HeldMut<'a> {
    pub(crate) fn new(region: &'a mut Region, range: Range<usize>) -> Result<Self, RegionError> {
        let units = region.engine.units_of(&range, region.len);
        let held = HeldUnits::new(&region.engine, units.clone(), true)?;
        // The hold passes to the result, whose drop ends it.
        std::mem::forget(held);
        Ok(HeldMut { region, range, units })
    }
}

impl Deref for Held<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Deref for HeldMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.region[self.range.clone()]
    }
}

impl DerefMut for HeldMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.region[self.range.clone()]
    }
}

impl Drop for HeldMut<'_> {
    fn drop(&mut self) {
        drop(HeldUnits { engine: &self.region.engine, units: self.units.clone() });
    }
}
