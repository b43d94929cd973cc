//! The walk that compares everything which should agree.

use zpool_core::Violation;

use crate::buddy::{BuddyState, BuddyWord};
use crate::geometry::{BuddyIndex, BuddySide, Chunks, Geometry, PageIndex, SIDES};
use crate::page_list::{LinkSet, List, PageEntry, PageGroup};
use crate::table::RunTable;

use super::{FullnessRow, ZbudState};

/// Compares lists, entries, buddies and sums, under the pool's lock. It allows for what happens
/// without the lock: buddies that are claimed, isolated pages, and guards that come and go.
pub(crate) fn validate(
    state: &ZbudState,
    table: &RunTable,
    geometry: Geometry,
) -> Result<(), Violation> {
    let mut seen = Totals::default();
    for page in state.pages.all() {
        check_page(state, table, geometry, page, &mut seen)?;
    }
    seen.compare(state)?;
    check_lists(state, &seen)
}

/// Sums of the walk.
#[derive(Default)]
struct Totals {
    objects: usize,
    zombies: usize,
    payload: usize,
    chunks: usize,
    resident: usize,
    rows: [FullnessRow; 3],
    aged: usize,
    vacant: usize,
    empty: usize,
    unbuddied: usize,
}

impl Totals {
    fn compare(&self, state: &ZbudState) -> Result<(), Violation> {
        let counts = state.counts;
        let pairs = [
            ("objects", self.objects, counts.objects),
            ("zombies", self.zombies, counts.zombies),
            ("payload bytes", self.payload, counts.payload),
            ("chunks", self.chunks, counts.chunks),
            ("resident frames", self.resident, counts.resident),
            ("pages by age", self.aged, state.by_age.len()),
            ("vacant pages", self.vacant, state.vacant.len()),
            ("empty pages", self.empty, state.empty.len()),
        ];
        for (what, counted, booked) in pairs {
            if counted != booked {
                return Err(Violation::new(format!("{what}: {booked} kept, {counted} counted")));
            }
        }
        if self.rows != counts.rows {
            return Err(Violation::new(format!(
                "rows: {:?} counted, {:?} kept",
                self.rows, counts.rows
            )));
        }
        Ok(())
    }
}

fn check_page(
    state: &ZbudState,
    table: &RunTable,
    geometry: Geometry,
    page: PageIndex,
    seen: &mut Totals,
) -> Result<(), Violation> {
    let entry = &state.pages[page];
    let wrong = |what: String| Err(Violation::new(format!("{page:?}, {entry:?}: {what}")));
    let mut claimed = false;
    for side in SIDES {
        let Some((_, buddy)) = table.buddy(BuddyIndex::new(page, side)) else {
            return wrong("has no buddies".to_owned());
        };
        let word = buddy.word();
        check_buddy(entry, geometry, side, word, seen).or_else(wrong)?;
        claimed |= word.state == BuddyState::Claimed;
    }
    if entry.group != PageGroup::Isolated && entry.group != entry.proper_group() {
        return wrong(format!("belongs to {:?}", entry.proper_group()));
    }
    if entry.group != PageGroup::Isolated && entry.aged != (entry.buddies() > 0) {
        return wrong("the list by age has the pages with objects".to_owned());
    }
    debug_assert!(entry.buddies() > 0 || !claimed, "chunks were compared above");
    let (row, frames) = ZbudState::row(entry);
    if let Some(row) = row {
        seen.rows[row].pages += 1;
        seen.rows[row].frames += frames;
    }
    seen.resident += frames;
    seen.aged += usize::from(entry.aged);
    match entry.group {
        PageGroup::Vacant => seen.vacant += 1,
        PageGroup::Empty => seen.empty += 1,
        PageGroup::Unbuddied(_) => seen.unbuddied += 1,
        PageGroup::Buddied | PageGroup::Isolated => {}
    }
    Ok(())
}

/// Checks one buddy of a page, and adds it to the totals. The error says what is wrong.
fn check_buddy(
    entry: &PageEntry,
    geometry: Geometry,
    side: BuddySide,
    word: BuddyWord,
    seen: &mut Totals,
) -> Result<(), String> {
    let chunks = entry.chunks(side);
    let expected = match word.state {
        BuddyState::Free => Chunks::NONE,
        _ => geometry.chunks_for(word.len),
    };
    if chunks != expected {
        return Err(format!("{side:?} should have {expected:?}, by its buddy {word:?}"));
    }
    match word.state {
        BuddyState::Free if word.pins > 0 => {
            return Err(format!("{side:?} is free and pinned, {word:?}"));
        }
        BuddyState::Free => return Ok(()),
        BuddyState::Claimed | BuddyState::Live => {}
        BuddyState::Zombie => seen.zombies += 1,
    }
    seen.objects += usize::from(word.state != BuddyState::Zombie);
    seen.payload += word.len;
    seen.chunks += chunks.count();
    let absent = geometry.frames(side, chunks) & !entry.resident;
    if word.state != BuddyState::Claimed && !absent.is_empty() {
        return Err(format!("frames {absent:?} of {side:?} are not charged"));
    }
    Ok(())
}

/// Checks that every page of a list belongs there, and that as many pages are listed as belong to a
/// list, so that each is on its own.
fn check_lists(state: &ZbudState, seen: &Totals) -> Result<(), Violation> {
    check_list(state, &state.vacant, LinkSet::Group, |group| group == PageGroup::Vacant)?;
    check_list(state, &state.empty, LinkSet::Group, |group| group == PageGroup::Empty)?;
    check_list(state, &state.by_age, LinkSet::Age, |_| true)?;
    let mut listed = 0;
    for (free, list) in state.unbuddied.iter().enumerate() {
        let on_it = |group| matches!(group, PageGroup::Unbuddied(chunks) if chunks.count() == free);
        check_list(state, list, LinkSet::Group, on_it)?;
        listed += list.len();
        if (state.occupied >> free & 1 == 1) == list.is_empty() {
            return Err(Violation::new(format!(
                "bit {free} of the mask, and {} pages",
                list.len()
            )));
        }
    }
    if listed != seen.unbuddied {
        return Err(Violation::new(format!(
            "{listed} unbuddied pages listed, {} there",
            seen.unbuddied
        )));
    }
    Ok(())
}

fn check_list(
    state: &ZbudState,
    list: &List,
    by: LinkSet,
    on_it: impl Fn(PageGroup) -> bool,
) -> Result<(), Violation> {
    let mut last = None;
    let mut steps = 0;
    for page in list.iter(&state.pages, by) {
        let entry = &state.pages[page];
        if !on_it(entry.group) || matches!(by, LinkSet::Age) && !entry.aged {
            return Err(Violation::new(format!(
                "{page:?} is on a list {by:?} of {list:?}, but is {entry:?}"
            )));
        }
        (last, steps) = (Some(page), steps + 1);
    }
    if steps != list.len() || last != list.last() {
        return Err(Violation::new(format!("{steps} pages on {list:?}, the last one {last:?}")));
    }
    Ok(())
}
