//! Hooks that run when the library is loaded, and when the program ends.

use crate::calls::{place_of_function, write_stderr};
use crate::settings::Settings;
use crate::space::Space;
use crate::{fork, heap, report};

/// Functions without arguments that the loader calls.
type Hook = extern "C" fn();

#[cfg_attr(not(test), used, unsafe(link_section = ".init_array"))]
static START: Hook = start;

#[cfg_attr(not(test), used, unsafe(link_section = ".fini_array"))]
static END: Hook = end;

/// Makes the address space, before the program's own code runs. If that fails, the program runs
/// without a limit, because it may have dropped its privileges on purpose.
extern "C" fn start() {
    let Some(settings) = Settings::read() else { return };
    let made = settings.and_then(|settings| {
        check_allocator()?;
        // First, because what was registered cannot be withdrawn, and does nothing without a space.
        if !fork::register() {
            return Err("out of memory while registering the fork handlers".to_owned());
        }
        Space::make(settings)
    });
    if let Err(error) = made {
        write_stderr(&format!("zrun: this program runs without a limit: {error}\n"));
    }
}

/// Checks that `malloc` is that of this library, and what is behind it that of glibc.
///
/// Otherwise the program has an allocator of its own for all of libc, such as jemalloc. What glibc
/// and this library keep in small blocks would then be in mappings of that allocator, and so in the
/// reserve: against Z1 and Z2 of the crate's essay.
fn check_allocator() -> Result<(), String> {
    let glibc = place_of_function(c"_IO_list_lock");
    let behind = [c"__libc_malloc", c"__libc_calloc", c"__libc_realloc", c"__libc_free"];
    let is_glibc = glibc.is_some() && behind.map(place_of_function) == [glibc; 4];
    if is_glibc && heap::malloc_is_ours() {
        return Ok(());
    }
    Err("it has an allocator of its own in place of malloc".to_owned())
}

extern "C" fn end() {
    report::write();
}
