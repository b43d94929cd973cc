//! The density of an allocator over time: bytes held over bytes of live payload.

mod allocator_under_test;
mod churn;
mod objects;

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::memory::{Growth, ResidentError};

pub use allocator_under_test::{AllocatorUnderTest, BoxAllocator, PoolAllocator};
pub use churn::{ChurnError, ChurnStage, SlotContents, Slots, churn};
pub use objects::Objects;

/// The seed of every comparison, so that all allocators see the same replacements.
pub const DENSITY_SEED: u64 = 5;

/// The bytes that an allocator holds at four moments, each over the bytes of the objects in it at
/// that moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Density {
    /// Bytes of the objects of the fill.
    pub payload_bytes: u64,
    /// When every slot was filled.
    pub fill: f64,
    /// After four times as many random replacements.
    pub churn: f64,
    /// After half of the objects, chosen at random, were freed.
    pub half_freed: f64,
    /// After it compacted and released what was empty. Equal to `half_freed` for an allocator that
    /// can do neither.
    pub compacted: f64,
    /// Milliseconds that the call to compact took.
    pub compact_ms: f64,
}

/// A line of a report: one allocator on one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DensityRow {
    /// The file, as it was named.
    pub file: String,
    /// The allocator.
    pub allocator: String,
    /// Its density.
    #[serde(flatten)]
    pub density: Density,
}

/// The reason why there is no density. The message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum DensityError {
    /// There is no object.
    NoObjects,
    /// The allocator failed with this message.
    Allocator(String),
    /// An object did not come back as it was.
    Changed {
        /// Its slot.
        slot: usize,
    },
    /// The OS did not report what is resident.
    Resident(ResidentError),
}

/// Puts `objects`, repeated until `n` slots are full, into the allocator that `make` creates, and
/// measures during the procedure of [`churn`].
///
/// Bytes held are the growth of this process' resident memory, so call this in a process of its own
/// ([`crate::Isolated`]). The memory of the procedure itself, including the tokens, is resident
/// before we start to count. Every object is compared at the end.
///
/// # Errors
///
/// See [`DensityError`].
pub fn density<A: AllocatorUnderTest>(
    objects: &Objects,
    n: usize,
    make: impl FnOnce() -> Result<A, String>,
) -> Result<Density, DensityError> {
    if objects.is_empty() || n == 0 {
        return Err(DensityError::NoObjects);
    }
    let contents = SlotContents::empty(n);
    let tokens: Vec<Option<A::Token>> = resident_room(n);
    let growth = Growth::start()?;
    let mut filled =
        FilledSlots { allocator: make().map_err(DensityError::Allocator)?, objects, tokens };
    filled.tokens.extend((0..n).map(|_| None));
    let mut held: [Result<f64, ResidentError>; 3] = [Ok(0.0), Ok(0.0), Ok(0.0)];
    let contents = churn(&mut filled, contents, DENSITY_SEED, |stage, filled, contents| {
        filled.allocator.settle();
        held[stage as usize] = ratio(&growth, filled, contents);
    });
    let contents = contents.map_err(|error| DensityError::Allocator(error.to_string()))?;
    let [fill, churn, half_freed] = held;
    let begun = Instant::now();
    filled.allocator.compact();
    let compact_ms = begun.elapsed().as_secs_f64() * 1e3;
    filled.allocator.trim();
    let compacted = ratio(&growth, &filled, &contents)?;
    filled.verify(&contents)?;
    let payload_bytes = (0..n).map(|slot| filled.object(slot).len() as u64).sum();
    Ok(Density {
        payload_bytes,
        fill: fill?,
        churn: churn?,
        half_freed: half_freed?,
        compacted,
        compact_ms,
    })
}

fn ratio<A: AllocatorUnderTest>(
    growth: &Growth,
    filled: &FilledSlots<'_, A>,
    contents: &SlotContents,
) -> Result<f64, ResidentError> {
    let live: usize = contents.iter().map(|(_, page)| filled.object(page).len()).sum();
    // Nothing allocates before the OS is asked.
    let held = growth.bytes()?;
    Ok(held as f64 / live.max(1) as f64)
}

/// Returns an empty vector whose room is resident.
fn resident_room<T>(n: usize) -> Vec<Option<T>> {
    // Hide both steps from the compiler. It knows that `None` is zero bits and would ask for zeroed
    // memory, which is not resident until it is written.
    let mut room = black_box(Vec::with_capacity(n));
    room.extend((0..n).map(|_| None));
    let mut room = black_box(room);
    room.clear();
    room
}

