//! Any bytes for the decoder of pagelz at level 1.
#![no_main]

use std::cell::RefCell;

use zpool_fuzz::decoder::Decoder;
use zpool_pagelz::PagelzDriver;

thread_local!(static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new(&PagelzDriver)));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DECODER.with_borrow_mut(|decoder| decoder.check(bytes)));
