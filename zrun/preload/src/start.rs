//! Hooks that run when the library is loaded, and when the program ends.

use crate::calls::complain;
use crate::settings::Settings;
use crate::space::Space;
use crate::{fork, report};

/// Functions without arguments that the loader calls.
type Hook = extern "C" fn();

#[cfg_attr(not(test), used, unsafe(link_section = ".init_array"))]
static START: Hook = start;

#[cfg_attr(not(test), used, unsafe(link_section = ".fini_array"))]
static END: Hook = end;

/// Makes the address space, before the program's own code runs. If that fails, the program runs
/// without a limit, because it may be one that has given up its rights on purpose.
extern "C" fn start() {
    let Some(settings) = Settings::read() else { return };
    let made = settings.and_then(|settings| {
        // First, because what was registered cannot be withdrawn, and does nothing without a space.
        if !fork::register() {
            return Err("there is no memory".to_owned());
        }
        Space::make(settings)
    });
    if let Err(error) = made {
        complain(&format!("zrun: this program runs without a limit: {error}\n"));
    }
}

extern "C" fn end() {
    report::write();
}
