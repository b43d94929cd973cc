//! The two reference pools pass the suite: the map, and the pool that moves its objects at every chance.

use zpool_conformance::{MovingDriver, ReferenceDriver, pool_suite};
use zpool_core::{PoolConfig, ZPoolDriver};

pool_suite!(reference, [], |source| ReferenceDriver.create(&PoolConfig::new(source, 4096)));
pool_suite!(moving, [compact], |source| MovingDriver.create(&PoolConfig::new(source, 4096)));
pool_suite!(moving_blocks_of_16_kib, [compact], |source| MovingDriver
    .create(&PoolConfig::new(source, 16 << 10)));
