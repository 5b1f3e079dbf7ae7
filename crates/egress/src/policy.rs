//! Policies: what one session's sandbox may reach (security NET-1, NET-7; runtime EN-10 to EN-12). Pure.
//!
//! A decision is about a name and a port, before anything is resolved; addresses are checked when they are dialled.

use std::fmt;

use manyhands_protocol::environment::Networking;

use crate::host::{Host, NotCanonical, Pattern, Target};
use crate::secrets::Attached;

/// What the operator says about all sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The ports that may be reached, under every policy.
    pub ports: Vec<u16>,
    /// Hosts of package managers, which count where the environment allows them (runtime EN-11).
    pub package_hosts: Vec<Pattern>,
    /// Allowed hosts whose TLS is passed on unopened under `limited`, for clients that trust one certificate only.
    pub tunnel_hosts: Vec<Pattern>,
}

impl Default for Operator {
    /// Ports 80 and 443 and nothing else.
    fn default() -> Self {
        Self {
            ports: vec![80, 443],
            package_hosts: Vec::new(),
            tunnel_hosts: Vec::new(),
        }
    }
}

/// What one session's sandbox may reach. The effective list is the configured one and what its switches name, nothing
/// hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    reach: Reach,
    ports: Vec<u16>,
    tunnel_hosts: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    /// Every public host.
    Everything,
    /// These hosts.
    Listed(Vec<Pattern>),
    /// Nothing: there should be a policy, and it could not be read.
    Nothing,
}

/// A list that cannot be read. The policy is then [`Policy::closed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allowed host {text:?}: {why}")]
pub struct Invalid {
    /// The entry, as it was written.
    pub text: String,
    /// What is wrong with it.
    #[source]
    pub why: NotCanonical,
}

impl Policy {
    /// The policy of an environment. MCP hosts that are no names are left out: nothing is opened for them.
    ///
    /// # Errors
    /// [`Invalid`]: an allowed host that cannot be read. Use [`Policy::closed`] then (security NET-7).
    pub fn new(
        networking: &Networking,
        mcp_hosts: &[String],
        operator: &Operator,
    ) -> Result<Self, Invalid> {
        let reach = match networking {
            Networking::Unrestricted {} => Reach::Everything,
            Networking::Limited {
                allowed_hosts,
                allow_mcp_servers,
                allow_package_managers,
            } => {
                let mut listed = allowed_hosts
                    .iter()
                    .map(|text| {
                        Pattern::parse(text).map_err(|why| Invalid {
                            text: text.clone(),
                            why,
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                if *allow_mcp_servers {
                    let names = mcp_hosts.iter().filter_map(|text| Host::parse(text).ok());
                    listed.extend(names.map(Pattern::Exact));
                }
                if *allow_package_managers {
                    listed.extend(operator.package_hosts.iter().cloned());
                }
                Reach::Listed(listed)
            }
        };
        Ok(Self {
            reach,
            ports: operator.ports.clone(),
            tunnel_hosts: operator.tunnel_hosts.clone(),
        })
    }

    /// The policy that refuses everything, for when there is no other.
    pub fn closed() -> Self {
        Self {
            reach: Reach::Nothing,
            ports: Vec::new(),
            tunnel_hosts: Vec::new(),
        }
    }

    /// Whether something that the pattern names may be reached, on whatever port (runtime ER-7).
    pub fn opens(&self, pattern: &Pattern) -> bool {
        match &self.reach {
            Reach::Nothing => false,
            Reach::Listed(list) => list.iter().any(|listed| listed.overlaps(pattern)),
            Reach::Everything => true,
        }
    }

    /// Whether a request may go to this place, whatever its method (runtime EN-12), for a session that has nothing attached.
    pub fn decide(&self, target: &Target) -> Decision {
        self.decide_with(target, &Attached::default())
    }

    /// The same for a session with credentials and repositories. TLS with their hosts is opened, so that they can be used (runtime
    /// VA-14, GH-4), and a repository is reachable where its host is not listed.
    pub fn decide_with(&self, target: &Target, attached: &Attached) -> Decision {
        let listed = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(&target.host));
        let repository = attached.repositories.contains(target);
        let ways = match &self.reach {
            Reach::Nothing => return Decision::Refuse(Reason::NoPolicy),
            Reach::Listed(list) if !listed(list) && repository => Ways::Repositories,
            Reach::Listed(list) if !listed(list) => {
                return Decision::Refuse(Reason::HostNotAllowed);
            }
            Reach::Listed(_) | Reach::Everything => Ways::All,
        };
        if !self.ports.contains(&target.port) {
            return Decision::Refuse(Reason::PortNotAllowed);
        }
        let used = repository || attached.credentials_for(&target.host).next().is_some();
        let tls = match (&self.reach, ways) {
            // What is not listed is not the operator's to leave unopened.
            (_, Ways::Repositories) => Tls::Opened,
            (Reach::Everything, _) if !used => Tls::Passed,
            _ if listed(&self.tunnel_hosts) => Tls::PassedWithName,
            _ => Tls::Opened,
        };
        Decision::Allow(Allowed {
            target: target.clone(),
            tls,
            ways,
        })
    }
}

/// What is decided about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may go there.
    Allow(Allowed),
    /// It may not.
    Refuse(Reason),
}

/// A place that a policy allowed. Only a decision makes one, so that who holds it has asked (security CRED-10, NET-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    target: Target,
    tls: Tls,
    ways: Ways,
}

impl Allowed {
    /// The place.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What becomes of TLS in a tunnel there.
    pub fn tls(&self) -> Tls {
        self.tls
    }

