//! The reference pool passes its own suite.

use zpool_conformance::{ReferenceDriver, pool_suite};
use zpool_core::{PoolConfig, ZPoolDriver};

pool_suite!(reference, [], |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)));
