//! The command that clones, and what its last words mean. Pure.

use manyhands_protocol::repository::Checkout;

use super::{Cause, LIMIT, Made, Repository, Shown};

/// What the command's last line begins with: what comes before it is git's.
const MARK: &str = "manyhands-repository:";
/// The longest detail that is shown, in characters.
const DETAIL: usize = 300;

/// Everything happens beside the place and is moved there when it is whole, so that a sandbox that dies, or is kept and restored,
/// has all of a checkout or nothing of it.
///
/// Of what a host says, however long it is, the end is kept. Of configuration only the sandbox's own counts, and that of the
/// repository which git makes here: no template, no hook, no helper that could know credentials, no other protocol than https, no
/// submodules, no large files that are elsewhere.
///
/// What was kept of the repository is borrowed from, not copied from: the host says what there is, to this session, and is asked for
/// what the borrowed objects do not have. They are indexed anew, which proves each of them to be what its name says, and have to
/// be complete for their own references. What no reference of the clone reaches goes: the host does not show it any more, or never did.
const SCRIPT: &str = r#"(
end() { printf '\nMARK %s\n' "$*"; [ "$1" = there ]; exit; }
fail() { rm -rf -- "$next" "$kept"; printf '%s' "$2"; end "$1"; }
set -o pipefail
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_CONFIG_GLOBAL=/dev/null GIT_LFS_SKIP_SMUDGE=1
unset GIT_ASKPASS SSH_ASKPASS GIT_DIR GIT_WORK_TREE
next=${to%/*}/.cloning-$id kept=${to%/*}/.cloning-$id-kept made=new
[ -e "$to/.git" ] && end there
command -v git >/dev/null || fail clone 'there is no git in this sandbox'
said=$(mkdir -p -- "${to%/*}" 2>&1 && rm -rf -- "$next" "$kept" 2>&1) || fail clone "$said"
if [ -e "$to" ] || [ -L "$to" ]; then rmdir -- "$to" 2>/dev/null || fail clone "$to is there already, and no repository"; fi
tool() { timeout -k 10 SECONDS git -c credential.helper= -c core.hooksPath=/dev/null -c protocol.allow=never \
  -c protocol.https.allow=always -c http.lowSpeedLimit=1 -c http.lowSpeedTime=120 "$@" 2>&1 | tail -c 4000; }
kib() { du -sk -- "$1" | { read -r size _ && echo "$size"; }; }
bare() { timeout -k 10 SECONDS git --git-dir="$kept" "$@"; }
borrow() {
  bare init --quiet --bare --template= && head -c "$head" -- "$from" >"$kept/packed-refs" &&
    tail -c "+$((head + 1))" -- "$from" | bare index-pack --stdin && reached=$(bare rev-list --objects --all | wc -l) &&
    packed=$(bare count-objects -v | sed -n 's/^in-pack: //p') && bare for-each-ref --format='%(objectname)' >"$kept/tips"
}
lent=()
if [ -n "$from" ]; then
  if borrow >/dev/null 2>&1; then made=kept lent=(--reference "$kept"); else made=broken; rm -rf -- "$kept"; fi
fi
said=$(tool clone --quiet --no-checkout --template= --no-recurse-submodules "${lent[@]}" -- "$url" "$next") || fail clone "$said"
cd -- "$next" || fail clone
packs=.git/objects/pack
if [ "$made" = kept ]; then
  [ "$((4 * $(kib .git/objects)))" -gt "$(kib "$kept/objects")" ] && made=outgrown
  said=$(mv -- "$kept"/objects/pack/pack-* "$packs" 2>&1 && rm -- .git/objects/info/alternates 2>&1) || fail clone "$said"
  left=$(tool rev-list --objects --not --all --not --stdin <"$kept/tips") || left=unknown
  [ -z "$left" ] || made=outgrown
  if [ -n "$left" ] || [ "$reached" != "$packed" ]; then said=$(tool repack -a -d -q -n) || fail clone "$said"; fi
  rm -rf -- "$kept"
fi
pack=
set -- "$packs"/*.pack
if [ "$#" = 1 ] && [ -f "$1" ] && [ -f .git/packed-refs ] && [ "$(tool rev-parse --show-object-format)" = sha1 ]; then
  pack=${1##*/pack-} pack=${pack%.pack}
