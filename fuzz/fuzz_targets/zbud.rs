//! Actions on a pool of zbud.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zpool_fuzz::actions::on_pool(
    &zpool_zbud::ZbudDriver,
    bytes
));
