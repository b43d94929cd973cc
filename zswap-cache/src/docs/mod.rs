//! The guide. It contains nothing to call.
//!
//! - [`from_moka`]: from moka, or another cache, to this one.
//!
//! The chapters on codecs, limits, switching, threads, accounting and performance are those of the
//! store below: [`zswap::docs`].

pub mod from_moka;
