//! [`Handles`]: the one way to entries, hazards and pins for the rest of the crate.

use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::{Handle, HandleMint, PoolError, PoolId};

use super::entries::EntryTable;
use super::entry::{
    EntryRef, EntrySnapshot, ExchangeOutcome, HandleEntry, Killed, Location, LocationLayout,
    NotIdle, PackedLocation, ReaderPin, Unpinned, exchange,
};
use super::hazards::{Hazard, HazardTable};
use super::shared_pins::SharedPins;
use crate::geometry::size_class::ClassTable;

/// All handles of a pool.
#[derive(Debug)]
pub(crate) struct Handles {
    mint: HandleMint,
    layout: LocationLayout,
    entries: EntryTable,
    hazards: HazardTable,
    shared_pins: SharedPins,
    /// Bytes on the heap.
    metadata: AtomicUsize,
}

/// A hazard or a pin that keeps an object in its place for a guard, as a number that fits the
/// guard's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuardHold(u32);

impl GuardHold {
    /// A pin of the guard's own.
    pub(crate) const PIN: GuardHold = GuardHold(0);
    /// A share of the pin that guards beyond the limit have in common. No hazard has this number.
    const SHARED_PIN: GuardHold = GuardHold(u32::MAX);

    #[inline]
    pub(crate) fn to_bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u32) -> GuardHold {
        GuardHold(bits)
    }
}

/// Result of [`Handles::protect`].
#[derive(Debug)]
pub(crate) enum Protection {
    /// The hazard keeps the object where it is.
    Done(PackedLocation, GuardHold),
    /// No hazard protects it: the caller has to pin.
    Unavailable,
    /// Like [`Unavailable`](Self::Unavailable), but the hazard became a pin of the entry, which the
    /// caller takes back first.
    Converted,
}

impl Handles {
    pub(crate) fn new(table: &ClassTable) -> Handles {
        let (entries, hazards) = (EntryTable::new(), HazardTable::new());
        let bytes = entries.base_bytes() + hazards.bytes();
        Handles {
            mint: HandleMint::new(),
            layout: LocationLayout::of(table),
            entries,
            hazards,
            shared_pins: SharedPins::new(),
            metadata: AtomicUsize::new(bytes),
        }
    }

    pub(crate) fn pool_id(&self) -> PoolId {
        self.mint.pool_id()
    }

    /// Returns how many zspages a location can name.
    pub(crate) fn nameable_zspages(&self) -> u32 {
        self.layout.zspages()
    }

    /// Returns the bytes on the heap.
    pub(crate) fn metadata_bytes(&self) -> usize {
        // Relaxed: statistics only; so below.
        self.metadata.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn pack(&self, at: Location, slack: u32) -> PackedLocation {
        self.layout.pack(at, slack)
    }

    /// Returns where an object is, and by how many bytes its slot is longer.
    #[inline]
    pub(crate) fn unpack(&self, location: PackedLocation) -> (Location, u32) {
        self.layout.unpack(location)
    }

    /// Opens a handle of this pool.
    ///
    /// # Errors
    ///
    /// Those of [`HandleMint::open`]; [`PoolError::StaleHandle`] if its entry was never allocated.
    #[inline]
    pub(crate) fn open(&self, handle: &Handle) -> Result<EntryRef<'_>, PoolError> {
        let opened = self.mint.open(handle)?;
        let entry = self.entries.get(opened.index).ok_or(PoolError::StaleHandle)?;
        Ok(EntryRef { entry, index: opened.index, generation: opened.generation })
    }

    /// Makes the handle of an entry that was just made live.
    #[inline]
    pub(crate) fn mint(&self, index: u32, generation: u16) -> Handle {
        self.mint.mint(index, generation)
    }

    /// Returns the entry, if it was ever allocated.
    #[inline]
    pub(crate) fn entry(&self, index: u32) -> Option<&HandleEntry> {
        self.entries.get(index)
    }

    /// Allocates a free entry for the caller alone, on CPU `cpu`. Returns `None` if the table is
    /// full or the heap refuses.
    pub(crate) fn allocate(&self, cpu: usize) -> Option<(u32, &HandleEntry)> {
        self.entries.allocate(cpu, |grown| {
            self.metadata.fetch_add(grown, Ordering::Relaxed);
        })
    }

    /// Frees an entry that is the caller's alone and whose object is gone, on CPU `cpu`.
    pub(crate) fn release(&self, cpu: usize, index: u32, entry: &HandleEntry) {
        self.entries.release(cpu, index, entry);
    }

    /// Frees many entries, as [`release`](Self::release) does, under one lock.
    pub(crate) fn release_many(&self, indices: impl Iterator<Item = u32> + Clone) {
        self.entries.release_many(indices);
    }

    /// Returns how many entries were ever allocated: at least as many as there are objects.
    pub(crate) fn used(&self) -> usize {
        self.entries.used()
    }

    /// Iterates over all entries ever allocated. Nothing keeps them as they were seen.
    pub(crate) fn walk(&self) -> impl Iterator<Item = (u32, EntrySnapshot)> {
        self.entries.iter().map(|(index, entry)| (index, entry.snapshot()))
    }

    /// Returns the state that an entry had a moment ago.
    pub(crate) fn snapshot(&self, index: u32) -> Option<EntrySnapshot> {
        Some(self.entries.get(index)?.snapshot())
    }

    /// Returns the entries that a hazard protected a moment ago.
    pub(crate) fn protected(&self) -> Vec<u32> {
        self.hazards.published()
    }