fi
case $kind in
branch)
  tool rev-parse --quiet --verify "refs/remotes/origin/$what^{commit}" >/dev/null || fail checkout "there is no branch $what"
  said=$(tool checkout --quiet -B "$what" --track "refs/remotes/origin/$what") || fail checkout "$said" ;;
commit)
  tool cat-file -e "$what^{commit}" >/dev/null || said=$(tool fetch --quiet --no-recurse-submodules origin "$what") ||
    fail checkout "$said"
  said=$(tool checkout --quiet --detach "$what") || fail checkout "$said" ;;
*)
  if tool rev-parse --quiet --verify 'HEAD^{commit}' >/dev/null; then said=$(tool checkout --quiet) || fail checkout "$said"; fi ;;
esac
unset GIT_CONFIG_GLOBAL
git config user.email >/dev/null || { git config user.name Agent && git config user.email agent@sandbox.invalid; }
cd / && said=$(mv -T -- "$next" "$to" 2>&1) || fail clone "$said"
end there "$made" $pack
)"#;

/// The command that clones a repository, or finds it in its place.
pub(super) fn clone(repository: &Repository, shown: Option<&Shown>) -> String {
    let (kind, what) = match &repository.checkout {
        None => ("default", ""),
        Some(Checkout::Branch { name }) => ("branch", name.as_str()),
        Some(Checkout::Commit { sha }) => ("commit", sha.as_str()),
    };
    let head = shown.map_or(0, |shown| shown.head).to_string();
    let values = [
        ("from", shown.map_or("", |shown| shown.path.as_str())),
        ("head", &head),
        ("id", repository.id.as_str()),
        ("url", &repository.url),
        ("to", &repository.mount_path),
        ("kind", kind),
        ("what", what),
    ];
    // Half a minute is left for what is not git's.
    let seconds = LIMIT.as_secs() - 30;
    let script = SCRIPT
        .replace("SECONDS", &seconds.to_string())
        .replacen("MARK", MARK, 1);
    let set = values.map(|(name, value)| format!("{name}={}\n", quoted(value)));
    script.replacen('(', &format!("(\n{}", set.concat()), 1)
}

/// A word of the shell that means these characters.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Why a repository is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// One short line.
    pub(super) detail: String,
    /// Whether the connection ended in the middle, or could not be made: another one may do better.
    pub(super) broke_off: bool,
}

/// How the repository has come there, from what the command said, or why it has not.
pub(super) fn outcome(said: &str) -> Result<Made, Failure> {
    let said = said.trim_end();
    let (before, last) = said.rsplit_once('\n').unwrap_or(("", said));
    let failed = match last.strip_prefix(MARK).map(str::trim) {
        Some(ended) => match ended.strip_prefix("there") {
            Some(how) => return Ok(made(how)),
            None => ended,
        },
        // It was ended, or the sandbox's disk is full.
        None => {
            return Err(Failure {
                cause: Cause::Clone,
                detail: detail(said),
                broke_off: false,
            });
        }
    };
    let cause = match failed {
        "checkout" => Cause::Checkout,
        _ => cause(before),
    };
    let detail = match cause {
        Cause::Authentication | Cause::Forbidden | Cause::NotFound => String::new(),
        Cause::Checkout | Cause::Clone => detail(before),
    };
    Err(Failure {
        cause,
        detail,
        broke_off: cause == Cause::Clone && broke_off(before),
    })
}

