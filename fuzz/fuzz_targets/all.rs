//! All targets in one program, so that one build serves them: `MANYHANDS_FUZZ_TARGET` names the one to run. `scripts/fuzz`
//! calls it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use manyhands_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("MANYHANDS_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("MANYHANDS_FUZZ_TARGET is {name:?}, which is no target"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.hold)(bytes));
