//! Runs the examples as tests: each runs to its end, and its assertions hold. `first` is a doctest
//! of the crate.
#![cfg(not(zpool_loom))]

#[cfg(feature = "zstd")]
#[path = "../examples/cold_dictionary.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod cold_dictionary;
#[path = "../examples/column_cache.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod column_cache;
#[cfg(feature = "zstd")]
#[path = "../examples/dictionary.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod dictionary;
#[path = "../examples/dirty_pages.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod dirty_pages;
#[path = "../examples/json_cache.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod json_cache;
#[path = "../examples/metrics_export.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod metrics_export;
#[path = "../examples/slow_file.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod slow_file;
#[cfg(unix)]
#[path = "../examples/tier_tokio.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod tier_tokio;
#[path = "../examples/tokio_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod tokio_server;
#[path = "../examples/vm_pages.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example, run here as it is")]
mod vm_pages;

#[cfg(feature = "zstd")]
#[test]
fn a_dictionary_from_the_blocks_of_a_store() {
    dictionary::main().unwrap();
}

#[cfg(feature = "zstd")]
#[test]
fn a_dictionary_from_cold_blocks() {
    cold_dictionary::main().unwrap();
}

#[test]
fn a_guest_whose_cold_pages_are_compressed() {
    vm_pages::main().unwrap();
}

#[test]
fn a_cache_of_columns_for_queries() {
    column_cache::main().unwrap();
}

#[test]
fn a_block_cache_in_front_of_a_slow_file() {
    slow_file::main().unwrap();
}

#[test]
fn a_buffer_pool_with_dirty_pages() {
    dirty_pages::main().unwrap();
}

#[test]
fn a_cache_of_json_values_of_any_size() {
    json_cache::main().unwrap();
}

#[test]
fn statistics_through_metrics() {
    metrics_export::main().unwrap();
}

#[test]
fn a_server_whose_compressor_is_switched_under_load() {
    tokio_server::main().unwrap();
}

#[cfg(unix)]
#[test]
fn a_cache_with_a_file_below_memory_in_tokio() {
    tier_tokio::main().unwrap();
}
