//! The examples are tests as well: each runs to its end, and its assertions hold.

#[path = "../examples/buffer_pool.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod buffer_pool;
#[path = "../examples/http_cache.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod http_cache;
#[path = "../examples/log_search.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod log_search;

/// Pages are rendered once, and live as long as they say.
#[test]
fn http_cache_runs() {
    http_cache::main().unwrap();
}

/// Updates are not lost, and pinned pages stay.
#[test]
fn buffer_pool_runs() {
    buffer_pool::main().unwrap();
}

/// All errors are found, and one line is read by its offset.
#[test]
fn log_search_runs() {
    log_search::main().unwrap();
}
