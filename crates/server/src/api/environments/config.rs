//! What an environment says of its sandboxes, checked and merged (api §5.1, §5.2). Pure but for [`installable`], which asks
//! the hands of this server.

use manyhands_egress::host::Pattern;
use manyhands_hands::packages::{self, Manager};
use manyhands_protocol::environment::{
    EnvironmentConfig, EnvironmentConfigParam, Networking, NetworkingParam, Packages, PackagesParam,
};

use crate::api::error::ApiError;
use crate::app::App;

/// How many hosts an environment may list.
const HOSTS: usize = 256;

/// The config of a new environment. What this version has no sandbox for is refused by name.
pub(super) fn created(
    param: Option<EnvironmentConfigParam>,
) -> Result<EnvironmentConfig, ApiError> {
    match param {
        Some(EnvironmentConfigParam::SelfHosted {}) => {
            Err(ApiError::not_built("config.type", "self_hosted"))
        }
        Some(cloud) => merged(&EnvironmentConfig::default(), Some(cloud)),
        None => Ok(EnvironmentConfig::default()),
    }
}

/// The config after an update: what is not said keeps its value (runtime EN-3); the type never changes (runtime EN-1).
pub(super) fn merged(
    current: &EnvironmentConfig,
    param: Option<EnvironmentConfigParam>,
) -> Result<EnvironmentConfig, ApiError> {
    match (current, param) {
        (_, None) => Ok(current.clone()),
        (
            EnvironmentConfig::Cloud {
                networking,
                packages,
            },
            Some(EnvironmentConfigParam::Cloud {
                networking: new_networking,
                packages: new_packages,
            }),
        ) => {
            let networking = merged_networking(networking, new_networking);
            let packages = merged_packages(packages, new_packages);
            check(&networking, &packages)?;
            Ok(EnvironmentConfig::Cloud {
                networking,
                packages,
            })
        }
        (EnvironmentConfig::SelfHosted {}, Some(EnvironmentConfigParam::SelfHosted {})) => {
            Ok(current.clone())
        }
        (EnvironmentConfig::Cloud { .. } | EnvironmentConfig::SelfHosted {}, Some(_)) => {
            let error = ApiError::field("config.type", "cannot be changed");
            Err(error.with_code("invalid_config_type_change"))
        }
    }
}

fn merged_networking(current: &Networking, param: Option<NetworkingParam>) -> Networking {
    let (hosts, servers, managers) = match param {
        None => return current.clone(),
        Some(NetworkingParam::Unrestricted {}) => return Networking::Unrestricted {},
        Some(NetworkingParam::Limited {
            allowed_hosts,
            allow_mcp_servers,
            allow_package_managers,
        }) => (allowed_hosts, allow_mcp_servers, allow_package_managers),
    };
    let kept = match current {
        Networking::Unrestricted {} => (Vec::new(), false, false),
        Networking::Limited {
            allowed_hosts,
            allow_mcp_servers,
            allow_package_managers,
        } => (
            allowed_hosts.clone(),
            *allow_mcp_servers,
            *allow_package_managers,
        ),
    };
    Networking::Limited {
        allowed_hosts: hosts.unwrap_or(kept.0),
        allow_mcp_servers: servers.unwrap_or(kept.1),
        allow_package_managers: managers.unwrap_or(kept.2),
    }
}

fn merged_packages(current: &Packages, param: Option<PackagesParam>) -> Packages {
    let Packages {
        kind,
        apt,
        cargo,
        gem,
        go,
        npm,
        pip,
    } = current.clone();
    let param = param.unwrap_or_default();
    Packages {
        kind,
        apt: param.apt.unwrap_or(apt),
        cargo: param.cargo.unwrap_or(cargo),
        gem: param.gem.unwrap_or(gem),
        go: param.go.unwrap_or(go),
        npm: param.npm.unwrap_or(npm),
        pip: param.pip.unwrap_or(pip),
    }
}

/// Whether a sandbox can be made so (runtime EN-7, EN-8, EN-10).
fn check(networking: &Networking, packages: &Packages) -> Result<(), ApiError> {
    if let Networking::Limited { allowed_hosts, .. } = networking {
        let at = "config.networking.allowed_hosts";
        if allowed_hosts.len() > HOSTS {
            return Err(ApiError::field(
                at,
                format!("must have at most {HOSTS} entries"),
            ));
        }
        for (index, host) in allowed_hosts.iter().enumerate() {
            Pattern::parse(host).map_err(|error| {
                let problem =
                    format!("must be a host like api.example.com or *.example.com: {error}");
                ApiError::field(format!("{at}[{index}]"), problem)
            })?;
        }
    }
    packages::check(packages).map_err(|refusal| {
        ApiError::field(format!("config.packages.{}", refusal.at), refusal.why)
    })?;
    let closed = matches!(
        networking,
        Networking::Limited {
            allow_package_managers: false,
            ..
        }
    );
    if closed && !packages::is_empty(packages) {
        return Err(ApiError::field(
            "config.networking.allow_package_managers",
            "must be true when packages are listed, also when their hosts are in allowed_hosts",
        ));
    }
    Ok(())
}

/// Whether the sandboxes of this server can have what a request asks for: said when an environment is made, not when a
/// session waits for it. A server that makes no sandboxes cannot tell.
pub(super) async fn installable(
    app: &App,
    param: Option<&EnvironmentConfigParam>,
) -> Result<(), ApiError> {
    let Some(EnvironmentConfigParam::Cloud {
        packages: Some(param),
        ..
    }) = param
    else {
        return Ok(());
    };
    let Some(hands) = &app.hands else {
        return Ok(());
    };
    let wanted = merged_packages(&Packages::default(), Some(param.clone()));
    for manager in Manager::ALL {
        if manager.list(&wanted).is_empty() {
            continue;
        }
        hands.installs(manager).await.map_err(|missing| {
            let problem = format!("{}: {}; {}", missing.what, missing.why, missing.install);
            ApiError::field(format!("config.packages.{manager}"), problem)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
