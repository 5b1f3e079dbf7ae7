//! Credentials that a sandbox has and cannot use: what they are for is closed by its environment (runtime ER-7).

use manyhands_egress::host::Pattern;
use manyhands_egress::policy::Policy;
use manyhands_hands::Sandbox;
use manyhands_protocol::event::{EventBody, RetryStatus, SessionError, SessionErrorType};
use manyhands_protocol::vault::{Credential, CredentialAuth, CredentialNetworking};
use manyhands_store::NewEntry;

use super::recipe::mcp_hosts;
use super::{Stop, Wake};

impl Wake {
    /// Tells the client of the credentials in a sandbox that this wake has not used yet whose hosts are closed, once of each in
    /// a session. It is for information: the session goes on.
    pub(super) async fn tell_unreachable(&mut self, sandbox: &dyn Sandbox) -> Result<(), Stop> {
        let used = self.sandbox.as_deref().map(Sandbox::instance);
        if self.record.vault_ids.is_empty() || used == Some(sandbox.instance()) {
            return Ok(());
        }
        let credentials = self
            .shared
            .store
            .credentials_in_use(&self.lease.session)
            .await?;
        let networking = self.networking().await?;
        let mcp_hosts = mcp_hosts(&self.agent().definition);
        let operator = &self.shared.config.operator;
        // As the gate does with a list that it cannot read.
        let policy = Policy::new(&networking, &mcp_hosts, operator);
        let policy = policy.unwrap_or_else(|_| Policy::closed());
        let told = credentials.iter().filter_map(|record| {
            let credential = &record.credential;
            let known = self.transcript.unreachable.contains(credential.id.as_str());
            (!known).then(|| unreachable(credential, &policy)).flatten()
        });
        let entries: Vec<NewEntry> = told
            .map(|error| {
                tracing::info!(session.id = %self.lease.session, message = error.message, "a credential cannot be used");
                NewEntry::event(EventBody::SessionError { error })
            })
            .collect();
        self.write(entries).await
    }
}

/// What is told of a credential that names hosts which this policy keeps closed; `None` for all others.
fn unreachable(credential: &Credential, policy: &Policy) -> Option<SessionError> {
    let CredentialAuth::EnvironmentVariable {
        secret_name,
        networking: CredentialNetworking::Limited { allowed_hosts },
        ..
    } = &credential.auth
    else {
        return None;
    };
    // What is no name, an address, is open under no policy.
    let is_open = |host: &&String| Pattern::parse(host).is_ok_and(|host| policy.opens(&host));
    let closed: Vec<&str> = allowed_hosts
        .iter()
        .filter(|host| !is_open(host))
        .map(String::as_str)
        .collect();
    if closed.is_empty() {
        return None;
    }
    let message = format!(
        "the credential for {secret_name} is for hosts that the session's environment does not let out: {}",
        closed.join(", ")
    );
    Some(SessionError {
        credential_id: Some(credential.id.to_string()),
        vault_id: Some(credential.vault_id.to_string()),
        ..SessionError::new(
            SessionErrorType::CredentialHostUnreachableError,
            message,
            RetryStatus::Retrying,
        )
    })
}

#[cfg(test)]
mod tests {
    use manyhands_egress::policy::Operator;
    use manyhands_protocol::environment::Networking;
    use manyhands_protocol::vault::InjectionLocation;
    use manyhands_protocol::{CredentialId, Timestamp, VaultId};

    use super::*;

    fn credential(networking: CredentialNetworking) -> Credential {
        Credential {
            id: CredentialId::generate(),
            kind: Default::default(),
            vault_id: VaultId::generate(),
            display_name: None,
            auth: CredentialAuth::EnvironmentVariable {
                secret_name: "API_KEY".to_owned(),
                networking,
                injection_location: InjectionLocation {
                    body: true,
                    header: true,
                },
            },
            metadata: Default::default(),
            created_at: Timestamp::from_micros(0),
            updated_at: Timestamp::from_micros(0),
            archived_at: None,
        }
    }

    /// runtime ER-7: what is told is what nobody in the environment can reach.
    #[test]
    fn er_7_hosts_that_the_environment_keeps_closed_are_named() {
        let owned = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
        let limited = |hosts: &[&str], allow_mcp_servers, allow_package_managers| {
            let networking = Networking::Limited {
                allowed_hosts: owned(hosts),
                allow_mcp_servers,
                allow_package_managers,
            };
            let operator = Operator {
                package_hosts: vec![Pattern::parse("mirror.example").expect("a host")],
                ..Operator::default()
            };
            let mcp_hosts = ["mcp.example".to_owned()];
            Policy::new(&networking, &mcp_hosts, &operator).expect("a list that can be read")
        };
        #[track_caller]
        fn check(policy: &Policy, hosts: Vec<String>, closed: &[&str]) {
            let allowed_hosts = hosts;
            let credential = credential(CredentialNetworking::Limited { allowed_hosts });
            let told = unreachable(&credential, policy);
            let named = told.as_ref().map_or(String::new(), |told| {
                let (_, hosts) = told.message.rsplit_once(": ").expect("hosts");
                hosts.to_owned()
            });
            assert_eq!(named, closed.join(", "));
            let ids = (credential.id.to_string(), credential.vault_id.to_string());
            let told = told.and_then(|told| told.credential_id.zip(told.vault_id));
            assert_eq!(told, (!closed.is_empty()).then_some(ids));
        }
        let api = limited(&["api.example", "*.data.example"], false, false);
        check(&api, owned(&["api.example"]), &[]);
        check(&api, owned(&["api.example", "b.example"]), &["b.example"]);
        check(&api, owned(&["a.data.example", "*.data.example"]), &[]);
        check(&api, owned(&["data.example"]), &["data.example"]);
        check(&api, owned(&["*.example", "*.eu.data.example"]), &[]);
        check(&api, owned(&["*.b.example"]), &["*.b.example"]);
        let others = ["mcp.example", "mirror.example"];
        check(&api, owned(&others), &others);
        check(&limited(&[], true, true), owned(&others), &[]);
        let all = Policy::new(&Networking::Unrestricted {}, &[], &Operator::default());
        let all = all.expect("a policy");
        check(&all, owned(&["anything.example"]), &[]);
        check(&all, owned(&["192.0.2.1"]), &["192.0.2.1"]);
        check(&Policy::closed(), owned(&["api.example"]), &["api.example"]);
        let any = credential(CredentialNetworking::Unrestricted {});
        assert_eq!(unreachable(&any, &api), None);
    }
}
