//! Examples and exit codes at the end of each command's help.

/// Ends the help of the program.
pub(crate) const PROGRAM: &str = "\
Examples:
  zlab                                      memory of your own processes
  zlab analyze pages.bin --json             a file, for programs
  zlab top --pid 4242                       a process, again and again

Exit codes:
  0  done
  1  the pools broke their contract, or what `train` made does not pay
  2  the command line, the input or the machine is at fault";

pub(crate) const ANALYZE: &str = "\
Examples:
  zlab analyze --pid 4242
  zlab analyze pages.bin --allocator zsmalloc --compressor 'zstd(level=-1)'
  gcore -o core 4242 && zlab analyze core.4242
  zlab analyze pages.bin --sweep --plot chart.svg

Exit codes:
  0  every block came back unchanged
  1  a pair lost or changed a block
  2  the command line, the input or the machine is at fault";

pub(crate) const STORM: &str = "\
Examples:
  zlab storm --seconds 10 --threads 4
  zlab storm --spec zsmalloc+lz4 --spec zbud+zstd --fresh --json
  zlab storm --executor inline              finds the bug, and exits with 1

Exit codes:
  0  the pools kept their contract
  1  they broke it; the message names what
  2  the command line, the input or the machine is at fault";

pub(crate) const REGION: &str = "\
Examples:
  zlab region
  zlab region --seconds 600 --threads 4 --mib 256 --json

Exit codes:
  0  every byte was right, or the kernel lacks what a region needs
  1  a byte was wrong
  2  the command line or the machine is at fault";

pub(crate) const TRAIN: &str = "\
Examples:
  zlab train records.bin -o records.dict --block-size 1024
  zlab train pages.bin -o - > pages.dict
  zlab analyze records.bin --compressor 'zstd(dict=records.dict)'

Exit codes:
  0  the dictionary or model pays, and is written
  1  it does not pay; nothing is written
  2  the command line, the input or the machine is at fault";

pub(crate) const DENSITY: &str = "\
Examples:
  zlab density pages.bin
  zlab density pages.bin --allocator 'zsmalloc(chain=16)' --repeat 4 --json

Exit codes:
  0  done
  2  the command line, the input or the machine is at fault";

pub(crate) const CLASSES: &str = "\
Examples:
  zlab classes
  zlab classes --allocator 'zsmalloc(chain=16)' --block-size 16384 --json

Exit codes:
  0  done
  2  the command line is at fault";

pub(crate) const BACKENDS: &str = "\
Example:
  zlab backends --json

Exit codes:
  0  done
  2  the command line is at fault";

pub(crate) const REPLAY: &str = "\
Examples:
  zlab replay actions.txt --allocator 'zsmalloc(chain=8)'
  zlab replay actions.txt --store zsmalloc+lz4 --json
  zlab replay - < actions.txt

Exit codes:
  0  all is correct
  1  something is not; the message says at which action
  2  the command line, the input or the machine is at fault";

pub(crate) const TOP: &str = "\
Examples:
  zlab top --pid 4242
  zlab top --pid 4242 --interval 0.5 --compressor 'zstd(level=3)'
  zlab top --pid 4242 --count 10 --json > samples.jsonl

Exit codes:
  0  q was pressed, all frames were shown, or the process has ended
  1  a pool lost or changed a block
  2  the command line, the process or the machine is at fault";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  zlab completions bash > ~/.local/share/bash-completion/completions/zlab
  zlab completions zsh > ~/.zfunc/_zlab
  zlab completions fish > ~/.config/fish/completions/zlab.fish

Exit codes:
  0  done
  2  the command line is at fault";
