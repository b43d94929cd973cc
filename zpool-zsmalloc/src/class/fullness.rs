//! Fullness groups: which zspage of a class the next object goes to.
//!
//! ```text
//!   heads:  empty ──► a zspage ──► ...     linked by the members' own indices, newest first
//!           up to 1/4, 1/2, 3/4, < full    have an open slot: the fullest is filled first
//!           growing                        have free slots only in frames that are not resident
//! ```
//!
//! Full zspages and isolated ones are in no group.

/// A fullness group of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Group {
    Empty = 0,
    Quarter = 1,
    Half = 2,
    ThreeQuarters = 3,
    AlmostFull = 4,
    Growing = 5,
    /// In no list.
    None = 6,
}

const GROUPS: usize = 6;
pub(super) const NIL: u32 = u32::MAX;

impl Group {
    /// Every group that is a list.
    pub(super) const LISTED: [Group; GROUPS] = [
        Group::Empty,
        Group::Quarter,
        Group::Half,
        Group::ThreeQuarters,
        Group::AlmostFull,
        Group::Growing,
    ];

    /// Groups with open slots, the fullest first.
    pub(super) const FULLEST_FIRST: [Group; 4] =
        [Group::AlmostFull, Group::ThreeQuarters, Group::Half, Group::Quarter];

    /// Returns the group of a zspage in this [`row`] with `open` free slots in resident frames.
    #[inline]
    pub(super) fn of(row: u8, open: u16) -> Group {
        const BY_ROW: [Group; ROWS] = [
            Group::Empty,
            Group::Quarter,
            Group::Half,
            Group::ThreeQuarters,
            Group::AlmostFull,
            Group::None,
        ];
        match row {
            1..=4 if open == 0 => Group::Growing,
            _ => BY_ROW[usize::from(row)],
        }
    }
}

/// Rows of `GroupStats::pages_by_fullness`.
pub(crate) const ROWS: usize = 6;

/// Returns the row of `GroupStats::pages_by_fullness` for a zspage with `inuse` of `slots` slots
/// taken: empty, up to 1/4, 1/2, 3/4, less than full, full.
#[inline]
pub(super) fn row(inuse: u16, slots: u16) -> u8 {
    let (quarters, slots) = (u32::from(inuse) * 4, u32::from(slots));
    u8::from(quarters > 0)
        + u8::from(quarters > slots)
        + u8::from(quarters > 2 * slots)
        + u8::from(quarters > 3 * slots)
        + u8::from(quarters == 4 * slots)
}

/// The links of a member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) group: Group,
}

impl Links {
    pub(super) const UNLINKED: Links = Links { prev: NIL, next: NIL, group: Group::None };
}

/// An item with links.
pub(super) trait Linked {
    fn links(&mut self) -> &mut Links;
}

/// The heads of a class's groups.
#[derive(Debug)]
pub(super) struct Groups {
    heads: [u32; GROUPS],
}

impl Groups {
    pub(super) fn new() -> Groups {
        Groups { heads: [NIL; GROUPS] }
    }

    /// Returns the first member of a group.
    #[inline]
    pub(super) fn head(&self, group: Group) -> Option<u32> {
        self.heads.get(group as usize).copied().filter(|&head| head != NIL)
    }

    /// Puts a member that is in no group at the head of one.
    pub(super) fn link<T: Linked>(&mut self, members: &mut [T], at: u32, group: Group) {
        debug_assert_eq!(*members[at as usize].links(), Links::UNLINKED);
        if group == Group::None {
            return;
        }
        let head = core::mem::replace(&mut self.heads[group as usize], at);
        *members[at as usize].links() = Links { prev: NIL, next: head, group };
        if head != NIL {
            members[head as usize].links().prev = at;
        }
    }

    /// Takes a member out of its group.
    pub(super) fn unlink<T: Linked>(&mut self, members: &mut [T], at: u32) {
        let Links { prev, next, group } =
            core::mem::replace(members[at as usize].links(), Links::UNLINKED);
        if group == Group::None {
            return;
        }
        match prev {
            NIL => self.heads[group as usize] = next,
            _ => members[prev as usize].links().next = next,
        }
        if next != NIL {
            members[next as usize].links().prev = prev;
        }
    }

    /// Repairs the links to a member that has moved to index `new`.
    pub(super) fn renumber<T: Linked>(&mut self, members: &mut [T], new: u32) {
        let Links { prev, next, group } = *members[new as usize].links();
        if group == Group::None {
            return;
        }
        match prev {
            NIL => self.heads[group as usize] = new,
            _ => members[prev as usize].links().next = new,
        }
        if next != NIL {
            members[next as usize].links().prev = new;
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    impl Linked for Links {
        fn links(&mut self) -> &mut Links {
            self
        }
    }

    fn walk(groups: &Groups, members: &[Links], group: Group) -> Vec<u32> {
        let next = |&at: &u32| Some(members[at as usize].next).filter(|&n| n != NIL);
        core::iter::successors(groups.head(group), next).collect()
    }

    /// Rows are quarters rounded up, with rows of their own for empty and full.
    #[test]
    fn rows_are_quarters_rounded_up() {
        for slots in 1..=300u16 {
            for inuse in 0..=slots {
                let expected = match inuse {
                    0 => 0,
                    _ if inuse == slots => 5,
                    _ => (u32::from(inuse) * 4).div_ceil(u32::from(slots)) as u8,
                };
                assert_eq!(row(inuse, slots), expected, "{inuse} of {slots}");
            }
        }
    }

    /// Members are linked and unlinked in any order, and may change their index.
    #[test]
    fn members_come_and_go_in_any_order() {
        let (mut groups, mut members) = (Groups::new(), vec![Links::UNLINKED; 5]);
        for at in 0..5 {
            groups.link(&mut members, at, Group::Half);
        }
        assert_eq!(walk(&groups, &members, Group::Half), [4, 3, 2, 1, 0]);
        groups.unlink(&mut members, 2);
        groups.unlink(&mut members, 4);
        groups.unlink(&mut members, 0);
        assert_eq!(walk(&groups, &members, Group::Half), [3, 1]);
        // Member 3 moves to index 2.
        members.swap(2, 3);
        members.truncate(3);
        groups.renumber(&mut members, 2);
        assert_eq!(walk(&groups, &members, Group::Half), [2, 1]);
        assert_eq!(members[1].prev, 2);
    }

    /// A zspage with an open slot is in the group of its row; without one it grows.
    #[test]
    fn groups_are_rows_where_slots_are_open() {
        let of = |inuse| Group::of(row(inuse, 8), 1);
        assert_eq!(
            [of(0), of(1), of(2), of(3)],
            [Group::Empty, Group::Quarter, Group::Quarter, Group::Half]
        );
        assert_eq!(
            [of(4), of(5), of(6)],
            [Group::Half, Group::ThreeQuarters, Group::ThreeQuarters]
        );
        assert_eq!([of(7), of(8)], [Group::AlmostFull, Group::None]);
        let closed = |inuse| Group::of(row(inuse, 8), 0);
        assert_eq!(
            [closed(0), closed(1), closed(7)],
            [Group::Empty, Group::Growing, Group::Growing]
        );
        assert_eq!(closed(8), Group::None);
    }
}
