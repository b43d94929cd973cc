//! lzo keeps the contract of a compressor.

use zpool_conformance::compressor_suite;
use zpool_lzo::LzoDriver;

compressor_suite!(lzo, [stateless], LzoDriver, "");
