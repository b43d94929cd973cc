//! When memory goes back: pure decisions. `background` asks and carries out.
//!
//! Frames that are empty now are often needed a moment later. So background work is lazy:
//!
//! - After a compaction it waits for a [`COOLDOWN`]. A job that starts earlier postpones itself.
//! - It leaves each class as many frames as the recent peak of the class used. If the pool is in
//!   use, each job forgets 1/32 of the distance between peak and present. With an executor that has
//!   a clock, a peak lasts for about a third of a second. If nothing was inserted since the job
//!   before, the peaks are forgotten at once.
//! - It runs for a large surplus only, because each call to the system interrupts every thread of
//!   the process.
//!
//! As long as classes keep much more than they need, the job is submitted again. The figures that
//! "large" and "due" refer to are in `class::pressure`.
//!
//! ```text
//!   Begun ──► Stop, Again(cooldown left), or Reclaim ──► Reclaimed
//!   Reclaimed ──► Again(at once), or Settle ──► Settled
//!   Settled ──► Stop, or Again(COOLDOWN)
//! ```

use std::time::Duration;

use zpool_core::CompactionBudget;

use crate::class::{ClassState, Figures};
use crate::pool::Start;

/// Time from the end of a background compaction to the next one. Without it, replacing objects at
/// random is much slower: the bench `zsmalloc --only churn` and decision 0022 show by how much.
pub(super) const COOLDOWN: Duration = Duration::from_millis(10);

/// The most objects that one job moves, so that it does not occupy the executor for long.
pub(super) const JOB_MOVES: CompactionBudget = CompactionBudget::moves(2048);

/// How much of its empty memory a class gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReclaimScope {
    /// All of it. Compaction also merges the last frames of classes.
    All,
    /// Only memory beyond the recent peak. A pool in use would soon take back the rest, and what
    /// merging saves.
    Surplus,
}

impl ReclaimScope {
    /// Returns the frames of a class that are in this scope.
    pub(super) fn frames_of(self, state: &ClassState) -> usize {
        match self {
            ReclaimScope::All => state.gain(),
            ReclaimScope::Surplus => state.surplus(),
        }
    }
}

/// How fast classes forget their peaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forget {
    AtOnce,
    /// 1/32 of what a peak is above the present.
    Slowly,
}

impl Forget {
    /// Returns the share of a peak's height that is kept, as numerator and denominator.
    pub(super) fn kept(self) -> (usize, usize) {
        match self {
            Forget::AtOnce => (0, 32),
            Forget::Slowly => (31, 32),
        }
    }
}

/// Progress of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has looked at the classes.
    Begun,
    /// It has given frames back, if there was a large surplus.
    Reclaimed {
        /// Objects that it moved for that.
        moved: usize,
        /// Frames that are still surplus. Only counted if objects were moved.
        surplus: usize,
        /// A class had a peak above the present, and forgot it.
        forgot: bool,
    },
    /// The cooldown has begun, and peaks were lowered.
    Settled {
        /// A class had a peak above the present.
        forgot: bool,
    },
}

/// All that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) start: Start,
    pub(super) phase: Phase,
    pub(super) figures: Figures,
    /// The remaining cooldown.
    pub(super) cooldown: Duration,
}

/// Next step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The job is done.
    Stop,
    /// The job is done, and the next one continues after this time.
    Again(Duration),
    /// Give a large surplus back.
    Reclaim,
    /// Begin the cooldown.
    Settle,
}

/// Decides the next step.
///
/// A job that waited for its cooldown does not wait again, because an executor without a clock runs
/// it at once. Such an executor is busy for as many jobs as it takes to forget the peaks.
pub(super) fn decide(snapshot: &Snapshot) -> Step {
    let Snapshot { start, phase, figures, cooldown } = snapshot;
    match *phase {
        Phase::Begun => match start {
            Start::Fresh if !figures.compaction_is_due() => Step::Stop,
            Start::Fresh if !cooldown.is_zero() => Step::Again(*cooldown),
            Start::Continued | Start::Cooled if !figures.gain_is_large() => Step::Stop,
            _ => Step::Reclaim,
        },
        // If nothing was moved, the rest may be pinned: that must not keep the executor busy.
        Phase::Reclaimed { moved, surplus, .. } if moved > 0 && figures.is_large(surplus) => {
            Step::Again(Duration::ZERO)
        }
        Phase::Reclaimed { .. } => Step::Settle,
        Phase::Settled { forgot } if forgot && figures.gain_is_large() => Step::Again(COOLDOWN),
        Phase::Settled { .. } => Step::Stop,
    }
}

