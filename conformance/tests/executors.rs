//! The executors of zpool-core pass the suite. Those with threads belong to zpool-manager and pass
//! it there.

use zpool_conformance::executor_suite;
use zpool_core::exec::{Inline, Manual};

executor_suite!(manual, [no_block, ordered, drain], Manual::new);
executor_suite!(inline, [ordered, on_caller], Inline::new);
