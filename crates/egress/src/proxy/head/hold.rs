//! What holds for all bytes that are read as a head: for the tests, and for the fuzz targets (security INP-6).

use super::{find_end, read};

/// What holds for all bytes: the end is found at the same place however they come, nothing panics, and what was read can be
/// written and read again.
pub(crate) fn hold(bytes: &[u8]) {
    let whole = find_end(bytes, &mut 0);
    let mut seen = 0;
    for end in 1..=bytes.len() {
        match find_end(&bytes[..end], &mut seen) {
            Ok(None) => assert!(!matches!(whole, Ok(Some(at)) if at <= end)),
            other => {
                assert_eq!(other, whole);
                break;
            }
        }
    }
    let Ok(Some(end)) = whole else {
        return;
    };
    let Ok(head) = read(&bytes[..end]) else {
        return;
    };
    let mut again = format!("{} {} {:?}\r\n", head.method, head.target, head.version).into_bytes();
    for (name, value) in &head.headers {
        again.extend_from_slice(name.as_str().as_bytes());
        again.extend_from_slice(b": ");
        again.extend_from_slice(value.as_bytes());
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"\r\n");
    let again = read(&again).expect("what was read can be read again");
    assert_eq!(
        (again.method, again.target, again.framing),
        (head.method, head.target, head.framing)
    );
    assert_eq!(again.headers, head.headers);
}