/// Returns whether a job drains the magazines before it looks. Cached slots keep frames from
/// looking empty. An idle pool does not need them. A pool in use would refill them at once, so a
/// job that only continues leaves them until there is work.
pub(super) fn drains_first(start: Start, in_use: bool) -> bool {
    start == Start::Fresh || !in_use
}

/// Returns whether a job that stops drains the magazines at its end: if it did not at its
/// beginning. Frees that came meanwhile found no job to do it.
pub(super) fn drains_last(start: Start, in_use: bool, step: Step) -> bool {
    step == Step::Stop && !drains_first(start, in_use)
}

/// Returns the reason for the job that a step asks for.
pub(super) fn next_start(step: Step) -> Start {
    match step {
        Step::Again(delay) if delay.is_zero() => Start::Continued,
        Step::Again(_) => Start::Cooled,
        _ => Start::Fresh,
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// Nothing to gain; a gain, but too few frees since the last time; and enough of both.
    const NOTHING: Figures = Figures { frames: 1280, idle: 0, gain: 14, freed: 99, objects: 3200 };
    const EARLY: Figures = Figures { gain: 15, ..NOTHING };
    const DUE: Figures = Figures { gain: 15, freed: 101, ..NOTHING };

    const MOMENT: Duration = Duration::from_millis(3);
    const AGAIN_NOW: Step = Step::Again(Duration::ZERO);

    fn step(start: Start, phase: Phase, figures: Figures, cooldown: Duration) -> Step {
        decide(&Snapshot { start, phase, figures, cooldown })
    }

    /// A job begins to reclaim if that is due. A fresh one waits for the cooldown; the others need
    /// a gain only.
    #[test]
    fn begun_job_reclaims_when_due() {
        use Start::{Continued, Cooled, Fresh};
        for (start, figures, cooldown, expected) in [
            (Fresh, NOTHING, Duration::ZERO, Step::Stop),
            (Fresh, EARLY, Duration::ZERO, Step::Stop),
            (Fresh, EARLY, MOMENT, Step::Stop),
            (Fresh, DUE, MOMENT, Step::Again(MOMENT)),
            (Fresh, DUE, Duration::ZERO, Step::Reclaim),
            (Continued, NOTHING, Duration::ZERO, Step::Stop),
            (Continued, EARLY, MOMENT, Step::Reclaim),
            (Cooled, NOTHING, MOMENT, Step::Stop),
            (Cooled, EARLY, MOMENT, Step::Reclaim),
            (Cooled, DUE, Duration::ZERO, Step::Reclaim),
        ] {
            let got = step(start, Phase::Begun, figures, cooldown);
            assert_eq!(got, expected, "{start:?}, {figures:?}, {cooldown:?}");
        }
    }

    /// A job continues at once only if it moved something and there is a large surplus left.
    #[test]
    fn reclaimed_job_continues_while_it_moves() {
        for (moved, surplus, expected) in [
            (0, 0, Step::Settle),
            (0, 500, Step::Settle),
            (1, 14, Step::Settle),
            (1, 15, AGAIN_NOW),
            (2048, 500, AGAIN_NOW),
        ] {
            for forgot in [false, true] {
                let phase = Phase::Reclaimed { moved, surplus, forgot };
                let got = step(Start::Fresh, phase, DUE, Duration::ZERO);
                assert_eq!(got, expected, "{phase:?}");
            }
        }
    }

    /// A settled job is submitted again while classes forget peaks and there is a large gain.
    #[test]
    fn settled_job_is_resubmitted_while_peaks_last() {
        for (forgot, figures, expected) in [
            (false, NOTHING, Step::Stop),
            (false, DUE, Step::Stop),
            (true, NOTHING, Step::Stop),
            (true, EARLY, Step::Again(COOLDOWN)),
        ] {
            let got = step(Start::Cooled, Phase::Settled { forgot }, figures, MOMENT);
            assert_eq!(got, expected, "{forgot}, {figures:?}");
        }
    }

    /// The magazines are drained at the beginning, or at the end of the last job of a pool in use.
    #[test]
    fn magazines_are_drained_first_or_last() {
        for start in [Start::Fresh, Start::Continued, Start::Cooled] {
            for in_use in [false, true] {
                let first = drains_first(start, in_use);
                assert_eq!(first, !(in_use && start != Start::Fresh));
                assert_eq!(drains_last(start, in_use, Step::Stop), !first);
                assert!(!drains_last(start, in_use, AGAIN_NOW));
            }
        }
    }

    /// The reason for the next job follows from the step.
    #[test]
    fn next_start_follows_step() {
        for (step, start) in [
            (Step::Stop, Start::Fresh),
            (AGAIN_NOW, Start::Continued),
            (Step::Again(COOLDOWN), Start::Cooled),
        ] {
            assert_eq!(next_start(step), start);
        }
    }
}
