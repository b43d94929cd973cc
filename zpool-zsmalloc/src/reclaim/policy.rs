//! Decides when to release memory. Pure functions; `background` calls them and acts.
//!
//! Frames that are empty now are often needed a moment later. So background work is lazy:
//!
//! - After a compaction it waits for a [`COOLDOWN`]. A job that starts earlier postpones itself.
//! - It leaves each class as many frames as the recent peak of the class used. If the pool is in
//!   use, each job lowers a peak by 1/32 of its distance from the present, so with an executor that
//!   has a clock the time constant is 32 cooldowns. If nothing was inserted since the job before,
//!   the peak falls to the present at once.
//! - It runs for a large surplus only, because each call to the system interrupts every thread of
//!   the process.
//!
//! As long as classes keep much more than they need, the job is submitted again. The figures that
//! "large" and "due" refer to are in `class::pressure`.
//!
//! ```text
//!   Begun ──► Stop, Again(cooldown left), or Reclaim ──► Reclaimed
//!   Reclaimed ──► Again(at once), or StartCooldown ──► CoolingDown
//!   CoolingDown ──► Stop, or Again(COOLDOWN)
//! ```

use std::time::Duration;

use zpool_core::CompactionBudget;

use crate::class::{ClassState, Figures};
use crate::pool::JobReason;

/// Time from the end of a background compaction to the next one. Without it, replacing objects at
/// random is much slower: the bench `zsmalloc --only churn` and decision 0022 show by how much.
pub(super) const COOLDOWN: Duration = Duration::from_millis(10);

/// The most objects that one job moves, so that it does not occupy the executor for long.
pub(super) const JOB_MOVES: CompactionBudget = CompactionBudget::moves(2048);

/// How much of its empty memory a class releases.
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

/// How fast the peaks of classes decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeakDecay {
    /// The whole height of a peak above the present.
    Full,
    /// 1/32 of what a peak is above the present.
    Gradual,
}

impl PeakDecay {
    /// Returns the share of a peak's height that is kept, as numerator and denominator.
    pub(super) fn kept(self) -> (usize, usize) {
        match self {
            PeakDecay::Full => (0, 32),
            PeakDecay::Gradual => (31, 32),
        }
    }
}

/// Progress of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has looked at the classes.
    Begun,
    /// It has released frames, if there was a large surplus.
    Reclaimed {
        /// Objects that it moved for that.
        moved: usize,
        /// Frames that are still surplus. Only counted if objects were moved.
        surplus: usize,
        /// A class had a peak above the present, and lowered it.
        decayed: bool,
    },
    /// The cooldown has begun, and peaks were lowered.
    CoolingDown {
        /// A class had a peak above the present.
        decayed: bool,
    },
}

/// All that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) reason: JobReason,
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
    /// Release a large surplus.
    Reclaim,
    /// Begin the cooldown.
    StartCooldown,
}

/// Decides the next step.
///
/// A job that waited for its cooldown does not wait again, because an executor without a clock runs
/// it at once. Such an executor is busy for as many jobs as it takes the peaks to decay.
pub(super) fn decide(snapshot: &Snapshot) -> Step {
    let Snapshot { reason, phase, figures, cooldown } = snapshot;
    match *phase {
        Phase::Begun => match reason {
            JobReason::Requested if !figures.compaction_is_due() => Step::Stop,
            JobReason::Requested if !cooldown.is_zero() => Step::Again(*cooldown),
            JobReason::Continuation | JobReason::AfterCooldown if !figures.gain_is_large() => {
                Step::Stop
            }
            _ => Step::Reclaim,
        },
        // If nothing was moved, the rest may be pinned: that must not keep the executor busy.
        Phase::Reclaimed { moved, surplus, .. } if moved > 0 && figures.is_large(surplus) => {
            Step::Again(Duration::ZERO)
        }
        Phase::Reclaimed { .. } => Step::StartCooldown,
        Phase::CoolingDown { decayed } if decayed && figures.gain_is_large() => {
            Step::Again(COOLDOWN)
        }
        Phase::CoolingDown { .. } => Step::Stop,
    }
}

/// Returns whether a job drains the magazines before it looks. Cached slots keep frames from
/// looking empty. An idle pool does not need them. A pool in use would refill them at once, so a
/// job that only continues leaves them until there is work.
pub(super) fn drains_first(reason: JobReason, in_use: bool) -> bool {
    reason == JobReason::Requested || !in_use
}

