//! Any bytes for the decoder of pagelz at level 3.
#![no_main]

use std::cell::RefCell;

use zpool_core::spec::Params;
use zpool_fuzz::decoder::Decoder;
use zpool_pagelz::PagelzDriver;

thread_local!(static DECODER: RefCell<Decoder> = RefCell::new(decoder()));

fn decoder() -> Decoder {
    let mut params = Params::default();
    params.set("level", "3");
    Decoder::with(&PagelzDriver, &params)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DECODER.with_borrow_mut(|decoder| decoder.check(bytes)));
