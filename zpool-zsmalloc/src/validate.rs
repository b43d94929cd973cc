//! The walk that compares everything which should agree.
//!
//! It holds all class locks at once, in order of size, so that no slot is claimed or released meanwhile. Reads, frees and publications go on:
//! a freed object keeps its bit until its class can be locked, and a claimed slot has its bit before it has a name. So each handle must
//! have its bit, but not each bit a handle.

use std::collections::HashMap;

use zpool_core::Violation;
use zpool_core::internal::sync::MutexGuard;
use zpool_core::internal::sync::atomic::Ordering;

use crate::class_state::ClassState;
use crate::fullness::{Group, row};
use crate::inner::{Class, Inner};
use crate::shape::{bit, count_set};
use crate::slot::{Content, Peeked};

impl Inner {
    /// See `ZPool::validate`.
    pub(crate) fn validate(&self) -> Result<(), Violation> {
        self.take_back_spares(None);
        // A class that is made while we walk is not among those we hold, and may explain anything: then the walk says nothing.
        loop {
            let classes = self.existing_classes().count();
            let result = self.walk();
            if result.is_ok() || self.existing_classes().count() == classes {
                return result.and_then(|()| self.check_charged());
            }
        }
    }

    /// What is resident is on the source's books. Asked under no lock, so that a single answer says little: frames may go back between the two questions.
    fn check_charged(&self) -> Result<(), Violation> {
        for _ in 0..8 {
            let resident = self.counters.frames.load(Ordering::Relaxed);
            if self.source.charged_frames() >= resident {
                return Ok(());
            }
        }
        let (charged, resident) =
            (self.source.charged_frames(), self.counters.frames.load(Ordering::Relaxed));
        Err(Violation::new(format!(
            "the source has charged {charged} frames, {resident} are resident"
        )))
    }

