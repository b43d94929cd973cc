//! A store with a tier, whose backing store returns hostile records.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    zpool_fuzz::tier::on_tier(bytes);
});
