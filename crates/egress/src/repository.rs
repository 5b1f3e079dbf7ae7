//! Repositories that a session has: which requests are theirs, so that nothing else gets their token (runtime GH-4, GH-5,
//! security CRED-9). Pure.
//!
//! What is not written in the one plain way (encoded dots, empty segments, `..`) belongs to no repository: it is passed on as
//! any other request of the session, without a token.

use http::Method;

use crate::host::{Host, NotCanonical, Target};

/// The longest URL of a repository, in bytes.
pub const LONGEST: usize = 2048;
/// The longest segment of its path, in bytes, and how many it has at most.
const SEGMENT: usize = 255;
const SEGMENTS: usize = 16;

/// The host whose repositories have exactly an owner and a name, in whatever case, and another host for their REST calls.
const GITHUB: &str = "github.com";
const GITHUB_REST: &str = "api.github.com";

/// A repository on a git host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    target: Target,
    /// `/owner/name` as the host has it, without `.git`.
    path: String,
}

/// Why a text is no repository's URL. Tell who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARepository {
    /// More than [`LONGEST`] bytes.
    #[error("the URL is longer than {LONGEST} bytes")]
    Long,
    /// Another scheme, or git's short form for ssh.
    #[error("the URL must begin with https://")]
    Scheme,
    /// A user or a password before the host.
    #[error("the URL must not have a user or a password; use authorization_token")]
    UserInfo,
    /// A query or a fragment.
    #[error("the URL must not have a query or a fragment")]
    Query,
    /// The host is not one in its only spelling.
    #[error("{0}")]
    Host(#[from] NotCanonical),
    /// The path is not that of a repository.
    #[error("the path must be /<owner>/<repository> in plain characters")]
    Path,
    /// A form that this host knows but the contract does not.
    #[error("a repository of github.com is https://github.com/<owner>/<repository>, without .git")]
    Github,
}

impl Repository {
    /// Reads `https://host[:port]/owner/name[.git]` (runtime GH-1); hosts with groups may have more segments before the name.
    ///
    /// # Errors
    /// [`NotARepository`]: not in its only spelling, or something else.
    pub fn parse(url: &str) -> Result<Self, NotARepository> {
        if url.len() > LONGEST {
            return Err(NotARepository::Long);
        }
        let rest = url.strip_prefix("https://").ok_or(NotARepository::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(NotARepository::Query);
        }
        let (authority, path) = rest.split_once('/').ok_or(NotARepository::Path)?;
        if authority.contains('@') {
            return Err(NotARepository::UserInfo);
        }
        let target = Target::parse(authority, Some(443))?;
        let name = path.strip_suffix(".git").unwrap_or(path);
        let segments: Vec<&str> = name.split('/').collect();
        if !(2..=SEGMENTS).contains(&segments.len()) || !segments.iter().all(|it| is_name(it)) {
            return Err(NotARepository::Path);
        }
        if target.host.as_str() == GITHUB && (segments.len() != 2 || name != path) {
            return Err(NotARepository::Github);
        }
        Ok(Self {
            target,
            path: format!("/{name}"),
        })
    }

    /// Where git finds it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it is told apart by: the same for all URLs of one repository, and unlike that of any other.
    pub fn key(&self) -> String {
        let Target { host, port } = &self.target;
        match self.has_rest() {
            true => format!("{host}:{port}{}", self.path.to_ascii_lowercase()),
            false => format!("{host}:{port}{}", self.path),
        }
    }

    /// Its name: the last segment of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The places that its requests go to: git's, and that of the host's REST calls where they are known.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let host = self.has_rest().then(|| Host::parse(GITHUB_REST).ok());
        let rest = host.flatten().map(|host| Target { host, port: 443 });
        [self.target.clone()].into_iter().chain(rest)
    }

    /// Whether a request is one of this repository's: git's protocol, large files, or REST calls below its own path. `path` is
    /// the request's, with its query; the request goes there by TLS.
    pub fn owns(&self, target: &Target, method: &Method, path: &str) -> bool {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        if *target == self.target {
            self.below(path)
                .is_some_and(|rest| is_git(method, rest, query))
        } else if self.has_rest() && target.port == 443 && target.host.as_str() == GITHUB_REST {
            let rest = path.strip_prefix("/repos").and_then(|path| {
                let rest = self.strip(path)?;
                (rest.is_empty() || rest.starts_with('/')).then_some(rest)
            });
            rest.is_some_and(is_plain)
        } else {
            false
        }
    }

    /// What follows `/owner/name/` or `/owner/name.git/`.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = self.strip(path)?;
        rest.strip_prefix(".git").unwrap_or(rest).strip_prefix('/')
    }

    fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (own, rest) = path.split_at_checked(self.path.len())?;
        let same = match self.has_rest() {
            true => own.eq_ignore_ascii_case(&self.path),
            false => own == self.path,
        };
        same.then_some(rest)
    }

    fn has_rest(&self) -> bool {
        self.target.host.as_str() == GITHUB && self.target.port == 443
    }
}

/// Whether a segment means itself to everybody.
fn is_name(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+".contains(&byte);
    !segment.is_empty()
        && segment.len() <= SEGMENT
        && !segment.starts_with('-')
        && !matches!(segment, "." | ".." | ".git")
        && segment.bytes().all(plain)
}

/// Git's smart protocol over HTTP, and the calls of its extension for large files.
fn is_git(method: &Method, rest: &str, query: Option<&str>) -> bool {
    match rest {
        "info/refs" => {
            let services = ["service=git-upload-pack", "service=git-receive-pack"];
            method == Method::GET && query.is_some_and(|query| services.contains(&query))
        }
        "git-upload-pack" | "git-receive-pack" => method == Method::POST && query.is_none(),
        _ => rest
            .strip_prefix("info/lfs")
            .is_some_and(|rest| rest.starts_with('/') && is_plain(rest)),
    }
}

/// Whether the rest of a path, empty or from a slash on, stays below where it begins, whoever reads it: no empty segment, no
/// dots for folders, and nothing encoded that would mean something plainly.
fn is_plain(rest: &str) -> bool {
    let mut segments = rest.split('/');
    let stays = |segment: &str| {
        !matches!(segment, "" | "." | "..") && !segment.contains(['\\', ';']) && decodes(segment)
    };
    segments.next() == Some("") && segments.all(stays)
}

/// Whether what is percent-encoded had to be: never a dot, a slash, a percent sign, a control character, or a character that is
/// written plainly.
fn decodes(segment: &str) -> bool {
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3);
        let Some(byte) = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        else {
            return false;
        };
        let meant =
            byte.is_ascii_alphanumeric() || byte.is_ascii_control() || b"-_.~/\\%;".contains(&byte);
        if meant {
            return false;
        }
        rest = &rest[at + 3..];
    }
    true
}

#[cfg(test)]
mod tests;
