//! Any bytes for the decoder of zstd with a dictionary.
#![no_main]

use std::cell::RefCell;

use zpool_core::spec::Params;
use zpool_fuzz::decoder::Decoder;
use zpool_zstd::{ZstdDriver, remember};

thread_local!(static DECODER: RefCell<Decoder> = RefCell::new(decoder()));

fn decoder() -> Decoder {
    let words = b"{\"name\":\"a page of memory\",\"at\":0x7ffe,\"kept\":true}, ".repeat(40);
    let mut params = Params::default();
    params.set("dict", remember(&words).expect("any bytes are a dictionary"));
    Decoder::with(&ZstdDriver, &params)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DECODER.with_borrow_mut(|decoder| decoder.check(bytes)));
