//! What single members of a credential may be. No refusal quotes them.

use std::net::Ipv4Addr;

use manyhands_egress::host::Pattern;
use manyhands_protocol::Timestamp;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::vault::{CredentialNetworking, InjectionLocation, InjectionLocationParams};
use manyhands_vault::ServerUrl;
use manyhands_vault::seal::LONGEST;
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::error::ApiError;

/// How many hosts a credential may list (runtime VA-10).
const HOSTS: usize = 16;
/// The longest text that is no secret: a client's id, a scope, a resource.
const TEXT: usize = 2048;
/// The longest name of a variable.
const NAME: usize = 255;

/// Variables that a sandbox has of its own, or that change what its programs load or where they connect to.
const RESERVED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "IFS",
    "ENV",
    "BASH_ENV",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

pub(super) fn is_required(at: impl AsRef<str>) -> ApiError {
    ApiError::field(at, "is required")
}

pub(super) fn required<T>(at: impl AsRef<str>, given: Patch<T>) -> Result<T, ApiError> {
    match given {
        Patch::Set(value) => Ok(value),
        Patch::Keep | Patch::Clear => Err(is_required(at)),
    }
}

pub(super) fn required_secret(
    at: &str,
    given: Option<SecretString>,
) -> Result<SecretString, ApiError> {
    given.ok_or_else(|| is_required(at))
}

/// A secret that is sent, of a length that can be kept.
pub(super) fn secret(
    at: &str,
    given: Patch<SecretString>,
) -> Result<Option<SecretString>, ApiError> {
    let Patch::Set(given) = given else {
        return Ok(None);
    };
    match given.expose_secret().len() {
        0 => Err(ApiError::field(at, "must not be empty")),
        1..=LONGEST => Ok(Some(given)),
        _ => Err(ApiError::field(
            at,
            format!("has more than {LONGEST} bytes"),
        )),
    }
}

/// A secret that goes into a header as it is.
pub(super) fn token(
    at: &str,
    given: Patch<SecretString>,
) -> Result<Option<SecretString>, ApiError> {
    let given = secret(at, given)?;
    let fits = |text: &SecretString| {
        let bytes = text.expose_secret().as_bytes();
        bytes.iter().all(|byte| matches!(byte, b'!'..=b'~'))
    };
    if given.as_ref().is_some_and(|given| !fits(given)) {
        return Err(ApiError::field(
            at,
            "has a space or another character that no token in a header has",
        ));
    }
    Ok(given)
}

pub(super) fn plain_text(at: &str, text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(ApiError::field(at, "must not be empty"));
    }
    if text.chars().count() > TEXT || text.chars().any(char::is_control) {
        let problem = format!("must have at most {TEXT} characters and no control character");
        return Err(ApiError::field(at, problem));
    }
    Ok(())
}

/// A text that may be absent, as an empty one counts.
pub(super) fn optional(at: String, given: Patch<String>) -> Result<Option<String>, ApiError> {
    let given = given.apply(None).filter(|text| !text.is_empty());
    if let Some(text) = &given {
        plain_text(&at, text)?;
    }
    Ok(given)
}

pub(super) fn server_url(at: &str, text: &str) -> Result<ServerUrl, ApiError> {
    ServerUrl::parse(text).map_err(|error| ApiError::field(at, error.to_string()))
}

/// A member that an update may repeat and not change.
pub(super) fn unchanged(at: &str, given: &Patch<String>, current: &str) -> Result<(), ApiError> {
    match given {
        Patch::Keep => Ok(()),
        Patch::Set(given) if given == current => Ok(()),
        Patch::Set(_) | Patch::Clear => Err(ApiError::field(at, "cannot be changed")),
    }
}

pub(super) fn in_the_future(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), ApiError> {
    match expires_at {
        Some(at) if at <= now => Err(ApiError::field("auth.expires_at", "must be in the future")),
        _ => Ok(()),
    }
}

pub(super) fn variable_name(name: &str) -> Result<(), ApiError> {
    let refuse = |problem: &str| Err(ApiError::field("auth.secret_name", problem));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if !begins || name.len() > NAME || !name.bytes().all(plain) {
        return refuse(
            "must be a variable's name: 1 to 255 letters, digits and underscores, and no digit first",
        );
    }
    let upper = name.to_ascii_uppercase();
    if RESERVED.contains(&upper.as_str()) || upper.starts_with("LD_") {
        return refuse("is a variable that sandboxes have already");
    }
    Ok(())
}

pub(super) fn check_networking(networking: &CredentialNetworking) -> Result<(), ApiError> {
    let CredentialNetworking::Limited { allowed_hosts } = networking else {
        return Ok(());
    };
    let at = "auth.networking.allowed_hosts";
    if allowed_hosts.len() > HOSTS {
        let problem = format!("must have at most {HOSTS} entries");
        return Err(ApiError::field(at, problem));
    }
    for (index, host) in allowed_hosts.iter().enumerate() {
        if host.parse::<Ipv4Addr>().is_ok() {
            continue;
        }
        Pattern::parse(host).map_err(|error| {
            let problem = format!(
                "must be a host like api.example.com, an IPv4 address, or *.example.com: {error}"
            );
            ApiError::field(format!("{at}[{index}]"), problem)
        })?;
    }
    Ok(())
}

pub(super) fn no_location() -> ApiError {
    ApiError::field(
        "auth.injection_location",
        "must not be null; leave it out instead",
    )
}

/// The locations with those that are given, of which one must be enabled.
pub(super) fn merged_location(
    current: InjectionLocation,
    given: &InjectionLocationParams,
) -> Result<InjectionLocation, ApiError> {
    let member = |name: &str, given: &Patch<bool>, current: bool| match given {
        Patch::Keep => Ok(current),
        Patch::Set(enabled) => Ok(*enabled),
        Patch::Clear => Err(ApiError::field(
            format!("auth.injection_location.{name}"),
            "must not be null; leave it out instead",
        )),
    };
    let merged = InjectionLocation {
        body: member("body", &given.body, current.body)?,
        header: member("header", &given.header, current.header)?,
    };
    if !merged.body && !merged.header {
        return Err(ApiError::field(
            "auth.injection_location",
            "must enable body, header, or both",
        ));
    }
    Ok(merged)
}
