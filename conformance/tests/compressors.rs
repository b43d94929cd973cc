//! The null and the run-length compressor pass their own suite.

use zpool_conformance::{NullDriver, RleDriver, compressor_suite};

compressor_suite!(null, [stateless, no_heap], NullDriver, "");
compressor_suite!(rle, [stateless, no_heap], RleDriver, "");
