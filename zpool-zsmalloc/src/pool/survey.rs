//! Statistics by a walk over all handles and zspages. `stats` has to agree with them.

use zpool_core::PoolStats;

use super::core::PoolCore;
use super::stats::{ClassFigures, StatsBuilder};
use crate::handle::entry::EntrySnapshot;

impl PoolCore {
    /// See `ZPool::survey`.
    pub(crate) fn survey(&self) -> PoolStats {
        self.drain_magazines(None);
        let tallies = self.tally_handles();
        let payload = tallies.iter().map(|tally| tally.payload).sum();
        let mut builder = StatsBuilder::default();
        for class in self.classes.iter() {
            let tally = &tallies[usize::from(class.index().0)];
            self.classes.locked(class, |state| {
                // A claimed slot may be cached again by now, and the walk may have met an object
                // twice that moved.
                let objects = tally.objects.min(state.objects());
                let counts = state.recount();
                let figures = ClassFigures { objects, pinned: tally.pinned, counts };
                self.add_class(class, state, figures, &mut builder);
            });
        }
        self.finish_stats(builder, payload)
    }

    /// Counts what the handle table says, by class.
    fn tally_handles(&self) -> Vec<HandleTally> {
        let mut tallies = vec![HandleTally::default(); self.table().classes().len()];
        let protected = self.handles.protected();
        for (index, snapshot) in self.handles.walk() {
            if let EntrySnapshot::Live { location, pins } | EntrySnapshot::Dead { location, pins } =
                snapshot
                && let (at, slack) = self.handles.unpack(location)
                && let Some(zspage) = self.zspages.get(at.zspage)
            {
                let class = usize::from(zspage.class().0);
                let len = self.table().classes()[class].slot_bytes.saturating_sub(slack);
                tallies[class].objects += 1;
                tallies[class].pinned += usize::from(pins > 0 || protected.contains(&index));
                tallies[class].payload += len as usize;
            }
        }
        tallies
    }
}

/// Findings of a walk over the handle table about one class.
#[derive(Debug, Clone, Default)]
struct HandleTally {
    objects: usize,
    /// Objects that a guard holds.
    pinned: usize,
    /// Bytes of all objects.
    payload: usize,
}
