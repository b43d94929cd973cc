//! Files and pipes that the user names: blocks read from them, and the file for a result.

mod first_blocks;
mod input;
mod output_file;
mod sampled_files;

pub use first_blocks::read_first_blocks;
pub use input::{FilesError, Input, check_input, input_path};
pub use output_file::{OutputError, OutputFile, check_standard_streams};
pub use sampled_files::read_files;