    /// What may be asked for there.
    pub fn ways(&self) -> Ways {
        self.ways
    }
}

/// What may be asked for at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Everything.
    All,
    /// What belongs to the session's repositories, over TLS, and nothing else (runtime GH-4, GH-5).
    Repositories,
}

/// What becomes of TLS in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// It is opened, and each request in it decided.
    Opened,
    /// It is passed on; its name, where there is one, must be the tunnel's.
    Passed,
    /// It is passed on; it must be TLS and name the tunnel's host.
    PassedWithName,
}

/// Why something was refused (security NET-10): the code of log lines, metrics and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There is no readable policy.
    NoPolicy,
    /// The host is not on the list.
    HostNotAllowed,
    /// The port is not one of the operator's.
    PortNotAllowed,
    /// The host is an address, or not in its only spelling.
    HostNotCanonical,
    /// The name leads to an address that is not public.
    AddressNotGlobal,
    /// Two parts of the request name different hosts.
    NameMismatch,
    /// The bytes are no request that everybody reads alike.
    Malformed,
    /// A request that is well-formed and not served: a method, an upgrade, a protocol.
    NotServed,
    /// A secret would be, or was, in a request whose answer cannot be looked through (security CRED-6).
    NotInspectable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NoPolicy,
        Self::HostNotAllowed,
        Self::PortNotAllowed,
        Self::HostNotCanonical,
        Self::AddressNotGlobal,
        Self::NameMismatch,
        Self::Malformed,
        Self::NotServed,
        Self::NotInspectable,
    ];

    /// The code, for example `host_not_allowed`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::HostNotAllowed => "host_not_allowed",
            Self::PortNotAllowed => "port_not_allowed",
            Self::HostNotCanonical => "host_not_canonical",
            Self::AddressNotGlobal => "address_not_global",
            Self::NameMismatch => "name_mismatch",
            Self::Malformed => "malformed_request",
            Self::NotServed => "not_served",
            Self::NotInspectable => "not_inspectable",
        }
    }

    /// The status that tells it to the client: 403 for a policy, 421 for names that disagree, 400 for the rest.
    pub fn status(self) -> u16 {
        match self {
            Self::NoPolicy
            | Self::HostNotAllowed
            | Self::PortNotAllowed
            | Self::HostNotCanonical
            | Self::AddressNotGlobal
            | Self::NotInspectable => 403,
            Self::NameMismatch => 421,
            Self::Malformed | Self::NotServed => 400,
        }
    }

    /// What could be done about it, for whoever reads the answer inside.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoPolicy => {
                "The network policy of this sandbox could not be loaded, so nothing is reachable; \
                 the operator should look at the environment and the server's log."
            }
            Self::HostNotAllowed => {
                "The environment's networking is limited. Its owner can add the host to \
                 networking.allowed_hosts; package managers and MCP servers have switches of their own."
            }
            Self::PortNotAllowed => {
                "Only the operator's ports are open, 80 and 443 unless they say otherwise."
            }
            Self::HostNotCanonical => {
                "Hosts are names in lower-case ASCII without a trailing dot; addresses are never reachable."
            }
            Self::AddressNotGlobal => {
                "Private, local and special addresses are not reachable from sandboxes; \
                 the operator can list a network of their own."
            }
            Self::NameMismatch => {
                "The host of the tunnel, of TLS and of the request must be the same one."
            }
            Self::Malformed => "The request was not forwarded and the connection is closed.",
            Self::NotServed => {
                "The proxy speaks HTTP/1.1 with absolute URLs, CONNECT, and WebSocket upgrades."
            }
            Self::NotInspectable => {
                "A credential may be used only where the answer can be searched for it: no WebSockets, no compressed or partial answers."
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests;