    fn walk(&self) -> Result<(), Violation> {
        let mut classes: Vec<(&Class, MutexGuard<'_, ClassState>)> = Vec::new();
        for class in self.existing_classes() {
            classes.push((class, class.lock()));
        }
        for (class, state) in &classes {
            self.check_class(class, state)?;
        }
        let sum = |of: fn(&ClassState) -> usize| {
            classes.iter().map(|(_, state)| of(state)).sum::<usize>()
        };
        let counters = &self.counters;
        agree("pool, frames", counters.frames.load(Ordering::Relaxed), sum(|s| s.resident()))?;
        agree("pool, idle frames", counters.idle.load(Ordering::Relaxed), sum(|s| s.idle()))?;
        self.check_handles(&classes)
    }

    fn check_class(&self, class: &Class, state: &ClassState) -> Result<(), Violation> {
        let (mut objects, mut resident, mut open, mut idle) = (0, 0, 0, 0);
        for local in 0..state.members().len() as u32 {
            let (member, bits) = (state.member(local), state.bits(local));
            let at = |what: &str| format!("{:?}, zspage {}: {what}", class.index, member.id);
            let entry =
                self.zspages.get(member.id).ok_or_else(|| Violation::new(at("no entry")))?;
            agree(at("entry's index"), entry.local() as usize, local as usize)?;
            agree(at("entry's class"), usize::from(entry.class().0), usize::from(class.index.0))?;
            agree(
                at("slots in use"),
                usize::from(member.inuse),
                count_set(bits, 0..state.shape.objects),
            )?;
            let counted = state.count_open(local, 0..state.shape.objects);
            agree(at("open slots"), usize::from(member.open), usize::from(counted))?;
            let group = match member.isolated {
                true => Group::None,
                false => Group::of(row(member.inuse, state.shape.objects), member.open),
            };
            agree(at("group"), state.group(local) as usize, group as usize)?;
            let frames = member.resident.count_ones() as usize;
            for object in (0..state.shape.objects).filter(|&object| bit(bits, object)) {
                if state.shape.frames_of(object, 1) & !member.resident != 0 {
                    return Err(Violation::new(at(&format!(
                        "object {object} begins in a frame that is not resident"
                    ))));
                }
            }
            if !u64::MAX.checked_shl(u32::from(state.shape.frames)).unwrap_or(0) & member.resident
                != member.resident
            {
                return Err(Violation::new(at("a frame beyond the last is resident")));
            }
            objects += usize::from(member.inuse);
            resident += frames;
            open += if member.isolated { 0 } else { usize::from(member.open) };
            idle += if group == Group::Empty { frames } else { 0 };
        }
        let at = |what: &str| format!("{:?}: {what}", class.index);
        agree(at("objects"), state.objects(), objects)?;
        agree(at("resident frames"), state.resident(), resident)?;
        agree(at("open slots"), state.open(), open)?;
        agree(at("idle frames"), state.idle(), idle)?;
        check_counted(class, state)?;
        check_lists(class, state)
    }

    /// Each handle names a claimed slot of a zspage that lives, no two the same one, and the bytes lie in resident frames.
    fn check_handles(
        &self,
        classes: &[(&Class, MutexGuard<'_, ClassState>)],
    ) -> Result<(), Violation> {
        let mut named = HashMap::new();
        for (index, slot) in self.handles.iter() {
            let Some(content) = named_by(slot.peek()) else { continue };
            let (at, slack) = self.layout.unpack(content);
            let what = |why: &str| Violation::new(format!("handle slot {index}, {at:?}: {why}"));
            let entry = self.zspages.get(at.zspage).ok_or_else(|| what("no such zspage"))?;
            let state = classes.iter().find(|(class, _)| class.index == entry.class());
            let state = &state.ok_or_else(|| what("no such class"))?.1;
            let local = entry.local();
            if state.members().get(local as usize).is_none_or(|member| member.id != at.zspage) {
                return Err(what("the zspage is no member of its class"));
            }
            if at.object >= state.shape.objects || !bit(state.bits(local), at.object) {
                return Err(what("the slot is not claimed"));
            }
            let len = state.shape.slot.checked_sub(slack).filter(|&len| len > 0);
            let len = len.ok_or_else(|| what("longer slack than its slot"))?;
            if state.shape.frames_of(at.object, len) & !state.member(local).resident != 0 {
                return Err(what("bytes in a frame that is not resident"));
            }
            if let Some(other) = named.insert((at.zspage, at.object), index)
                && self.both_name(other, index, content)
            {
                return Err(what(&format!("handle slot {other} names it too")));
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Do two slots name the same object? One that is moved or exchanged changes its place or its slot in one step, but the walk takes longer than that, and meets it
    /// twice; so they are asked often enough that it would have to come and go between any two questions.
    fn both_name(&self, one: u32, other: u32, content: Content) -> bool {
        let names = |index| {
            self.handles.get(index).is_some_and(|slot| named_by(slot.peek()) == Some(content))
        };
        (0..64).all(|_| names(one) && names(other))
    }
}

/// The object that a slot names.
fn named_by(peeked: Peeked) -> Option<Content> {
    match peeked {
        Peeked::Live { content, .. } => Some(content),
        Peeked::Dead { content, pins } if pins > 0 => Some(content),
        // Dead without pins: somebody is taking it down, and may be done with its bit; or it is being exchanged, and another slot names it.
        _ => None,
    }
}

/// What the class keeps counted for `stats` is what a walk counts.
fn check_counted(class: &Class, state: &ClassState) -> Result<(), Violation> {
    let (is, should) = (state.counted(), crate::survey::count(state));
    if is == should {
        Ok(())
    } else {
        Err(Violation::new(format!("{:?}: {is:?}, counted {should:?}", class.index)))
    }
}

/// The lists hold exactly the members whose links say so, each once.
fn check_lists(class: &Class, state: &ClassState) -> Result<(), Violation> {
    let groups = [
        Group::Empty,
        Group::Quarter,
        Group::Half,
        Group::ThreeQuarters,
        Group::AlmostFull,
        Group::Growing,
    ];
    for group in groups {
        let mut listed = 0;
        let mut at = state.head(group);
        while let Some(local) = at {
            listed += 1;
            if listed > state.members().len() || state.group(local) != group {
                return Err(Violation::new(format!(
                    "{:?}: the list of {group:?} is broken",
                    class.index
                )));
            }
            at = state.next(local);
        }
        let members =
            (0..state.members().len() as u32).filter(|&local| state.group(local) == group).count();
        agree(format!("{:?}: members of {group:?}", class.index), listed, members)?;
    }
    Ok(())
}

fn agree(what: impl Into<String>, is: usize, should: usize) -> Result<(), Violation> {
    if is == should {
        Ok(())
    } else {
        Err(Violation::new(format!("{}: {is}, counted {should}", what.into())))
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_dead_slot_names_its_object_as_long_as_somebody_reads_it() {
        let content = Content(7);
        assert_eq!(named_by(Peeked::Free), None);
        for pins in [0, 1, 3] {
            assert_eq!(named_by(Peeked::Live { content, pins }), Some(content));
            assert_eq!(named_by(Peeked::Dead { content, pins }), (pins > 0).then_some(content));
        }
    }
}
