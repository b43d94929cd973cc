//! The walk over a class that compares everything which should agree.

use zpool_core::Violation;

use super::classes::Class;
use super::fullness::{Group, row};
use super::state::ClassState;
use crate::geometry::bits::{bit, count_set};
use crate::zspage::Zspages;

impl ClassState {
    /// Compares members, bitmaps, groups and counts. Under the class's lock.
    pub(crate) fn validate(&self, class: &Class, zspages: &Zspages) -> Result<(), Violation> {
        let mut sums = Sums::default();
        for local in 0..self.zspages() as u32 {
            self.validate_member(class, zspages, local, &mut sums)?;
        }
        let at = |what: &str| format!("{:?}: {what}", class.index());
        agree(at("objects"), self.objects(), sums.objects)?;
        agree(at("resident frames"), self.resident(), sums.resident)?;
        agree(at("open slots"), self.open(), sums.open)?;
        agree(at("idle frames"), self.idle(), sums.idle)?;
        let (counts, recounted) = (self.counts(), self.recount());
        if counts != recounted {
            return Err(Violation::new(at(&format!("{counts:?} kept, {recounted:?} counted"))));
        }
        self.validate_lists(class)
    }

    fn validate_member(
        &self,
        class: &Class,
        zspages: &Zspages,
        local: u32,
        sums: &mut Sums,
    ) -> Result<(), Violation> {
        let (member, bits, map) = (self.member(local), self.bits(local), self.slot_map());
        let at = |what: &str| format!("{:?}, zspage {}: {what}", class.index(), member.id);
        let zspage = zspages.get(member.id).ok_or_else(|| Violation::new(at("has no entry")))?;
        agree(at("index of the entry"), zspage.local() as usize, local as usize)?;
        let (own, theirs) = (usize::from(class.index().0), usize::from(zspage.class().0));
        agree(at("class of the entry"), theirs, own)?;
        agree(at("slots in use"), usize::from(member.inuse), count_set(bits, 0..map.slots))?;
        let counted = self.count_open(local, 0..map.slots);
        agree(at("open slots"), usize::from(member.open), usize::from(counted))?;
        let group = match member.isolated {
            true => Group::None,
            false => Group::of(row(member.inuse, map.slots), member.open),
        };
        agree(at("group"), self.group(local) as usize, group as usize)?;
        for slot in (0..map.slots).filter(|&slot| bit(bits, slot)) {
            if map.frames_of(slot, 1) & !member.resident != 0 {
                let what = format!("slot {slot} begins in a frame that is not resident");
                return Err(Violation::new(at(&what)));
            }
        }
        let beyond = u64::MAX.checked_shl(u32::from(map.frames)).unwrap_or(0);
        if beyond & member.resident != 0 {
            return Err(Violation::new(at("a frame beyond the last is resident")));
        }
        let frames = member.resident.count_ones() as usize;
        sums.objects += usize::from(member.inuse);
        sums.resident += frames;
        sums.open += if member.isolated { 0 } else { usize::from(member.open) };
        sums.idle += if group == Group::Empty { frames } else { 0 };
        Ok(())
    }

    /// Checks that the lists hold exactly the members whose links say so, each once.
    fn validate_lists(&self, class: &Class) -> Result<(), Violation> {
        for group in Group::LISTED {
            let mut listed = 0;
            let mut at = self.head(group);
            while let Some(local) = at {
                listed += 1;
                if listed > self.zspages() || self.group(local) != group {
                    let what = format!("{:?}: the list of {group:?} is broken", class.index());
                    return Err(Violation::new(what));
                }
                at = self.next(local);
            }
            let members = 0..self.zspages() as u32;
            let members = members.filter(|&local| self.group(local) == group).count();
            agree(format!("{:?}: members of {group:?}", class.index()), listed, members)?;
        }
        Ok(())
    }
}

/// Sums over the members of a class.
#[derive(Default)]
struct Sums {
    objects: usize,
    resident: usize,
    open: usize,
    idle: usize,
}

/// Fails if a figure that is kept is not the one that was counted.
fn agree(what: String, kept: usize, counted: usize) -> Result<(), Violation> {
    if kept == counted {
        Ok(())
    } else {
        Err(Violation::new(format!("{what}: {kept} kept, {counted} counted")))
    }
}
