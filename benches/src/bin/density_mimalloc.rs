//! One box an object on mimalloc: `cargo run --release -p benches --bin density_mimalloc -- FILE... [--repeat N] [--max-blocks N] [--json]`.
//!
//! The procedure and the output are those of `zlab density`, which has the pools and the system's allocator.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    benches::density_of_boxes("mimalloc")
}
