//! The packages of an environment as its package managers read them (runtime EN-7): which names and versions are let through
//! to a manager. Nothing here runs anything.
//!
//! A package is one argument of a command, never text for a shell. What is let through is a name and a version in the
//! manager's own notation: no option, no path, no URL, no archive, because each of these would install something that
//! nobody has published under that name.

pub(crate) mod plan;
pub(crate) mod sources;

use std::fmt;
use std::sync::LazyLock;

use manyhands_protocol::environment::Packages;
use regex::Regex;

/// How many packages an environment may list in all.
const COUNT: usize = 256;

/// How long one of them may be written.
const LENGTH: usize = 256;

/// A package manager, in the order in which they run (runtime EN-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manager {
    /// Debian packages.
    Apt,
    /// Programs of Rust crates.
    Cargo,
    /// Ruby gems.
    Gem,
    /// Programs of Go modules.
    Go,
    /// Node packages.
    Npm,
    /// Python packages.
    Pip,
}

impl Manager {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Apt,
        Self::Cargo,
        Self::Gem,
        Self::Go,
        Self::Npm,
        Self::Pip,
    ];

    /// The member of `packages`, for example `pip`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Cargo => "cargo",
            Self::Gem => "gem",
            Self::Go => "go",
            Self::Npm => "npm",
            Self::Pip => "pip",
        }
    }

    /// What an environment wants of this manager.
    pub fn list(self, packages: &Packages) -> &[String] {
        match self {
            Self::Apt => &packages.apt,
            Self::Cargo => &packages.cargo,
            Self::Gem => &packages.gem,
            Self::Go => &packages.go,
            Self::Npm => &packages.npm,
            Self::Pip => &packages.pip,
        }
    }

    /// A package as it may be written.
    fn example(self) -> &'static str {
        match self {
            Self::Apt => "jq=1.6-2.1",
            Self::Cargo => "ripgrep@14.1.0",
            Self::Gem => "rake:13.2.1",
            Self::Go => "golang.org/x/tools/cmd/goimports@v0.26.0",
            Self::Npm => "typescript@5.6.3",
            Self::Pip => "requests==2.32.3",
        }
    }

    /// The notation that is let through.
    fn notation(self) -> &'static Regex {
        static NOTATIONS: LazyLock<[Regex; 6]> = LazyLock::new(|| {
            Manager::ALL.map(|manager| {
                let source = match manager {
                    // A name that ends in `-` would be removed.
                    Manager::Apt => {
                        r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](:[a-z0-9]+)?(=[0-9][A-Za-z0-9.+~:-]*|/[a-z][a-z0-9-]*)?"
                    }
                    Manager::Cargo => {
                        r"[A-Za-z][A-Za-z0-9_-]*(@[=^~]?[0-9][0-9A-Za-z.+-]*)?"
                    }
                    Manager::Gem => {
                        r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:(~>|>=|<=|=|>|<)? ?[0-9][0-9A-Za-z.-]*)?"
                    }
                    Manager::Go => {
                        r"[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)+(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*(@[A-Za-z0-9][A-Za-z0-9._+-]*)?"
                    }
                    Manager::Npm => {
                        r"(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9_][A-Za-z0-9._-]*(@[\^~<>=]{0,2}[0-9A-Za-z*][0-9A-Za-z.*+-]*( [\^~<>=]{0,2}[0-9][0-9A-Za-z.*+-]*)?)?"
                    }
                    Manager::Pip => {
                        r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9][A-Za-z0-9._-]*(, ?[A-Za-z0-9][A-Za-z0-9._-]*)*\])?( ?(===|==|~=|!=|<=|>=|<|>) ?[0-9A-Za-z][0-9A-Za-z.*+!_-]*(, ?(===|==|~=|!=|<=|>=|<|>) ?[0-9A-Za-z][0-9A-Za-z.*+!_-]*)*)?"
                    }
                };
                Regex::new(&format!("^(?:{source})$"))
                    .unwrap_or_else(|error| unreachable!("a notation is a pattern: {error}"))
            })
        });
        let [apt, cargo, gem, go, npm, pip] = &*NOTATIONS;
        match self {
            Self::Apt => apt,
            Self::Cargo => cargo,
            Self::Gem => gem,
            Self::Go => go,
            Self::Npm => npm,
            Self::Pip => pip,
        }
    }

    /// Whether this is a package in the manager's notation.
    fn takes(self, package: &str) -> bool {
        // Managers take such a name for a file.
        const ARCHIVES: [&str; 9] = [
            ".tgz", ".tar", ".gz", ".bz2", ".xz", ".zip", ".whl", ".deb", ".gem",
        ];
        let lower = package.to_ascii_lowercase();
        package.len() <= LENGTH
            && self.notation().is_match(package)
            && !ARCHIVES.iter().any(|end| lower.ends_with(end))
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A package that is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where it is, for example `pip[0]`; the manager's name when it is about the whole.
    pub at: String,
    /// What is wrong, as a sentence without a full stop.
    pub why: String,
}

/// Whether all of these can be handed to their managers.
///
/// # Errors
/// The first that cannot.
pub fn check(packages: &Packages) -> Result<(), Refusal> {
    let mut count = 0;
    for manager in Manager::ALL {
        for (index, package) in manager.list(packages).iter().enumerate() {
            count += 1;
            if count > COUNT {
                return Err(Refusal {
                    at: manager.name().to_owned(),
                    why: format!("an environment has at most {COUNT} packages"),
                });
            }
            if !manager.takes(package) {
                return Err(Refusal {
                    at: format!("{manager}[{index}]"),
                    why: format!(
                        "must be a name that {manager} knows and optionally a version, for example \"{}\"",
                        manager.example()
                    ),
                });
            }
        }
    }
    Ok(())
}

/// Whether nothing is to be installed.
pub fn is_empty(packages: &Packages) -> bool {
    Manager::ALL
        .iter()
        .all(|manager| manager.list(packages).is_empty())
}

#[cfg(test)]
mod tests;
