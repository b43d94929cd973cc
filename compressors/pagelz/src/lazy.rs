//! Finds matches lazily: at each position it takes the best of several candidates, and then looks
//! whether the next position has a better one.
//!
//! The best match is the one that saves the most bits, as far as those can be known before the
//! streams are coded.

use crate::format::{FIRST_OFFSET, MIN_OFFSET, OffsetKind};
use crate::search::{
    HashSlot, SHORTEST, equal_before, equal_until, five_zeros, hash, is_match, step, word,
};

/// Positions that are kept for each hash, the last one first.
pub(crate) const WAYS: usize = 2;

/// A match of this length is taken without a look at the next position.
const LONG: usize = 32;

/// Bits that a literal takes in a coded stream, and that a token takes with an offset of each kind:
/// means over coded pages, rounded.
const LITERAL_BITS: usize = 5;
const SEQUENCE_BITS: [usize; OffsetKind::ALL.len()] = [7, 14, 16, 22];

/// A match that saves no more bits than this is not worth the time to decode it.
const LEAST_SAVING: usize = 6;

/// A match that could be taken.
#[derive(Debug, Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    offset: usize,
    /// Bits saved, less [`LEAST_SAVING`]; 0 if it is not worth taking.
    saving: usize,
}

impl Found {
    const NONE: Found = Found { start: 0, end: 0, offset: 0, saving: 0 };

    #[inline(always)]
    fn new(start: usize, end: usize, offset: usize, last: usize) -> Found {
        let (kind, _) = OffsetKind::of(offset, last);
        let cost = SEQUENCE_BITS[kind as usize] + LEAST_SAVING;
        let saving = ((end - start) * LITERAL_BITS).saturating_sub(cost);
        Found { start, end, offset, saving }
    }

    #[inline(always)]
    fn is_long(&self) -> bool {
        self.end - self.start >= LONG
    }
}

/// Calls `with` for each match, as [`Matcher::find`](crate::matcher::Matcher::find) says.
pub(crate) fn find_lazily<E: HashSlot, const BITS: u32>(
    block: &[u8],
    table: &mut [E],
    mut with: impl FnMut(usize, usize, usize, usize),
) -> usize {
    let Some(limit) = block.len().checked_sub(8) else { return 0 };
    let table = &mut table[..WAYS << BITS];
    table.fill(E::ZERO);
    let (mut position, mut anchor, mut last) = (MIN_OFFSET, 0, FIRST_OFFSET);
    while position < limit {
        let mut best = best_at::<E, BITS>(block, table, position, anchor, last);
        if best.saving == 0 {
            position += step(position, anchor);
            continue;
        }
        while !best.is_long() && position + 1 < limit {
            position += 1;
            let next = best_at::<E, BITS>(block, table, position, anchor, last);
            if next.saving <= best.saving {
                break;
            }
            best = next;
        }
        last = best.offset;
        with(anchor, best.start - anchor, last, best.end - best.start);
        // Every other position inside, and the one that the greedy search notes as well.
        let end = best.end.min(limit + 2);
        for inside in (position + 1..end.saturating_sub(2)).step_by(2) {
            note::<E, BITS>(table, word(block, inside), inside);
        }
        (position, anchor) = (best.end, best.end);
        if position < limit {
            note::<E, BITS>(table, word(block, position - 2), position - 2);
        }
    }
    anchor
}

/// Notes a position, and returns those that had the same hash before.
#[inline(always)]
fn note<E: HashSlot, const BITS: u32>(table: &mut [E], here: u64, position: usize) -> [E; WAYS] {
    let at = WAYS * hash::<BITS>(here);
    let seen = [table[at], table[at + 1]];
    table[at..at + WAYS].copy_from_slice(&[E::of(position), seen[0]]);
    seen
}

/// Returns the best match at a position: one that repeats the last offset there or up to three
/// bytes further, or one of those that the table has.
#[inline(always)]
fn best_at<E: HashSlot, const BITS: u32>(
    block: &[u8],
    table: &mut [E],
    position: usize,
    anchor: usize,
    last: usize,
) -> Found {
    let here = word(block, position);
    let candidates = note::<E, BITS>(table, here, position);
    let mut best = Found::NONE;
    let repeats = five_zeros(here ^ word(block, position - last));
    if repeats != 0 {
        let start = position + (repeats.trailing_zeros() / 8) as usize;
        best = Found::new(start, equal_until(block, start + SHORTEST, last), last, last);
        if best.is_long() {
            return best;
        }
    }
    for candidate in candidates {
        let candidate = candidate.get().min(position - MIN_OFFSET);
        let offset = position - candidate;
        if is_match(here ^ word(block, candidate), offset) {
            let before = equal_before(block, position, candidate).min(position - anchor);
            let end = equal_until(block, position + SHORTEST, offset);
            let found = Found::new(position - before, end, offset, last);
            if found.saving > best.saving {
                best = found;
            }
        }
    }
    best
}
