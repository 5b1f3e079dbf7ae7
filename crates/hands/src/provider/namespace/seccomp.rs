//! The system-call filters of a sandbox, compiled from the reviewed file `seccomp.json` (security SBX-1).
//!
//! Three filters lie on top of each other: an allow-list, behind which everything unknown does not exist; what is
//! refused with "not permitted"; and the socket families that are left. Where two say no, the later one's error
//! number is what a program sees.

use std::collections::BTreeMap;

use seccompiler::{BpfMap, TargetArch};

/// The filters in the order they are installed in.
const ORDER: [&str; 3] = ["allow", "forbid", "families"];

/// The filters as programs for the kernel, in order.
///
/// # Errors
/// A text that says why there are none for this machine.
pub(in crate::provider) fn programs() -> Result<Vec<Vec<u8>>, String> {
    let arch = std::env::consts::ARCH;
    let target =
        TargetArch::try_from(arch).map_err(|_| format!("no system-call filter for {arch}"))?;
    let compiled: BpfMap =
        seccompiler::compile_from_json(include_bytes!("seccomp.json").as_slice(), target).map_err(
            |error| format!("the system-call filter cannot be compiled for {arch}: {error}"),
        )?;
    let mut compiled: BTreeMap<_, _> = compiled.into_iter().collect();
    ORDER
        .iter()
        .map(|name| {
            let program = compiled
                .remove(*name)
                .ok_or_else(|| format!("the system-call filter lacks {name}"))?;
            Ok(program
                .iter()
                .flat_map(|step| {
                    let [a, b] = step.code.to_ne_bytes();
                    let [c, d, e, f] = step.k.to_ne_bytes();
                    [a, b, step.jt, step.jf, c, d, e, f]
                })
                .collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_1_the_filters_compile_to_whole_programs() {
        let programs = programs().unwrap();
        assert_eq!(programs.len(), 3);
        for program in programs {
            let steps = program.len() / 8;
            assert!(
                program.len() % 8 == 0 && (10..4096).contains(&steps),
                "{steps} steps"
            );
        }
    }
}
