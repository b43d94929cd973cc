//! The density procedure: how the bytes held change while objects come and go.

use std::fmt;

use crate::random::Rng;

/// Replacements per slot in the second stage.
const REPLACEMENTS_PER_SLOT: usize = 4;

/// Numbered slots that each hold one page, such as a store with integer keys or an allocator with a
/// table of handles.
pub trait Slots {
    /// The reason why a slot could not be filled or emptied.
    type Error;

    /// Puts page `page` into `slot` and replaces what is there.
    ///
    /// # Errors
    ///
    /// The implementer's own. The procedure ends with it.
    fn put(&mut self, slot: usize, page: usize) -> Result<(), Self::Error>;

    /// Empties `slot`, which holds a page.
    ///
    /// # Errors
    ///
    /// The implementer's own. The procedure ends with it.
    fn remove(&mut self, slot: usize) -> Result<(), Self::Error>;
}

/// The stages of the procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChurnStage {
    /// Every slot `i` holds page `i`.
    Filled,
    /// After four times as many replacements as there are slots: a random slot, a random page.
    Churned,
    /// After every slot was emptied with probability one half.
    HalfFreed,
}

/// The page that each slot holds, to verify the slots against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotContents {
    pages: Vec<Option<usize>>,
}

/// The error of a [`Slots`], with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChurnError<E> {
    /// The stage that was under way.
    pub stage: ChurnStage,
    /// The slot.
    pub slot: usize,
    /// The implementer's error.
    pub error: E,
}

/// Fills the empty slots of `contents`, replaces pages, and frees half. Calls `at_stage` after each
/// stage and returns what is left.
///
/// The sequence depends only on the number of slots and `seed`, so all allocators see the same one.
/// `at_stage` gets the slots to measure and the contents to verify against. After the last stage it
/// may compact and measure again. After an error in a slot the procedure ends, and the implementer
/// decides what that slot holds. Makes no heap call of its own.
///
/// # Errors
///
/// The first error of `slots`.
pub fn churn<S: Slots>(
    slots: &mut S,
    mut contents: SlotContents,
    seed: u64,
    mut at_stage: impl FnMut(ChurnStage, &mut S, &SlotContents),
) -> Result<SlotContents, ChurnError<S::Error>> {
    let mut rng = Rng::new(seed);
    let n = contents.pages.len();

    for slot in 0..n {
        contents.put(slots, ChurnStage::Filled, slot, slot)?;
    }
    at_stage(ChurnStage::Filled, slots, &contents);

    for _ in 0..REPLACEMENTS_PER_SLOT * n {
        let (slot, page) = (rng.below(n), rng.below(n));
        contents.put(slots, ChurnStage::Churned, slot, page)?;
    }
    at_stage(ChurnStage::Churned, slots, &contents);

    for slot in 0..n {
        if rng.chance(0.5) {
            contents.remove(slots, slot)?;
        }
    }
    at_stage(ChurnStage::HalfFreed, slots, &contents);
    Ok(contents)
}

impl SlotContents {
    /// Creates `n` empty slots. Their memory is resident from here on, so that it does not grow
    /// during a measurement.
    pub fn empty(n: usize) -> SlotContents {
        let mut pages = vec![Some(0); n];
        std::hint::black_box(&mut pages).fill(None);
        SlotContents { pages }
    }

    /// Returns the page in `slot`, or `None` if it is empty.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn page(&self, slot: usize) -> Option<usize> {
        self.pages[slot]
    }

    /// Iterates over all slots that hold a page, with the page.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        self.pages.iter().enumerate().filter_map(|(slot, page)| Some((slot, (*page)?)))
    }

    fn put<S: Slots>(
        &mut self,
        slots: &mut S,
        stage: ChurnStage,
        slot: usize,
        page: usize,
    ) -> Result<(), ChurnError<S::Error>> {
        slots.put(slot, page).map_err(|error| ChurnError { stage, slot, error })?;
        self.pages[slot] = Some(page);
        Ok(())
    }

    fn remove<S: Slots>(&mut self, slots: &mut S, slot: usize) -> Result<(), ChurnError<S::Error>> {
        slots.remove(slot).map_err(|error| ChurnError {
            stage: ChurnStage::HalfFreed,
            slot,
            error,
        })?;
        self.pages[slot] = None;
        Ok(())
    }
}

