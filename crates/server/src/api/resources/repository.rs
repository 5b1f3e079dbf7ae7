//! What a client says of a repository: its URL, where it is cloned to, what is checked out, its token (runtime GH-1 to GH-3).

use manyhands_egress::repository::Repository;
use manyhands_protocol::repository::{Checkout, WORKSPACE};
use manyhands_protocol::{ResourceId, SessionId, WorkspaceId};
use manyhands_store::files::collide;
use manyhands_store::repositories::REPOSITORIES;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::path;
use crate::api::error::ApiError;
use crate::api::json;
use crate::app::App;
use crate::secrets::token_place;

/// The member that holds a token.
pub(super) const TOKEN: &str = "authorization_token";
/// The longest token, in bytes.
const LONGEST: usize = 8192;
/// The longest name of a branch, in bytes.
const BRANCH: usize = 255;

/// A repository that a session is to have.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    pub(crate) mount_path: String,
    pub(crate) checkout: Option<Checkout>,
    pub(crate) token: Option<SecretString>,
}

/// All but the token, which no error may quote (security CRED-2).
#[derive(Deserialize)]
struct Params {
    url: String,
    #[serde(default)]
    checkout: Option<Checkout>,
    #[serde(default)]
    mount_path: Option<String>,
}

/// One entry, whose token is taken out of it; `at` names it in errors.
pub(super) fn read(entry: &mut Value, at: &str) -> Result<Wanted, ApiError> {
    let within = |name: &str| format!("{at}.{name}");
    let given = entry.get_mut(TOKEN).map(Value::take);
    let token = match given.unwrap_or_default() {
        Value::Null => None,
        given => Some(token(given, &within(TOKEN))?),
    };
    let params: Params = json::entry_quietly(entry, at)?;
    let repository = Repository::parse(&params.url)
        .map_err(|problem| ApiError::field(within("url"), problem.to_string()))?;
    let mount_path = match params.mount_path {
        Some(given) => place(&given),
        None => place(&format!("{WORKSPACE}/{}", repository.name())),
    };
    let mount_path =
        mount_path.map_err(|problem| ApiError::field(within("mount_path"), problem))?;
    if let Some(checkout) = &params.checkout {
        check(checkout).map_err(|(name, problem)| {
            ApiError::field(within(&format!("checkout.{name}")), problem)
        })?;
    }
    Ok(Wanted {
        url: params.url,
        mount_path,
        checkout: params.checkout,
        token,
    })
}

/// A token; `at` names it in errors.
pub(super) fn token(given: Value, at: &str) -> Result<SecretString, ApiError> {
    let problem = match given {
        Value::String(text) => match text.as_str() {
            "" => "is empty",
            text if text.len() > LONGEST => "is too long",
            text if text.chars().any(char::is_control) => "has a control character",
            _ => return Ok(text.into()),
        },
        _ => "expected a string",
    };
    Err(ApiError::field(at, problem))
}

/// A token as it is kept: bound to this resource.
pub(super) async fn seal(
    app: &App,
    workspace: &WorkspaceId,
    session: &SessionId,
    resource: &ResourceId,
    token: &SecretString,
) -> Result<String, ApiError> {
    let place = token_place(workspace, session, resource);
    Ok(app.vaults.seal(&place, token).await?)
}

/// The path in its one form (security INP-4). What is not canonical is refused, not repaired.
fn place(given: &str) -> Result<String, String> {
    let below = given
        .strip_prefix(WORKSPACE)
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| format!("is not below {WORKSPACE}"))?;
    path::check(WORKSPACE, below)?;
    let of_git = |segment: &str| segment.eq_ignore_ascii_case(".git");
    match below.split('/').any(of_git) {
        true => Err("has a segment that is git's own".to_owned()),
        false => Ok(given.to_owned()),
    }
}

/// Refuses more repositories than a session may have, and two that would share a folder.
pub(super) fn together(wanted: &[(usize, Wanted)]) -> Result<(), ApiError> {
    if wanted.len() > REPOSITORIES {
        let problem = format!("a session has at most {REPOSITORIES} repositories");
        return Err(ApiError::field("resources", problem));
    }
    for (place, (index, own)) in wanted.iter().enumerate() {
        let before = wanted.iter().take(place);
        let mut paths = before.map(|(_, other)| &other.mount_path);
        if paths.any(|path| collide(path, &own.mount_path)) {
            let path = &own.mount_path;
            let problem =
                format!("{path} is, or lies above or below, the path of another resource");
            return Err(ApiError::field(
                format!("resources[{index}].mount_path"),
                problem,
            ));
        }
    }
    Ok(())
}

fn check(checkout: &Checkout) -> Result<(), (&'static str, &'static str)> {
    match checkout {
        Checkout::Branch { name } if !is_branch(name) => Err(("name", "is no name of a branch")),
        Checkout::Commit { sha } if !is_sha(sha) => {
            let problem = "is no full commit name: 40 or 64 hexadecimal digits";
            Err(("sha", problem))
        }
        Checkout::Branch { .. } | Checkout::Commit { .. } => Ok(()),
    }
}

fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether git takes it for a branch.
fn is_branch(name: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty() && !segment.starts_with('.') && !segment.ends_with(".lock")
    };
    let strange = |character: char| character.is_control() || " ~^:?*[\\".contains(character);
    (1..=BRANCH).contains(&name.len())
        && !matches!(name, "@" | "HEAD")
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains(strange)
        && !name.contains("..")
        && !name.contains("@{")
        && name.split('/').all(segment)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    fn entry(more: Value) -> Value {
        let mut entry =
            json!({"type": "github_repository", "url": "https://github.com/acme/tools"});
        let members = entry.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        entry
    }

    /// runtime GH-1, GH-3: the default path is the repository's name, and what is given is kept.
    #[test]
    fn gh_3_a_repository_has_a_place_and_perhaps_a_checkout() {
        #[track_caller]
        fn check(more: Value, path: &str, checkout: Option<Checkout>, token: Option<&str>) {
            let wanted = read(&mut entry(more), "resources[0]").expect("a repository");
            assert_eq!(wanted.mount_path, path);
            assert_eq!(wanted.checkout, checkout);
            assert_eq!(wanted.token.as_ref().map(|it| it.expose_secret()), token);
        }
        check(json!({}), "/workspace/tools", None, None);
        let nulls = json!({"authorization_token": null, "checkout": null, "mount_path": null});
        check(nulls, "/workspace/tools", None, None);
        let url = "https://git.example.com/group/acme/Tools.git";
        check(json!({"url": url}), "/workspace/Tools", None, None);
        let branch = Checkout::Branch {
            name: "feature/x-1".to_owned(),
        };
        let given = json!({"mount_path": "/workspace/a/b c", "authorization_token": "t0ken",
            "checkout": {"type": "branch", "name": "feature/x-1"}});
        check(given, "/workspace/a/b c", Some(branch), Some("t0ken"));
        let sha = "0123456789abcdef0123456789ABCDEF01234567";
        let commit = Checkout::Commit {
            sha: sha.to_owned(),
        };
        let given = json!({"checkout": {"type": "commit", "sha": sha}});
        check(given, "/workspace/tools", Some(commit), None);
    }

    /// runtime GH-1, security INP-4, CRED-2: what cannot be is refused by the member's name, and a token is in no error.
    #[test]
    fn inp_4_what_cannot_be_is_refused_by_name() {
        #[track_caller]
        fn check(more: Value, field: &str) {
            let mut entry = entry(json!({"authorization_token": "c4nary"}));
            let members = entry.as_object_mut().expect("an object");
            members.extend(more.as_object().expect("an object").clone());
            let error = read(&mut entry, "resources[3]").expect_err(field);
            let message = error.message();
            assert!(
                message.starts_with(&format!("resources[3].{field}: ")),
                "{message}"
            );
            assert!(!message.contains("c4nary"), "{message}");
        }
        check(json!({"url": "git@github.com:acme/tools"}), "url");
        check(
            json!({"url": "https://c4nary@github.com/acme/tools"}),
            "url",
        );
        check(json!({"url": 5}), "url");
        for path in [
            "tools",
            "/tools",
            "/workspace",
            "/workspace/",
            "/workspacex/tools",
            "/workspace/../tools",
            "/workspace/a//b",
            "/workspace/a/.git/b",
            "/workspace/a\nb",
            "/mnt/session/uploads/x",
        ] {
            check(json!({"mount_path": path}), "mount_path");
        }
        for name in [
            "", "-x", "a..b", "a b", "a~1", "a^", "a:b", "/a", "a/", "a//b", ".a", "a/.b",
            "a.lock", "a.", "a@{1}", "@", "HEAD", "a\\b", "a\nb", "a*",
        ] {
            let branch = json!({"checkout": {"type": "branch", "name": name}});
            check(branch, "checkout.name");
        }
        for sha in ["", "0123456", &"g".repeat(40), &"a".repeat(41)] {
            let commit = json!({"checkout": {"type": "commit", "sha": sha}});
            check(commit, "checkout.sha");
        }
        check(
            json!({"checkout": {"type": "tag", "name": "v1"}}),
            "checkout.type",
        );
        check(json!({"authorization_token": ""}), "authorization_token");
        check(
            json!({"authorization_token": ["c4nary"]}),
            "authorization_token",
        );
        check(
            json!({"authorization_token": "c4nary\n"}),
            "authorization_token",
        );
        check(
            json!({"authorization_token": "c4nary".repeat(2000)}),
            "authorization_token",
        );
    }

    /// security INP-4: two repositories never share a folder.
    #[test]
    fn inp_4_repositories_lie_beside_each_other() {
        #[track_caller]
        fn check(paths: &[&str], refused: Option<&str>) {
            let wanted = paths.iter().enumerate().map(|(index, path)| {
                let mut entry = entry(json!({"mount_path": path}));
                (
                    index * 2,
                    read(&mut entry, "resources").expect("a repository"),
                )
            });
            let wanted: Vec<_> = wanted.collect();
            let error = together(&wanted).err();
            let message = error.as_ref().map(ApiError::message);
            match (message, refused) {
                (None, None) => {}
                (Some(message), Some(refused)) => assert!(message.contains(refused), "{message}"),
                _ => panic!("{paths:?}: {message:?}"),
            }
        }
        check(&["/workspace/a", "/workspace/b", "/workspace/ab"], None);
        check(
            &["/workspace/a", "/workspace/b", "/workspace/a"],
            Some("resources[4].mount_path"),
        );
        check(
            &["/workspace/a", "/workspace/a/b"],
            Some("resources[2].mount_path"),
        );
        check(
            &["/workspace/a/b", "/workspace/a"],
            Some("resources[2].mount_path"),
        );
        let many: Vec<String> = (0..=REPOSITORIES)
            .map(|n| format!("/workspace/{n}"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many[1..], None);
        check(&many, Some("at most"));
    }
}