    /// Returns whether a live object was unread a moment ago: no pin, no hazard.
    pub(crate) fn is_idle(&self, index: u32) -> bool {
        matches!(self.snapshot(index), Some(EntrySnapshot::Live { pins: 0, .. }))
            && !self.hazards.is_protected(index)
    }

    /// Publishes a hazard for a reader.
    #[inline]
    pub(crate) fn protect(
        &self,
        EntryRef { entry, index, generation }: EntryRef<'_>,
    ) -> Protection {
        let Some(hazard) = self.hazards.publish(index) else { return Protection::Unavailable };
        if let Some(location) = entry.location_if_idle(generation) {
            return Protection::Done(location, GuardHold(hazard.to_number()));
        }
        match self.hazards.clear(hazard) {
            true => Protection::Unavailable,
            false => Protection::Converted,
        }
    }

    /// Pins the entry for a reader: with a pin of its own, or with a share of the common one.
    ///
    /// # Errors
    ///
    /// [`PoolError::StaleHandle`]; [`PoolError::TooManyReaders`] if the heap refuses room for a
    /// share.
    #[inline]
    pub(crate) fn pin(
        &self,
        EntryRef { entry, index, generation }: EntryRef<'_>,
    ) -> Result<(ReaderPin, GuardHold), PoolError> {
        match entry.pin(generation) {
            Ok(pinned) => Ok((pinned, GuardHold::PIN)),
            Err(PoolError::TooManyReaders) => {
                let grown = |bytes| {
                    self.metadata.fetch_add(bytes, Ordering::Relaxed);
                };
                let pinned = self.shared_pins.add(entry, (index, generation), grown)?;
                Ok((pinned, GuardHold::SHARED_PIN))
            }
            Err(error) => Err(error),
        }
    }

    /// Clears the hazard that `hold` stands for. Returns whether that ends the hold on the object.
    /// If not, `hold` is a pin, or was converted into one, and the caller [unpins](Self::unpin).
    #[inline]
    pub(crate) fn clear(&self, hold: GuardHold) -> bool {
        match Hazard::from_number(hold.0).filter(|_| hold != GuardHold::SHARED_PIN) {
            Some(hazard) => self.hazards.clear(hazard),
            None => false,
        }
    }

    /// Takes a pin back. Returns `None` if other guards still share it.
    pub(crate) fn unpin(
        &self,
        index: u32,
        entry: &HandleEntry,
        hold: GuardHold,
    ) -> Option<Unpinned> {
        match hold {
            GuardHold::SHARED_PIN => self.shared_pins.remove(entry, index),
            _ => Some(entry.unpin()),
        }
    }

    /// Ends an object's life for all readers to come: see [`HandleEntry::kill`].
    #[inline]
    pub(crate) fn kill(&self, entry: EntryRef<'_>) -> Result<Killed, PoolError> {
        entry.entry.kill(entry.generation)
    }

    /// Converts the hazards of an entry that the caller has just killed into pins.
    #[inline]
    pub(crate) fn convert_hazards(&self, index: u32, entry: &HandleEntry) {
        self.hazards.convert_to_pins(index, entry);
    }

    /// Returns whether no hazard is published at all. If so, nothing protects the entries that the
    /// caller has just killed.
    pub(crate) fn no_hazards(&self) -> bool {
        self.hazards.is_empty()
    }

    /// Exchanges the objects of two handles: see [`exchange`].
    pub(crate) fn exchange(&self, kept: EntryRef<'_>, other: EntryRef<'_>) -> ExchangeOutcome {
        exchange(kept, other, &self.hazards)
    }

    /// Pins an unread object, so that compaction can copy it.
    ///
    /// # Errors
    ///
    /// The error is the reason: the object is gone, or pinned by a reader.
    pub(crate) fn pin_for_move(&self, index: u32) -> Result<MovePin<'_>, NotIdle> {
        let entry = self.entries.get(index).ok_or(NotIdle::Gone)?;
        let location = entry.pin_idle(None)?;
        Ok(MovePin { hazards: &self.hazards, entry, index, location })
    }

    /// Frees unused heap memory of the table of shared pins.
    pub(crate) fn trim(&self) {
        self.metadata.fetch_sub(self.shared_pins.trim(), Ordering::Relaxed);
    }
}

/// The pin of compaction on one object. It has to be [taken back](Self::release), or consumed by
/// the [move](Self::relocate).
#[derive(Debug)]
#[must_use = "a pin that is dropped stays"]
pub(crate) struct MovePin<'a> {
    hazards: &'a HazardTable,
    entry: &'a HandleEntry,
    index: u32,
    location: PackedLocation,
}

impl MovePin<'_> {
    /// Returns where the object is.
    pub(crate) fn location(&self) -> PackedLocation {
        self.location
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Returns whether a hazard protects the object. Asked after pinning: a reader that comes later
    /// sees the pin, and pins as well.
    pub(crate) fn is_protected(&self) -> bool {
        self.hazards.is_protected(self.index)
    }

    /// Exchanges the pin and the old place for the new place. Returns `false`, with the pin still
    /// held, if a reader pinned the object or its owner freed it.
    pub(crate) fn relocate(&self, to: PackedLocation) -> bool {
        self.entry.relocate(self.location, to)
    }

    /// Takes the pin back. Returns the location if the object was freed meanwhile and this was its
    /// last pin: then the caller finishes the free.
    pub(crate) fn release(&self) -> Option<PackedLocation> {
        self.entry.unpin_mover()
    }
}
