//! Identity and capabilities of a compressor.

use zpool_core::CreateError;
use zpool_core::spec::Component;

use crate::compressor::CompressorMaker;
use crate::compressor::harness::CompressorHarness;

/// `identity`, `capabilities`: work does not change them, and there is a licence.
pub fn identity_and_capabilities_never_change(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    let (identity, capabilities) =
        (harness.compressor.identity().clone(), harness.compressor.capabilities());
    harness.check_round_trip(&[7; 4096]);
    let _ = harness.decompress(&[0xFF; 9], 100, 0);
    assert_eq!(*harness.compressor.identity(), identity, "identity: after work");
    assert_eq!(harness.compressor.capabilities(), capabilities, "capabilities: after work");
    assert!(
        !capabilities.licence.trim().is_empty(),
        "capabilities: a licence, as an SPDX expression"
    );
}

/// `identity`: two compressors of one driver with the same parameters have the same identity. It
/// has the driver's name, and its text form can be parsed.
pub fn equal_settings_are_one_identity(maker: &CompressorMaker) {
    let (one, other) = (maker.open(), maker.open());
    assert_eq!(one.identity(), other.identity(), "identity: opened twice with the same parameters");
    assert_eq!(one.identity().name, maker.driver().name(), "identity: the name");
    let text = one.identity().to_string();
    let read = text.parse::<Component>().unwrap_or_else(|e| panic!("identity: {e}"));
    assert_eq!(read, *one.identity(), "identity: `{text}` read back");
}

/// `CompressorDriver::open`: an unknown parameter is an error that names it. If it were ignored, a
/// typo would go unnoticed.
pub fn unknown_parameters_are_refused(maker: &CompressorMaker) {
    const MADE_UP: &str = "no-codec-has-this";
    let mut params = maker.params().clone();
    params.set(MADE_UP, "1");
    match maker.driver().open(&params) {
        Err(CreateError::UnknownParameter { name, .. }) => {
            assert_eq!(name, MADE_UP, "the parameter named")
        }
        other => panic!("open: with a parameter of a made-up name: {other:?}"),
    }
}
