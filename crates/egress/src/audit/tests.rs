use std::sync::atomic::{AtomicI64, Ordering};

use manyhands_protocol::time::Clock;

use super::*;

/// A clock that stands still until it is moved.
#[derive(Default)]
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

fn told(entry: &Entry) -> String {
    let what = match &entry.outcome {
        Outcome::Allowed => "allowed",
        Outcome::Refused { reason, .. } => reason,
    };
    format!("{}:{} {what} {}", entry.host, entry.port, entry.count)
}

/// security NET-10
#[test]
fn net_10_refusals_are_lines_and_allowed_requests_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal =
        Arc::new(Journal::open(directory.path(), Arc::new(Still::default())).expect("a journal"));
    let log = SessionLog::new(journal.clone(), "sesn_1");
    let other = SessionLog::new(journal, "sesn_2");
    let refuse = |log: &SessionLog, host: &str| {
        log.refused(
            host.to_owned(),
            443,
            Reason::HostNotAllowed,
            "why".to_owned(),
        );
    };
    refuse(&log, "a.example");
    refuse(&other, "b.example");
    let allowed = Target::parse("c.example:443", None).expect("a target");
    log.allowed(&allowed);
    log.allowed(&allowed);
    // A refusal can be read at once, counts when the second is over or the door closed.
    let Found {
        entries, damaged, ..
    } = read(directory.path(), "sesn_1").expect("a journal");
    assert_eq!(
        (entries.iter().map(told).collect(), damaged),
        (vec!["a.example:443 host_not_allowed 1".to_owned()], 0)
    );
    drop((log, other));
    let entries = read(directory.path(), "sesn_1").expect("a journal").entries;
    let told: Vec<_> = entries.iter().map(told).collect();
    assert_eq!(
        told,
        [
            "a.example:443 host_not_allowed 1",
            "c.example:443 allowed 2"
        ]
    );
    let mode = fs::metadata(directory.path().join(FILE))
        .expect("a file")
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
}

/// security NET-10, invariant I10: a noisy session is counted, and the others' lines stay.
#[test]
fn net_10_a_flood_is_told_by_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(Still::default());
    let journal = Arc::new(Journal::open(directory.path(), clock.clone()).expect("a journal"));
    let log = SessionLog::new(journal, "sesn_1");
    for _ in 0..10_000 {
        log.refused(
            "a.example".to_owned(),
            80,
            Reason::HostNotAllowed,
            String::new(),
        );
    }
    clock.0.fetch_add(1_000_000, Ordering::SeqCst);
    log.refused("b.example".to_owned(), 80, Reason::Malformed, String::new());
    let entries = read(directory.path(), "sesn_1").expect("a journal").entries;
    assert_eq!(entries.len() as u64, LINES + 2);
    assert_eq!(entries.iter().map(|entry| entry.count).sum::<u64>(), 10_001);
    assert_eq!(told(&entries[LINES as usize]), "*:0 host_not_allowed 9900");
    assert_eq!(
        told(&entries[LINES as usize + 1]),
        "b.example:80 malformed_request 1"
    );
}

/// security NET-10: the journal is bounded, and a torn line costs itself.
#[test]
fn net_10_the_journal_is_turned_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(Still::default());
    let journal = Journal::with_length(directory.path(), clock, 1000).expect("a journal");
    let log = SessionLog::new(Arc::new(journal), "sesn_1");
    for number in 0..90 {
        log.refused(
            format!("h{number}.example"),
            80,
            Reason::NoPolicy,
            String::new(),
        );
    }
    let names = fs::read_dir(directory.path()).expect("a directory");
    assert_eq!(names.count() as u32, OLDER + 1);
    let Found {
        entries, damaged, ..
    } = read(directory.path(), "sesn_1").expect("a journal");
    assert_eq!(damaged, 0);
    assert_eq!(
        entries.last().map(|it| it.host.as_str()),
        Some("h89.example")
    );
    assert!((10..90).contains(&entries.len()), "{}", entries.len());
    let mut file = append(&directory.path().join(FILE)).expect("the file");
    file.write_all(b"{\"time\":").expect("a torn line");
    let again = read(directory.path(), "sesn_1").expect("a journal");
    assert_eq!((again.entries, again.damaged), (entries, 1));
}

/// security NET-10: no journal is no all-clear, and one without the session says since when it would know.
#[test]
fn net_10_a_journal_that_is_not_there_is_no_empty_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = read(directory.path(), "sesn_1").expect_err("no journal");
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    assert!(!exists(directory.path()));
    let clock = Arc::new(Still::default());
    let journal = Arc::new(Journal::open(directory.path(), clock.clone()).expect("a journal"));
    let found = read(directory.path(), "sesn_1").expect("a journal");
    assert_eq!(found, Found::default());
    assert!(exists(directory.path()));
    let log = SessionLog::new(journal, "sesn_2");
    for _ in 0..2 {
        clock.0.fetch_add(1_000_000, Ordering::SeqCst);
        log.refused("a.example".to_owned(), 80, Reason::NoPolicy, String::new());
    }
    let found = read(directory.path(), "sesn_1").expect("a journal");
    let since = Some(Timestamp::from_micros(1_000_000));
    assert_eq!((found.entries, found.since), (Vec::new(), since));
}
