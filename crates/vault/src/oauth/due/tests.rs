use super::*;

/// runtime VA-6: refreshed early where the end is known, and never without need.
#[test]
fn va_6_tokens_are_refreshed_a_little_before_their_end() {
    #[track_caller]
    fn check(life: Option<u64>, after: u64, dice: u8, expected: Due) {
        let since = Timestamp::from_micros(1_700_000_000_000_000);
        let at = |seconds: u64| since.after(Duration::from_secs(seconds));
        assert_eq!(due(life.map(at), since, at(after), dice), expected);
    }
    check(None, 1_000_000, 255, Due::Never);
    // An hour: between one and two minutes before its end.
    check(Some(3600), 0, 255, Due::Never);
    check(Some(3600), 3479, 255, Due::Never);
    check(Some(3600), 3480, 255, Due::Soon);
    check(Some(3600), 3539, 0, Due::Never);
    check(Some(3600), 3540, 0, Due::Soon);
    check(Some(3600), 3599, 0, Due::Soon);
    check(Some(3600), 3600, 0, Due::Now);
    check(Some(3600), 9999, 255, Due::Now);
    // A minute: the last tenth of it, so that a new token is not refreshed at once.
    check(Some(60), 0, 255, Due::Never);
    check(Some(60), 53, 255, Due::Never);
    check(Some(60), 54, 255, Due::Soon);
    check(Some(60), 54, 0, Due::Soon);
    check(Some(0), 0, 0, Due::Now);
}

/// A clock that was set back, or an expiry before the last change, refreshes nothing that is good.
#[test]
fn va_6_odd_clocks_do_no_harm() {
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
    assert_eq!(due(Some(at(100)), at(5000), at(50), 255), Due::Never);
    assert_eq!(due(Some(at(5000)), at(100), at(-50), 255), Due::Never);
}