/// The allocator with an object in each slot.
struct FilledSlots<'a, A: AllocatorUnderTest> {
    allocator: A,
    objects: &'a Objects,
    tokens: Vec<Option<A::Token>>,
}

impl<'a, A: AllocatorUnderTest> FilledSlots<'a, A> {
    /// Returns the object that page `page` stands for.
    fn object(&self, page: usize) -> &'a [u8] {
        self.objects.get(page % self.objects.len())
    }

    fn verify(&self, contents: &SlotContents) -> Result<(), DensityError> {
        let wrong = contents.iter().find(|&(slot, page)| {
            !self.tokens[slot]
                .as_ref()
                .is_some_and(|token| self.allocator.holds(token, self.object(page)))
        });
        wrong.map_or(Ok(()), |(slot, _)| Err(DensityError::Changed { slot }))
    }
}

impl<A: AllocatorUnderTest> Slots for FilledSlots<'_, A> {
    type Error = A::Error;

    fn put(&mut self, slot: usize, page: usize) -> Result<(), A::Error> {
        if self.tokens[slot].is_some() {
            self.remove(slot)?;
        }
        self.tokens[slot] = Some(self.allocator.insert(self.object(page))?);
        Ok(())
    }

    fn remove(&mut self, slot: usize) -> Result<(), A::Error> {
        self.tokens[slot].take().map_or(Ok(()), |token| self.allocator.free(token))
    }
}

impl From<ResidentError> for DensityError {
    fn from(error: ResidentError) -> DensityError {
        DensityError::Resident(error)
    }
}

impl fmt::Display for DensityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObjects => f.write_str("there is no object to keep"),
            Self::Allocator(error) => f.write_str(error),
            Self::Changed { slot } => {
                write!(f, "the object in slot {slot} did not come back as it was")
            }
            Self::Resident(error) => error.fmt(f),
        }
    }
}

/// The message already contains the cause, so there is no `source` (`docs/decisions/0039`).
impl std::error::Error for DensityError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    fn objects() -> Objects {
        let mut objects = Objects::default();
        let mut rng = Rng::new(3);
        for i in 0..500_usize {
            objects.push(&vec![i as u8; 1 + rng.below(4096)]);
        }
        objects
    }

    /// Boxes hold at least the bytes that are in them.
    #[test]
    fn density_of_boxes_is_plausible() {
        let objects = objects();
        let payload: usize = objects.iter().map(<[u8]>::len).sum();
        // Other tests run in this process, so this looks at the shape of the figures only.
        let density = density(&objects, 1200, || Ok(BoxAllocator)).unwrap();
        assert!(
            density.payload_bytes > 2 * payload as u64
                && density.payload_bytes < 3 * payload as u64
        );
        assert!(density.compact_ms >= 0.0 && density.fill.is_finite());
    }

    /// Keeps a different object from the one that it was given.
    struct Confused(usize);

    impl AllocatorUnderTest for Confused {
        type Token = Vec<u8>;
        type Error = &'static str;

        fn insert(&mut self, object: &[u8]) -> Result<Vec<u8>, &'static str> {
            self.0 += 1;
            match self.0 {
                usize::MAX => Err("full"),
                _ => Ok(object.iter().map(|byte| byte ^ 1).collect()),
            }
        }

        fn free(&mut self, _: Vec<u8>) -> Result<(), &'static str> {
            Ok(())
        }

        fn holds(&self, token: &Vec<u8>, bytes: &[u8]) -> bool {
            token == bytes
        }

        fn settle(&mut self) {}
        fn compact(&mut self) {}
        fn trim(&mut self) {}
    }

    /// Objects that come back changed, and an allocator that fails, are errors.
    #[test]
    fn changed_object_is_an_error() {
        let objects = objects();
        assert!(matches!(
            density(&objects, 9, || Ok(Confused(0))),
            Err(DensityError::Changed { .. })
        ));
        let full = density(&objects, 9, || Ok(Confused(usize::MAX - 5))).unwrap_err().to_string();
        assert!(full.ends_with("full"), "{full}");
        let no_pool =
            density::<BoxAllocator>(&objects, 9, || Err("no pool".to_owned())).unwrap_err();
        assert_eq!(no_pool.to_string(), "no pool");
        let none = density(&Objects::default(), 9, || Ok(BoxAllocator)).unwrap_err();
        assert_eq!(none.to_string().lines().count(), 1);
    }
}
