//! Measures the density of one box per object on mimalloc:
//! `cargo run --release -p benches --bin density_mimalloc -- FILE...`.
//!
//! Procedure and output are those of `zlab density`, which has the pools and the system's
//! allocator.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    benches::density_of_boxes("mimalloc")
}
