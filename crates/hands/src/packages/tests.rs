use super::*;

#[track_caller]
fn check_one(manager: Manager, package: &str, taken: bool) {
    assert_eq!(manager.takes(package), taken, "{manager} {package:?}");
}

#[test]
fn en_7_names_and_versions_in_each_managers_own_notation_are_let_through() {
    for (manager, packages) in [
        (
            Manager::Apt,
            &[
                "jq",
                "jq=1.6-2.1",
                "g++",
                "libstdc++6",
                "libc6:i386",
                "python3.11",
                "git=1:2.39.5-0+deb12u1",
                "vim/bookworm-backports",
            ][..],
        ),
        (
            Manager::Cargo,
            &[
                "ripgrep",
                "ripgrep@14.1.0",
                "cargo-nextest@^0.9",
                "b3sum@1.0.0-rc.1+x",
            ],
        ),
        (
            Manager::Gem,
            &["rake", "rake:13.2.1", "ruby_parser", "rails:~> 7.1"],
        ),
        (
            Manager::Go,
            &[
                "golang.org/x/tools/cmd/goimports@v0.26.0",
                "github.com/jesseduffield/lazygit@latest",
                "mvdan.cc/sh/v3/cmd/shfmt",
                "example.com/x@v0.0.0-20260101000000-abcdef123456",
            ],
        ),
        (
            Manager::Npm,
            &[
                "typescript",
                "typescript@5.6.3",
                "@types/node@^20",
                "left-pad@latest",
                "eslint@>=8 <9",
                "JSONStream",
                "x@1.x",
            ],
        ),
        (
            Manager::Pip,
            &[
                "requests",
                "requests==2.32.3",
                "uvicorn[standard]>=0.30,<1",
                "numpy ~= 2.1",
                "zope.interface",
                "a",
                "torch==2.5.1+cpu",
                "x!=1.*",
            ],
        ),
    ] {
        check_one(manager, manager.example(), true);
        for package in packages {
            check_one(manager, package, true);
        }
    }
}

#[test]
fn en_7_nothing_else_reaches_a_manager() {
    let never = [
        "",
        " ",
        "-y",
        "--help",
        "-e .",
        "-",
        ".",
        "..",
        "./x",
        "/etc/passwd",
        "../x",
        "~/x",
        "x y",
        "x;id",
        "x|id",
        "x&id",
        "$(id)",
        "`id`",
        "x\nid",
        "x\0",
        "x\ty",
        "x'",
        "x\"",
        "x\\y",
        "http://h/x",
        "https://h/x.tgz",
        "git+https://h/x",
        "git@h:x",
        "file:///x",
        "x @ https://h/x.whl",
        "x@https://h/x",
        "x@file:y",
        "x@npm:y",
        "x@-y",
        "x=-y",
        "x:-y",
        "x==-y",
        "x.tgz",
        "x.tar.gz",
        "X.TGZ",
        "x.zip",
        "é",
        "ｘ",
        "x\u{202e}",
        "x\u{7f}",
        "@",
        "@/x",
        "x@",
        "x=",
        "x:",
        "x==",
        "x[",
        "x[]",
        "x; python_version > '3'",
        "%2e%2e",
    ];
    for manager in Manager::ALL {
        for package in never {
            check_one(manager, package, false);
        }
        check_one(manager, &"x".repeat(LENGTH + 1), false);
    }
    // What a manager alone would take amiss.
    check_one(Manager::Apt, "bash-", false);
    check_one(Manager::Apt, "x_1.deb", false);
    check_one(Manager::Npm, "user/repository", false);
    check_one(Manager::Go, "std", false);
    check_one(Manager::Go, "h.example/../x", false);
    check_one(Manager::Go, "h.example/.x", false);
    check_one(Manager::Go, "h.example//x", false);
    check_one(Manager::Pip, "x-1.0.whl", false);
}

#[test]
fn en_7_a_refusal_names_the_place_and_shows_how() {
    let packages = Packages {
        npm: vec!["typescript".to_owned()],
        pip: vec!["requests".to_owned(), "--pre".to_owned()],
        ..Packages::default()
    };
    let refusal = check(&packages).unwrap_err();
    assert_eq!(refusal.at, "pip[1]");
    assert!(
        refusal.why.ends_with("for example \"requests==2.32.3\""),
        "{}",
        refusal.why
    );
    let many = Packages {
        apt: vec!["jq".to_owned(); COUNT],
        ..Packages::default()
    };
    assert_eq!(check(&many), Ok(()));
    let more = Packages {
        pip: vec!["x".to_owned()],
        ..many
    };
    assert_eq!(check(&more).unwrap_err().at, "pip");
    assert!(is_empty(&Packages::default()) && !is_empty(&more));
}