impl ChurnStage {
    /// Returns a word for tables and JSON: `filled`, `churned`, `half_freed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filled => "filled",
            Self::Churned => "churned",
            Self::HalfFreed => "half_freed",
        }
    }
}

impl fmt::Display for ChurnStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<E: fmt::Display> fmt::Display for ChurnError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}, slot {}: {}", self.stage, self.slot, self.error)
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for ChurnError<E> {}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A map that counts its calls and fails at one of them.
    #[derive(Default)]
    struct MapSlots {
        held: HashMap<usize, usize>,
        puts: usize,
        fail_at_put: Option<usize>,
    }

    impl Slots for MapSlots {
        type Error = &'static str;

        fn put(&mut self, slot: usize, page: usize) -> Result<(), Self::Error> {
            self.puts += 1;
            if self.fail_at_put == Some(self.puts) {
                return Err("full");
            }
            self.held.insert(slot, page);
            Ok(())
        }

        fn remove(&mut self, slot: usize) -> Result<(), Self::Error> {
            self.held.remove(&slot).map(drop).ok_or("was empty")
        }
    }

    fn agree(map: &MapSlots, contents: &SlotContents) {
        assert_eq!(contents.iter().collect::<HashMap<_, _>>(), map.held);
    }

    /// The three stages come in order, and the contents match the slots at each.
    #[test]
    fn stages_come_in_order() {
        let mut map = MapSlots::default();
        let mut stages = Vec::new();
        let left = churn(&mut map, SlotContents::empty(1000), 5, |stage, map, contents| {
            agree(map, contents);
            stages.push((stage.name(), map.puts, map.held.len()));
        })
        .unwrap();
        agree(&map, &left);
        assert_eq!(stages[0], ("filled", 1000, 1000));
        assert_eq!(stages[1], ("churned", 5000, 1000));
        let (name, puts, held) = stages[2];
        assert_eq!((name, puts), ("half_freed", 5000));
        assert!((400..600).contains(&held), "{held}");
        assert_eq!((0..1000).filter(|&slot| left.page(slot).is_some()).count(), held);
    }

    #[test]
    fn churn_replaces_most_pages() {
        let mut map = MapSlots::default();
        let mut same = 0;
        churn(&mut map, SlotContents::empty(1000), 5, |stage, _, contents| {
            if stage == ChurnStage::Churned {
                same = contents.iter().filter(|(slot, page)| slot == page).count();
            }
        })
        .unwrap();
        // A slot escapes 4n draws with probability e^-4, about 18 of 1000.
        assert!(same < 60, "{same}");
    }

    #[test]
    fn a_seed_names_a_sequence() {
        let run = |seed| {
            churn(&mut MapSlots::default(), SlotContents::empty(300), seed, |_, _, _| ()).unwrap()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }

    /// An error ends the procedure and names its stage and slot.
    #[test]
    fn error_ends_churn_with_its_place() {
        let mut map = MapSlots { fail_at_put: Some(101), ..MapSlots::default() };
        let mut stages = 0;
        let error =
            churn(&mut map, SlotContents::empty(100), 5, |_, _, _| stages += 1).unwrap_err();
        assert_eq!((error.stage, error.error, stages), (ChurnStage::Churned, "full", 1));
        assert_eq!(error.to_string(), format!("stage churned, slot {}: full", error.slot));
    }

    #[test]
    fn no_slots_are_no_work() {
        let mut stages = 0;
        churn(&mut MapSlots::default(), SlotContents::empty(0), 5, |_, _, _| stages += 1).unwrap();
        assert_eq!(stages, 3);
    }
}