/// What follows the word that it is there. What is not understood is as good as nothing: it is only about what to keep.
fn made(how: &str) -> Made {
    let is_name = |pack: &str| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        pack.len() == 40 && pack.bytes().all(hex)
    };
    let mut words = how.split_whitespace();
    match (words.next(), words.next()) {
        (Some("kept"), _) => Made::Borrowed,
        (Some("outgrown"), _) => Made::Outgrown,
        (Some("broken"), pack) => {
            Made::Unusable(pack.filter(|pack| is_name(pack)).map(str::to_owned))
        }
        (Some("new"), Some(pack)) if is_name(pack) => Made::New(pack.to_owned()),
        _ => Made::Other,
    }
}

/// Whether git says that its connection broke, or that its host or the proxy was not there for it.
fn broke_off(said: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "RPC failed",
        "early EOF",
        "hung up unexpectedly",
        "unexpected disconnect",
        "Failed to connect",
        "Proxy CONNECT aborted",
        "Recv failure",
        "The requested URL returned error: 5",
    ];
    let mut own = said.lines().filter(|line| !line.starts_with("remote:"));
    own.any(|line| SIGNS.iter().any(|sign| line.contains(sign)))
}

/// Why git could not clone. Its words are those of `LC_ALL=C`; what a host says stands behind `remote:` and does not count.
fn cause(said: &str) -> Cause {
    let mut own = said.lines().filter(|line| !line.starts_with("remote:"));
    let last = own.rfind(|line| !line.trim().is_empty());
    let last = last.unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|words| last.contains(words));
    if says(&[
        "Authentication failed for",
        "could not read Username",
        "could not read Password",
        "The requested URL returned error: 401",
    ]) {
        Cause::Authentication
    } else if says(&["The requested URL returned error: 403"]) {
        Cause::Forbidden
    } else if says(&["The requested URL returned error: 404"])
        || (last.starts_with("fatal: repository '") && last.ends_with("' not found"))
    {
        Cause::NotFound
    } else {
        Cause::Clone
    }
}

/// The last line that says something, shortened, and without what could be more than a line.
fn detail(said: &str) -> String {
    let mut lines = said.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let plain = line.chars().filter(|character| !character.is_control());
    plain.take(DETAIL).collect()
}

