//! What commands that only look say about what is not there, and that they leave nothing behind.

use std::path::Path;

use serde_json::Value;

use crate::{directory, refused, run, server, succeeded};

const SESSION: &str = "sesn_011CZkZYW4mxrQHJ9wTqLq9Y";

fn is_empty(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.count() == 0
}

/// security NET-10: a folder without a journal is no all-clear.
#[tokio::test]
async fn net_10_no_journal_and_nothing_of_a_session_are_told_apart() {
    let folder = tempfile::tempdir().expect("a directory");
    let absent = folder.path().join("none");
    for place in [&absent, folder.path()] {
        let log = ["egress", "log", SESSION, "--data-dir", directory(place)];
        let said = refused(&run(&log, &[]).await);
        assert!(
            said.contains("there is no egress journal in") && said.contains("--data-dir"),
            "{said}"
        );
    }
    assert!(is_empty(folder.path()));

    let server = server().await;
    let data = directory(server.data_dir());
    let log = ["egress", "log", SESSION, "--data-dir", data];
    let said = succeeded(&run(&log, &[]).await);
    assert!(
        said.starts_with(&format!("nothing of {SESSION} is in the journal")),
        "{said}"
    );
    let machine = succeeded(&run(&[&log[..], &["--json"]].concat(), &[]).await);
    assert_eq!(machine, "", "for a machine there are lines, or none");
}

/// security NET-3, NET-4: what the operator opens is printed, and a look makes nothing that a server would make.
#[tokio::test]
async fn net_4_doctor_prints_the_policy_in_force_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a directory");
    let settings = tempfile::NamedTempFile::new().expect("a file");
    let toml = "[egress]\nports = [8443]\nallow_addresses = ['10.20.0.0/16']\n\
                tunnel_hosts = ['pinned.example.com']\npackage_hosts = ['mirror.example.com']\n";
    std::fs::write(settings.path(), toml).expect("written");
    let env = [("MANYHANDS_CONFIG", directory(settings.path()))];
    let absent = folder.path().join("none");
    for place in [&absent, folder.path()] {
        let doctor = ["doctor", "--json", "--data-dir", directory(place)];
        let output = succeeded(&run(&doctor, &env).await);
        let report: Value = serde_json::from_str(&output).expect("JSON");
        let check = |name: &str| {
            let checks = report["checks"].as_array().expect("a list");
            let check = checks.iter().find(|check| check["name"] == name);
            let check = check.unwrap_or_else(|| panic!("no {name}: {report}"));
            format!("{} {}", check["verdict"], check["found"])
        };
        for (name, found) in [
            ("egress.ports", "80, 443, 8443"),
            ("egress.allow_addresses", "10.20.0.0/16"),
            ("egress.tunnel_hosts", "pinned.example.com"),
            ("egress.package_hosts", "mirror.example.com"),
        ] {
            assert_eq!(check(name), format!("\"note\" \"{found}\""));
        }
        assert!(check("sandbox").starts_with("\"ok\""), "{report}");
        assert!(check("store").starts_with("\"note\""), "{report}");
        assert!(is_empty(folder.path()), "{report}");
    }
}
