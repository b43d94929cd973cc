//! Any bytes for the decoder of zstd.
#![no_main]

use std::cell::RefCell;

use zpool_fuzz::decoder::Decoder;

thread_local!(
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new(&zpool_zstd::ZstdDriver))
);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DECODER.with_borrow_mut(|decoder| decoder.check(bytes)));
