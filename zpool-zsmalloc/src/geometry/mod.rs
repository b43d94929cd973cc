//! Sizes and positions: pure arithmetic, computed once per configuration.

pub(crate) mod bits;
pub(crate) mod size_class;
pub(crate) mod slot_map;
pub(crate) mod table_cache;
