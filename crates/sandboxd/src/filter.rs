//! System-call filters that process 1 takes on itself, and with itself everything it starts (security SBX-1): for
//! sandboxes whose starter cannot do it.

use std::io;
use std::path::Path;

use seccompiler::sock_filter;

/// The largest filter a kernel takes, in steps of eight bytes.
const STEPS: usize = 4096;

/// Installs the filter in the file at `path`, as the kernel reads it. For the whole process only before it has threads.
///
/// # Errors
/// When it cannot be read, is no filter, or the kernel does not take it.
pub fn install(path: &Path) -> io::Result<()> {
    let program = parse(&std::fs::read(path)?)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn parse(bytes: &[u8]) -> io::Result<Vec<sock_filter>> {
    let (steps, rest) = bytes.as_chunks::<8>();
    if steps.is_empty() || steps.len() > STEPS || !rest.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "this is no system-call filter",
        ));
    }
    let step = |&[a, b, jt, jf, c, d, e, f]: &[u8; 8]| sock_filter {
        code: u16::from_ne_bytes([a, b]),
        jt,
        jf,
        k: u32::from_ne_bytes([c, d, e, f]),
    };
    Ok(steps.iter().map(step).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_1_what_is_no_filter_is_not_installed() {
        #[track_caller]
        fn check(bytes: &[u8], steps: Option<usize>) {
            assert_eq!(parse(bytes).ok().map(|program| program.len()), steps);
        }
        check(&[0; 16], Some(2));
        check(&[], None);
        check(&[0; 15], None);
        check(&[0; 8 * (STEPS + 1)], None);
        let step = parse(&[6, 0, 1, 2, 0, 0, 0xff, 0x7f]).unwrap().remove(0);
        assert_eq!(
            (step.code, step.jt, step.jf, step.k),
            (6, 1, 2, 0x7fff_0000)
        );
    }
}
