//! The pin of compaction and of an exchange, and the step that gives an object another place.

use zpool_core::internal::sync::atomic::Ordering;

use super::word::{LIVE, MOVER, Word};
use super::{Content, Slot};

/// Why [`Slot::pin_idle`] did not pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIdle {
    /// There is no live object.
    Gone,
    /// A guard holds it.
    Pinned,
}

impl Slot {
    /// The pin of compaction or of an exchange: only of a live object that no reader has pinned, of
    /// any generation or of this one. The caller then asks
    /// [`Readers::is_announced`](crate::readers::Readers::is_announced), and
    /// [unpins](Self::unpin_mover) if so.
    ///
    /// # Errors
    ///
    /// Says whether the object is there, but pinned.
    pub fn pin_idle(&self, generation: Option<u16>) -> Result<Content, NotIdle> {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        loop {
            let wanted = generation.unwrap_or(word.generation());
            if !word.is_idle(wanted) {
                return Err(if word.is_live(wanted) { NotIdle::Pinned } else { NotIdle::Gone });
            }
            match self.exchange_weak(word, Word(word.0 + MOVER), Ordering::SeqCst) {
                Ok(()) => return Ok(word.content()),
                Err(seen) => word = seen,
            }
        }
    }

    /// Exchanges the caller's pin on the object at `from` for its new place `to`, or for the object
    /// there. False, with the pin still held, if another thread pinned or freed it.
    pub fn relocate(&self, from: Content, to: Content) -> bool {
        // Relaxed: a first guess; the exchange checks it.
        let mut word = Word(self.0.load(Ordering::Relaxed));
        while word.state() == LIVE && word.holds() == MOVER {
            debug_assert_eq!(word.content(), from, "only its holder moves a pinned object");
            let next = Word::new(to.0, u64::from(word.generation()), LIVE, 0);
            match self.exchange_weak(word, next, Ordering::AcqRel) {
                Ok(()) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::readers::Readers;
    use crate::slot::Freed;

    #[test]
    fn a_move_succeeds_only_while_nobody_else_is_there() {
        let slot = Slot::default();
        let generation = slot.publish(Content(1));
        assert_eq!(slot.pin_idle(None), Ok(Content(1)));
        assert!(slot.relocate(Content(1), Content(2)));
        assert_eq!(slot.pin(generation).map(|pinned| pinned.content), Ok(Content(2)));
        assert_eq!(slot.pin_idle(None), Err(NotIdle::Pinned));
        slot.unpin();

        slot.pin_idle(None).unwrap();
        slot.pin(generation).unwrap();
        assert!(!slot.relocate(Content(2), Content(3)));
        assert_eq!((slot.unpin_mover(), slot.unpin().dead), (None, None));

        slot.pin_idle(None).unwrap();
        assert_eq!(slot.free(generation, 0, &Readers::new()), Ok(Freed::Later));
        assert!(!slot.relocate(Content(2), Content(3)));
        assert_eq!(slot.unpin_mover(), Some(Content(2)), "the mover takes the freed object down");
        assert_eq!(slot.pin_idle(None), Err(NotIdle::Gone));
    }
}
