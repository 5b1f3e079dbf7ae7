use super::*;

fn repository(url: &str) -> Repository {
    Repository::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// runtime GH-1: https, a host and a path, each in its only spelling.
#[test]
fn gh_1_a_url_is_read_in_one_spelling_only() {
    #[track_caller]
    fn check(url: &str, expected: Result<(&str, &str), NotARepository>) {
        let parsed = Repository::parse(url).map(|it| (it.target.to_string(), it.name().to_owned()));
        let expected = expected.map(|(target, name)| (target.to_owned(), name.to_owned()));
        assert_eq!(parsed, expected, "{url}");
    }
    check(
        "https://github.com/acme/tools",
        Ok(("github.com:443", "tools")),
    );
    check(
        "https://github.com/Acme/to.ols",
        Ok(("github.com:443", "to.ols")),
    );
    check(
        "https://git.example.com/acme/tools.git",
        Ok(("git.example.com:443", "tools")),
    );
    check(
        "https://git.example.com:8443/acme/tools",
        Ok(("git.example.com:8443", "tools")),
    );
    check(
        "https://git.example.com/group/sub/tools",
        Ok(("git.example.com:443", "tools")),
    );
    check(
        "https://git.example.com/~user/tools",
        Ok(("git.example.com:443", "tools")),
    );

    check(
        "https://github.com/acme/tools.git",
        Err(NotARepository::Github),
    );
    check(
        "https://github.com/acme/sub/tools",
        Err(NotARepository::Github),
    );
    for url in [
        "http://github.com/acme/tools",
        "ssh://git@github.com/acme/tools",
        "git@github.com:acme/tools",
        "git://git.example.com/acme/tools",
        "file:///srv/tools",
        "HTTPS://github.com/acme/tools",
        "",
    ] {
        check(url, Err(NotARepository::Scheme));
    }
    for url in [
        "https://token@github.com/acme/tools",
        "https://a:b@git.example.com/acme/tools",
    ] {
        check(url, Err(NotARepository::UserInfo));
    }
    for url in [
        "https://github.com/acme/tools?x",
        "https://github.com/acme/tools#x",
    ] {
        check(url, Err(NotARepository::Query));
    }
    for url in [
        "https://github.com",
        "https://github.com/",
        "https://github.com/acme",
        "https://github.com/acme/",
        "https://github.com/acme//tools",
        "https://github.com/acme/tools/",
        "https://github.com/acme/..",
        "https://github.com/./tools",
        "https://github.com/acme/to%6fls",
        "https://github.com/acme/to ols",
        "https://github.com/acme/to\\ols",
        "https://github.com/acme/.git",
        "https://git.example.com/acme/-tools",
        "https://git.example.com/acme/tö",
        "https://git.example.com/acme/a\nb",
    ] {
        check(url, Err(NotARepository::Path));
    }
    check(
        "https://GitHub.com/acme/tools",
        Err(NotCanonical::Capitals.into()),
    );
    check(
        "https://github.com./acme/tools",
        Err(NotCanonical::TrailingDot.into()),
    );
    check(
        "https://127.0.0.1/acme/tools",
        Err(NotCanonical::Address.into()),
    );
    check(
        "https://[::1]/acme/tools",
        Err(NotCanonical::Address.into()),
    );
    check(
        "https://github.com:0/acme/tools",
        Err(NotCanonical::Port.into()),
    );
    check(
        &format!("https://github.com/acme/{}", "a".repeat(LONGEST)),
        Err(NotARepository::Long),
    );
    check(
        &format!("https://github.com/acme/{}", "a".repeat(256)),
        Err(NotARepository::Path),
    );
}

/// runtime GH-4, GH-5, security CRED-9: what is exactly this repository's, on exactly its host, and nothing beside it.
#[test]
fn gh_5_only_the_requests_of_the_repository_are_its_own() {
    #[track_caller]
    fn check(url: &str, to: &str, method: &Method, path: &str, expected: bool) {
        let target = Target::parse(to, Some(443)).expect("a target");
        let owned = repository(url).owns(&target, method, path);
        assert_eq!(owned, expected, "{url}: {method} {to}{path}");
    }
    const PLAIN: &str = "https://git.example.com/acme/tools";
    const GITHUB: &str = "https://github.com/Acme/Tools";
    let refs = "info/refs?service=git-upload-pack";
    for path in [
        "/acme/tools/info/refs?service=git-upload-pack",
        "/acme/tools.git/info/refs?service=git-receive-pack",
        "/acme/tools.git/info/lfs/locks?limit=1",
    ] {
        check(PLAIN, "git.example.com", &Method::GET, path, true);
        check(PLAIN, "git.example.com:443", &Method::GET, path, true);
        check(
            &format!("{PLAIN}.git"),
            "git.example.com",
            &Method::GET,
            path,
            true,
        );
        for elsewhere in [
            "git.example.com:8443",
            "example.com",
            "a.git.example.com",
            "github.com",
        ] {
            check(PLAIN, elsewhere, &Method::GET, path, false);
        }
    }
    for path in [
        "/acme/tools/git-upload-pack",
        "/acme/tools.git/git-receive-pack",
        "/acme/tools.git/info/lfs/objects/batch",
    ] {
        check(PLAIN, "git.example.com", &Method::POST, path, true);
    }
    for path in [
        // Other repositories of the owner, and of others.
        "/acme/other/info/refs?service=git-upload-pack",
        "/acme/tools2/info/refs?service=git-upload-pack",
        "/acme/tools.gitx/info/refs?service=git-upload-pack",
        "/acme/tools.git.git/info/refs?service=git-upload-pack",
        "/acme/too/info/refs?service=git-upload-pack",
        "/other/tools/info/refs?service=git-upload-pack",
        "/Acme/tools/info/refs?service=git-upload-pack",
        "/x/acme/tools/info/refs?service=git-upload-pack",
        // Other spellings.
        "//acme/tools/info/refs?service=git-upload-pack",
        "/acme//tools/info/refs?service=git-upload-pack",
        "/./acme/tools/info/refs?service=git-upload-pack",
        "/acme/tools/../other/info/refs?service=git-upload-pack",
        "/acme/tools/%2e%2e/other/info/refs?service=git-upload-pack",
        "/acme/tools/..%2fother/info/refs?service=git-upload-pack",
        "/acme/tools/info/lfs/../../other/info/refs?service=git-upload-pack",
        "/acme/tools/info/lfs/%2e%2e/%2e%2e/other",
        "/acme/tools/info/lfs/..;/x",
        "/acme/tools/info/lfs/a%2fb",
        "/acme/tools/info/lfs/%",
        "/acme/tools/info/lfs/%4",
        "/acme/tools/info/lfs/%+1",
        "/acme/tools/info/lfs/%zz",
        "/acme/tools/info/lfs//x",
        "/acme/tools/info/lfsx",
        "/acme/%74ools/info/refs?service=git-upload-pack",
        "/acme/tools/info/refs?service=git-upload-pack&x=1",
        "/acme/tools/info/refs?service=git-upload-archive",
        "/acme/tools/info/refs",
        // What is not git's.
        "/acme/tools/HEAD",
        "/acme/tools/objects/info/packs",
        "/acme/tools",
        "/acme/tools/",
        "/acme/tools/settings",
        "/acme/tools/git-upload-pack",
        "",
        "/",
        "*",
    ] {
        check(PLAIN, "git.example.com", &Method::GET, path, false);
    }
    check(
        PLAIN,
        "git.example.com",
        &Method::POST,
        "/acme/tools/git-upload-pack?x",
        false,
    );
    check(
        PLAIN,
        "git.example.com",
        &Method::POST,
        &format!("/acme/tools/{refs}"),
        false,
    );
    check(
        PLAIN,
        "git.example.com",
        &Method::GET,
        "/repos/acme/tools",
        false,
    );

    // One host has names in any case, and REST calls on a host of their own.
    check(
        GITHUB,
        "github.com",
        &Method::GET,
        &format!("/acme/tools/{refs}"),
        true,
    );
    check(
        GITHUB,
        "github.com",
        &Method::GET,
        &format!("/ACME/tools.git/{refs}"),
        true,
    );
    check(
        GITHUB,
        "github.com",
        &Method::GET,
        "/repos/acme/tools",
        false,
    );
    for path in [
        "/repos/acme/tools",
        "/repos/Acme/Tools/pulls?state=open",
        "/repos/acme/tools/compare/main...dev",
        "/repos/acme/tools/contents/a%20b",
    ] {
        check(GITHUB, "api.github.com", &Method::GET, path, true);
        check(GITHUB, "api.github.com:8443", &Method::GET, path, false);
        check(PLAIN, "api.github.com", &Method::GET, path, false);
    }
    for path in [
        "/repos/acme/other",
        "/repos/acme/tools2/pulls",
        "/repos/acme/tools.git/pulls",
        "/repos/acme/tools/../other",
        "/repos/acme/tools/%2E%2E/other",
        "/repos/acme/tools/",
        "/repos/acme/tools//pulls",
        "/repos/acme",
        "/user",
        "/acme/tools",
        "/REPOS/acme/tools",
        "/graphql",
    ] {
        check(GITHUB, "api.github.com", &Method::GET, path, false);
    }
    check(
        GITHUB,
        "api.github.com",
        &Method::GET,
        &format!("/acme/tools/{refs}"),
        false,
    );
}

/// runtime GH-3, security SBX-8: what is kept of one repository is never taken for another's.
#[test]
fn gh_3_a_repository_is_told_apart_by_its_key() {
    #[track_caller]
    fn check(url: &str, expected: &str) {
        assert_eq!(Repository::parse(url).expect(url).key(), expected, "{url}");
    }
    check(
        "https://git.example.com/acme/tools",
        "git.example.com:443/acme/tools",
    );
    check(
        "https://git.example.com:443/acme/tools.git",
        "git.example.com:443/acme/tools",
    );
    check(
        "https://git.example.com:8443/acme/tools",
        "git.example.com:8443/acme/tools",
    );
    check(
        "https://git.example.com/Acme/tools",
        "git.example.com:443/Acme/tools",
    );
    check("https://git.example.com/a/b/c", "git.example.com:443/a/b/c");
    check("https://github.com/Acme/Tools", "github.com:443/acme/tools");
}
