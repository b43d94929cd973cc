//! Actions on a store, which switches its pools.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zpool_fuzz::actions::on_store(bytes));
