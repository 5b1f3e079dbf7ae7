use super::*;
use crate::secrets::{Credential, Hosts};

fn limited(allowed: &[&str], mcp: bool, packages: bool) -> Networking {
    Networking::Limited {
        allowed_hosts: allowed.iter().map(|text| (*text).to_owned()).collect(),
        allow_mcp_servers: mcp,
        allow_package_managers: packages,
    }
}

fn operator() -> Operator {
    let patterns = |list: &[&str]| {
        let read = |text: &&str| Pattern::parse(text).expect(text);
        list.iter().map(read).collect()
    };
    Operator {
        ports: vec![80, 443, 8443],
        package_hosts: patterns(&["pypi.example", "*.crates.example"]),
        tunnel_hosts: patterns(&["pinned.example"]),
    }
}

fn policy(networking: &Networking) -> Policy {
    let mcp = ["mcp.example".to_owned(), "127.0.0.1".to_owned()];
    Policy::new(networking, &mcp, &operator()).expect("a policy")
}

#[track_caller]
fn check(policy: &Policy, target: &str, expected: Result<Tls, Reason>) {
    let target = Target::parse(target, None).expect(target);
    let decided = match policy.decide(&target) {
        Decision::Allow(allowed) => {
            assert_eq!(allowed.target(), &target);
            Ok(allowed.tls())
        }
        Decision::Refuse(reason) => Err(reason),
    };
    assert_eq!(decided, expected, "{target}");
}

/// security NET-1, runtime EN-10, EN-11: the list, and what its switches name.
#[test]
fn net_1_limited_is_the_list_and_its_switches() {
    let bare = policy(&limited(&["a.example", "*.b.example"], false, false));
    check(&bare, "a.example:443", Ok(Tls::Opened));
    check(&bare, "x.b.example:80", Ok(Tls::Opened));
    for target in [
        "b.example:443",
        "x.a.example:443",
        "mcp.example:443",
        "pypi.example:443",
        "pinned.example:443",
    ] {
        check(&bare, target, Err(Reason::HostNotAllowed));
    }
    let mcp = policy(&limited(&[], true, false));
    check(&mcp, "mcp.example:443", Ok(Tls::Opened));
    check(&mcp, "pypi.example:443", Err(Reason::HostNotAllowed));
    let packages = policy(&limited(&["pinned.example"], false, true));
    check(&packages, "pypi.example:443", Ok(Tls::Opened));
    check(&packages, "static.crates.example:443", Ok(Tls::Opened));
    check(&packages, "mcp.example:443", Err(Reason::HostNotAllowed));
    check(&packages, "pinned.example:443", Ok(Tls::PassedWithName));
    let nothing = policy(&limited(&[], false, false));
    check(&nothing, "a.example:443", Err(Reason::HostNotAllowed));
}

/// runtime EN-10: any name; security NET-4: the operator's ports.
#[test]
fn en_10_unrestricted_is_every_name_on_the_ports() {
    let open = policy(&Networking::Unrestricted {});
    check(&open, "any.example:443", Ok(Tls::Passed));
    check(&open, "any.example:8443", Ok(Tls::Passed));
    check(&open, "any.example:22", Err(Reason::PortNotAllowed));
    let listed = policy(&limited(&["a.example"], false, false));
    check(&listed, "a.example:8443", Ok(Tls::Opened));
    check(&listed, "a.example:25", Err(Reason::PortNotAllowed));
    assert_eq!(Operator::default().ports, [80, 443]);
}

/// runtime VA-14, GH-4, GH-5; security CRED-9: what a session has attached opens its TLS, and its repositories' hosts for them.
#[test]
fn va_14_tls_is_opened_where_something_of_the_session_is_used() {
    let pattern = |text: &str| Pattern::parse(text).expect("a pattern");
    let target = |text: &str| Target::parse(text, None).expect("a target");
    let attached = |hosts| Attached {
        credentials: vec![Credential {
            hosts,
            header: true,
            body: false,
        }],
        repositories: vec![target("git.example:443")],
    };
    let listed = attached(Hosts::Listed(vec![
        pattern("*.api.example"),
        pattern("pinned.example"),
    ]));
    let any = attached(Hosts::Any);
    let open = policy(&Networking::Unrestricted {});
    let tight = policy(&limited(&["x.api.example", "pinned.example"], false, false));
    let check = |policy: &Policy, place: &str, attached: &Attached, expected| {
        let decided = match policy.decide_with(&target(place), attached) {
            Decision::Allow(allowed) => Ok((allowed.tls(), allowed.ways())),
            Decision::Refuse(reason) => Err(reason),
        };
        assert_eq!(decided, expected, "{place}");
    };
    use Tls::{Opened, Passed, PassedWithName};
    use Ways::{All, Repositories};
    check(&open, "x.api.example:443", &listed, Ok((Opened, All)));
    check(&open, "api.example:443", &listed, Ok((Passed, All)));
    check(&open, "git.example:443", &listed, Ok((Opened, All)));
    check(&open, "else.example:443", &any, Ok((Opened, All)));
    check(
        &open,
        "pinned.example:443",
        &listed,
        Ok((PassedWithName, All)),
    );
    check(
        &open,
        "pinned.example:443",
        &Attached::default(),
        Ok((Passed, All)),
    );
    check(&tight, "x.api.example:443", &listed, Ok((Opened, All)));
    check(
        &tight,
        "y.api.example:443",
        &listed,
        Err(Reason::HostNotAllowed),
    );
    check(
        &tight,
        "git.example:443",
        &listed,
        Ok((Opened, Repositories)),
    );
    check(
        &tight,
        "git.example:8443",
        &listed,
        Err(Reason::HostNotAllowed),
    );
    check(
        &tight,
        "else.example:443",
        &any,
        Err(Reason::HostNotAllowed),
    );
    check(
        &Policy::closed(),
        "git.example:443",
        &any,
        Err(Reason::NoPolicy),
    );
}

/// security NET-7
#[test]
fn net_7_a_list_that_cannot_be_read_opens_nothing() {
    for wrong in ["A.example", "10.0.0.1", "https://a.example", "*", ""] {
        let networking = limited(&["a.example", wrong], true, true);
        let error = Policy::new(&networking, &[], &operator()).expect_err(wrong);
        assert_eq!(error.text, wrong);
    }
    let closed = Policy::closed();
    check(&closed, "a.example:443", Err(Reason::NoPolicy));
}

/// security NET-10
#[test]
fn net_10_every_reason_has_a_code_of_its_own() {
    let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|it| it.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert!(matches!(reason.status(), 400 | 403 | 421), "{reason}");
        assert!(reason.remedy().ends_with('.'), "{reason}");
    }
}
