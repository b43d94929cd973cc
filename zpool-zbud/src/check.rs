//! The walk over everything that should agree.

use zpool_core::Violation;

use crate::books::{Books, Row};
use crate::geometry::{Chunks, Geometry, PageIndex, SIDES, SlotIndex};
use crate::page::{By, List, Place};
use crate::slot::State;
use crate::table::Table;

/// Compares lists, entries, slots and sums, under the pool's lock. What may be under way without the lock (a slot that is being filled, a page that is
/// isolated, guards that come and go) is allowed for.
pub(crate) fn check(books: &Books, table: &Table, geometry: Geometry) -> Result<(), Violation> {
    let mut seen = Sums::default();
    for page in books.pages.all() {
        check_page(books, table, geometry, page, &mut seen)?;
    }
    seen.compare(books)?;
    check_lists(books, &seen)
}

/// What the walk adds up.
#[derive(Default)]
struct Sums {
    objects: usize,
    zombies: usize,
    payload: usize,
    chunks: usize,
    resident: usize,
    rows: [Row; 3],
    aged: usize,
    vacant: usize,
    empty: usize,
    unbuddied: usize,
}

impl Sums {
    fn compare(&self, books: &Books) -> Result<(), Violation> {
        let pairs = [
            ("objects", self.objects, books.objects),
            ("zombies", self.zombies, books.zombies),
            ("payload bytes", self.payload, books.payload),
            ("chunks", self.chunks, books.chunks),
            ("resident frames", self.resident, books.resident),
            ("pages by age", self.aged, books.by_age.len()),
            ("vacant pages", self.vacant, books.vacant.len()),
            ("empty pages", self.empty, books.empty.len()),
        ];
        for (what, counted, booked) in pairs {
            if counted != booked {
                return Err(Violation::new(format!("{counted} {what} counted, {booked} booked")));
            }
        }
        if self.rows != books.rows {
            return Err(Violation::new(format!(
                "rows {:?} counted, {:?} booked",
                self.rows, books.rows
            )));
        }
        Ok(())
    }
}

fn check_page(
    books: &Books,
    table: &Table,
    geometry: Geometry,
    page: PageIndex,
    seen: &mut Sums,
) -> Result<(), Violation> {
    let entry = &books.pages[page];
    let wrong = |what: String| Err(Violation::new(format!("{page:?}, {entry:?}: {what}")));
    let mut filling = false;
    for side in SIDES {
        let Some((_, slot)) = table.slot(SlotIndex::new(page, side)) else {
            return wrong("has no slots".to_owned());
        };
        let (word, chunks) = (slot.word(), entry.chunks(side));
        let expected = match word.state {
            State::Free => Chunks::NONE,
            _ => geometry.chunks_for(word.len),
        };
        if chunks != expected {
            return wrong(format!("{side:?} should have {expected:?}, by its slot {word:?}"));
        }
        match word.state {
            State::Free if word.pins > 0 => {
                return wrong(format!("{side:?} is free and pinned, {word:?}"));
            }
            State::Free => continue,
            State::Filling => filling = true,
            State::Live => {}
            State::Zombie => seen.zombies += 1,
        }
        seen.objects += usize::from(word.state != State::Zombie);
        seen.payload += word.len;
        seen.chunks += chunks.count();
        let absent = geometry.frames(side, chunks) & !entry.resident;
        if word.state != State::Filling && !absent.is_empty() {
            return wrong(format!("frames {absent:?} of {side:?} are not charged"));
        }
    }
    if entry.place != Place::Isolated && entry.place != entry.proper_place() {
        return wrong(format!("belongs to {:?}", entry.proper_place()));
    }
    if entry.place != Place::Isolated && entry.aged != (entry.buddies() > 0) {
        return wrong("the list by age has the pages with objects".to_owned());
    }
    debug_assert!(entry.buddies() > 0 || !filling, "chunks were compared above");
    let (row, frames) = Books::row(entry);
    if let Some(row) = row {
        seen.rows[row].pages += 1;
        seen.rows[row].frames += frames;
    }
    seen.resident += frames;
    seen.aged += usize::from(entry.aged);
    match entry.place {
        Place::Vacant => seen.vacant += 1,
        Place::Empty => seen.empty += 1,
        Place::Unbuddied(_) => seen.unbuddied += 1,
        Place::Buddied | Place::Isolated => {}
    }
    Ok(())
}

/// Every page of a list says that it is there; with as many pages in all lists as say so, each is on its own.
fn check_lists(books: &Books, seen: &Sums) -> Result<(), Violation> {
    check_list(books, &books.vacant, By::Place, |place| place == Place::Vacant)?;
    check_list(books, &books.empty, By::Place, |place| place == Place::Empty)?;
    check_list(books, &books.by_age, By::Age, |_| true)?;
    let mut listed = 0;
    for (free, list) in books.unbuddied.iter().enumerate() {
        let on_it = |place| matches!(place, Place::Unbuddied(chunks) if chunks.count() == free);
        check_list(books, list, By::Place, on_it)?;
        listed += list.len();
        if (books.occupied >> free & 1 == 1) == list.is_empty() {
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
    books: &Books,
    list: &List,
    by: By,
    on_it: impl Fn(Place) -> bool,
) -> Result<(), Violation> {
    let mut last = None;
    let mut steps = 0;
    for page in list.iter(&books.pages, by) {
        let entry = &books.pages[page];
        if !on_it(entry.place) || matches!(by, By::Age) && !entry.aged {
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