/// Returns whether a job that stops drains the magazines at its end: if it did not at its
/// beginning. Frees that came meanwhile found no job to do it.
pub(super) fn drains_last(reason: JobReason, in_use: bool, step: Step) -> bool {
    step == Step::Stop && !drains_first(reason, in_use)
}

/// Returns the reason for the job that a step asks for.
pub(super) fn next_reason(step: Step) -> JobReason {
    match step {
        Step::Again(delay) if delay.is_zero() => JobReason::Continuation,
        Step::Again(_) => JobReason::AfterCooldown,
        _ => JobReason::Requested,
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

    fn step(reason: JobReason, phase: Phase, figures: Figures, cooldown: Duration) -> Step {
        decide(&Snapshot { reason, phase, figures, cooldown })
    }

    /// A job begins to reclaim if that is due. A fresh one waits for the cooldown; the others need
    /// a gain only.
    #[test]
    fn begun_job_reclaims_when_due() {
        use JobReason::{AfterCooldown, Continuation, Requested};
        for (reason, figures, cooldown, expected) in [
            (Requested, NOTHING, Duration::ZERO, Step::Stop),
            (Requested, EARLY, Duration::ZERO, Step::Stop),
            (Requested, EARLY, MOMENT, Step::Stop),
            (Requested, DUE, MOMENT, Step::Again(MOMENT)),
            (Requested, DUE, Duration::ZERO, Step::Reclaim),
            (Continuation, NOTHING, Duration::ZERO, Step::Stop),
            (Continuation, EARLY, MOMENT, Step::Reclaim),
            (AfterCooldown, NOTHING, MOMENT, Step::Stop),
            (AfterCooldown, EARLY, MOMENT, Step::Reclaim),
            (AfterCooldown, DUE, Duration::ZERO, Step::Reclaim),
        ] {
            let got = step(reason, Phase::Begun, figures, cooldown);
            assert_eq!(got, expected, "{reason:?}, {figures:?}, {cooldown:?}");
        }
    }

    /// A job continues at once only if it moved something and there is a large surplus left.
    #[test]
    fn reclaimed_job_continues_while_it_moves() {
        for (moved, surplus, expected) in [
            (0, 0, Step::StartCooldown),
            (0, 500, Step::StartCooldown),
            (1, 14, Step::StartCooldown),
            (1, 15, AGAIN_NOW),
            (2048, 500, AGAIN_NOW),
        ] {
            for decayed in [false, true] {
                let phase = Phase::Reclaimed { moved, surplus, decayed };
                let got = step(JobReason::Requested, phase, DUE, Duration::ZERO);
                assert_eq!(got, expected, "{phase:?}");
            }
        }
    }

    /// A job is submitted again while peaks decay and there is a large gain.
    #[test]
    fn cooling_job_is_resubmitted_while_peaks_last() {
        for (decayed, figures, expected) in [
            (false, NOTHING, Step::Stop),
            (false, DUE, Step::Stop),
            (true, NOTHING, Step::Stop),
            (true, EARLY, Step::Again(COOLDOWN)),
        ] {
            let got =
                step(JobReason::AfterCooldown, Phase::CoolingDown { decayed }, figures, MOMENT);
            assert_eq!(got, expected, "{decayed}, {figures:?}");
        }
    }

    /// The magazines are drained at the beginning, or at the end of the last job of a pool in use.
    #[test]
    fn magazines_are_drained_first_or_last() {
        for reason in [JobReason::Requested, JobReason::Continuation, JobReason::AfterCooldown] {
            for in_use in [false, true] {
                let first = drains_first(reason, in_use);
                assert_eq!(first, !(in_use && reason != JobReason::Requested));
                assert_eq!(drains_last(reason, in_use, Step::Stop), !first);
                assert!(!drains_last(reason, in_use, AGAIN_NOW));
            }
        }
    }

    /// The reason for the next job follows from the step.
    #[test]
    fn next_start_follows_step() {
        for (step, reason) in [
            (Step::Stop, JobReason::Requested),
            (AGAIN_NOW, JobReason::Continuation),
            (Step::Again(COOLDOWN), JobReason::AfterCooldown),
        ] {
            assert_eq!(next_reason(step), reason);
        }
    }
}