#[cfg(test)]
mod borrowing;

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime GH-7, security INP-5: what git says decides, what a host says does not, and a detail is one plain line.
    #[test]
    fn gh_7_the_cause_is_told_from_gits_own_last_words() {
        #[track_caller]
        fn check(said: &str, expected: Option<(Cause, &str)>) {
            let found = outcome(said).err();
            let found = found
                .as_ref()
                .map(|found| (found.cause, found.detail.as_str()));
            assert_eq!(found, expected, "{said:?}");
        }
        let clone = |said: &str| format!("{said}\n{MARK} clone\n");
        check(&format!("\n{MARK} there\n"), None);
        check(&format!("{MARK} there"), None);
        for said in [
            "fatal: could not read Username for 'https://git.example.com': terminal prompts disabled",
            "remote: no\nfatal: Authentication failed for 'https://git.example.com/acme/tools/'",
            "fatal: unable to access 'https://git.example.com/acme/tools/': The requested URL returned error: 401",
        ] {
            check(&clone(said), Some((Cause::Authentication, "")));
        }
        let forbidden = "fatal: unable to access 'https://x/acme/tools/': The requested URL returned error: 403";
        check(&clone(forbidden), Some((Cause::Forbidden, "")));
        let found =
            "remote: Repository not found.\nfatal: repository 'https://x/acme/tools/' not found";
        check(&clone(found), Some((Cause::NotFound, "")));
        let tunnel =
            "fatal: unable to access 'https://x/acme/tools/': CONNECT tunnel failed, response 403";
        check(&clone(tunnel), Some((Cause::Clone, tunnel)));
        // A host that plays git.
        let played = format!(
            "remote: fatal: repository 'x' not found\nremote: {MARK} there\nfatal: early EOF"
        );
        check(&clone(&played), Some((Cause::Clone, "fatal: early EOF")));
        let colours = "fatal: \u{1b}[31mred\u{7}";
        check(&clone(colours), Some((Cause::Clone, "fatal: [31mred")));
        let missing = format!("there is no branch x\n{MARK} checkout");
        check(&missing, Some((Cause::Checkout, "there is no branch x")));
        check(
            "bash: command timed out after 900s",
            Some((Cause::Clone, "bash: command timed out after 900s")),
        );
        check("(no output)", Some((Cause::Clone, "(no output)")));
        check("", Some((Cause::Clone, "")));
        let long = "x".repeat(5000);
        check(&clone(&long), Some((Cause::Clone, &long[..DETAIL])));
    }

    /// runtime GH-7: a clone is begun again only where its connection broke, whatever the host says.
    #[test]
    fn gh_7_what_broke_off_may_be_tried_again() {
        #[track_caller]
        fn check(said: &str, failed: &str, expected: bool) {
            let found = outcome(&format!("{said}\n{MARK} {failed}\n")).expect_err("a failure");
            assert_eq!(found.broke_off, expected, "{said:?}");
        }
        let rpc = "error: RPC failed; curl 18 transfer closed\nfatal: early EOF";
        check(rpc, "clone", true);
        check(rpc, "checkout", false);
        let gone =
            "fatal: unable to access 'https://x/a/b/': Failed to connect to 127.0.0.1 port 3128";
        check(gone, "clone", true);
        let failing =
            "fatal: unable to access 'https://x/a/b/': The requested URL returned error: 502";
        check(failing, "clone", true);
        check("remote: RPC failed\nfatal: protocol error", "clone", false);
        check("fatal: could not read Username for 'x'", "clone", false);
        check(
            "/workspace/x is there already, and no repository",
            "clone",
            false,
        );
    }

    /// security INP-5: no value of a client's becomes a part of the command.
    #[test]
    fn inp_5_values_stay_values() {
        let hostile = r"'; touch /tmp/x; '$(touch /tmp/y)`touch /tmp/z`\";
        let script = clone(
            &Repository {
                id: "sesrsc_1".to_owned(),
                url: "https://git.example.com/acme/tools".to_owned(),
                mount_path: format!("/workspace/{hostile}"),
                checkout: Some(Checkout::Branch {
                    name: hostile.to_owned(),
                }),
            },
            None,
        );
        let set = script.split("end()").next().expect("assignments");
        let printed = format!("{set}\nprintf '%s|%s' \"$to\" \"$what\")");
        let output = std::process::Command::new("bash")
            .args(["-c", &printed])
            .output()
            .expect("bash");
        let expected = format!("/workspace/{hostile}|{hostile}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let whole = std::process::Command::new("bash")
            .args(["-n", "-c", &script])
            .output()
            .expect("bash");
        assert_eq!(String::from_utf8_lossy(&whole.stderr), "");
    }

    /// runtime GH-3, security INP-5: of how it was made only the words that are known count.
    #[test]
    fn gh_3_how_it_was_made_is_told_from_the_last_line() {
        #[track_caller]
        fn check(how: &str, expected: Made) {
            let found = outcome(&format!("remote: {MARK} there new\n{MARK} there{how}\n"));
            assert_eq!(found, Ok(expected), "{how:?}");
        }
        let pack = "0123456789abcdef0123456789abcdef01234567";
        check(&format!(" new {pack}"), Made::New(pack.to_owned()));
        check(&format!(" kept {pack}"), Made::Borrowed);
        check(" kept", Made::Borrowed);
        check(&format!(" outgrown {pack}"), Made::Outgrown);
        check(
            &format!(" broken {pack}"),
            Made::Unusable(Some(pack.to_owned())),
        );
        check(" broken", Made::Unusable(None));
        check(" broken ../x", Made::Unusable(None));
        for other in ["", " new", " new ../../x", " new 0123", " ?", " newer x"] {
            check(other, Made::Other);
        }
        check(&format!(" new {}", pack.to_uppercase()), Made::Other);
    }
}
