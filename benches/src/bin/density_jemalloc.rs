//! Measures the density of one box per object on jemalloc:
//! `cargo run --release -p benches --features jemalloc --bin density_jemalloc -- FILE...`.
//!
//! Procedure and output are those of `zlab density`, which has the pools and the system's
//! allocator.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    benches::density_of_boxes("jemalloc")
}
