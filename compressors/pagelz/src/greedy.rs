//! Finds matches greedily: at each position it tries two candidates, the place where a hash of the
//! next bytes was seen last, and the last offset again.

use crate::format::{FIRST_OFFSET, MIN_OFFSET};
use crate::search::{
    HashSlot, SHORTEST, equal_before, equal_until, five_zeros, hash, is_match, step, word,
};

/// A match that repeats the last offset is taken unless another one is longer by more than this:
/// its offset takes no bytes.
const REPEAT_ADVANTAGE: usize = 2;

/// Calls `with` for each match, as [`Matcher::find`](crate::matcher::Matcher::find) says.
pub(crate) fn find_greedily<E: HashSlot, const BITS: u32>(
    block: &[u8],
    table: &mut [E],
    mut with: impl FnMut(usize, usize, usize, usize),
) -> usize {
    let Some(limit) = block.len().checked_sub(8) else { return 0 };
    let table = &mut table[..1 << BITS];
    table.fill(E::ZERO);
    let (mut position, mut anchor, mut last) = (MIN_OFFSET, 0, FIRST_OFFSET);
    while position < limit {
        let here = word(block, position);
        let slot = &mut table[hash::<BITS>(here)];
        // A nearer candidate means a run of a short pattern, which also repeats after 8 bytes, or
        // soon will.
        let candidate = slot.get().min(position - MIN_OFFSET);
        *slot = E::of(position);
        let repeats = five_zeros(here ^ word(block, position - last));
        let offset = position - candidate;
        // An entry that was never set is 0, and is compared like any other.
        let hit = is_match(here ^ word(block, candidate), offset);
        if !hit && repeats == 0 {
            position += step(position, anchor);
            continue;
        }
        let ahead = (repeats.trailing_zeros() / 8) as usize;
        let (start, end);
        if repeats != 0 && (ahead == 0 || !hit) {
            start = position + ahead;
            end = equal_until(block, start + SHORTEST, last);
        } else {
            let before = equal_before(block, position, candidate).min(position - anchor);
            let found = equal_until(block, position + SHORTEST, offset);
            let repeated = match repeats {
                0 => 0,
                _ => equal_until(block, position + ahead + SHORTEST, last),
            };
            if repeated + REPEAT_ADVANTAGE >= found + before + ahead {
                (start, end) = (position + ahead, repeated);
            } else {
                (start, end) = (position - before, found);
                last = offset;
            }
        }
        with(anchor, start - anchor, last, end - start);
        (position, anchor) = (end, end);
        if position < limit {
            let inside = position - 2;
            table[hash::<BITS>(word(block, inside))] = E::of(inside);
        }
    }
    anchor
}
