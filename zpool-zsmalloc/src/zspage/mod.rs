//! Zspages: where they are, and who may touch their bytes.

#[allow(unsafe_code, reason = "turns a zspage's entry into memory")]
pub(crate) mod memory;
pub(crate) mod table;
