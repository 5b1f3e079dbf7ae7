//! Paths of the contract whose resources this version does not have. Clients are told so at once, and not to repeat it (api §2).

use crate::api::auth::Principal;
use crate::api::error::ApiError;

/// The beta value of dreams (runtime HT-3).
pub(crate) const DREAMS: &str = "dreaming-2026-04-21";
/// The beta value of MCP tunnels (runtime HT-4).
pub(crate) const TUNNELS: &str = "mcp-tunnels-2026-06-22";
/// The beta value of webhooks.
pub(crate) const WEBHOOKS: &str = "webhooks-2026-10-07";

/// `/v1/environments/{environment_id}/work…`
pub(crate) async fn work(_: Principal) -> ApiError {
    ApiError::not_implemented("the work queue of self-hosted environments")
}

/// `/v1/deployments…` and `/v1/deployment_runs…`
pub(crate) async fn deployments(_: Principal) -> ApiError {
    ApiError::not_implemented("deployments and their runs")
}

/// `/v1/dreams…`
pub(crate) async fn dreams(_: Principal) -> ApiError {
    ApiError::not_implemented("dreams")
}

/// `/v1/tunnels…`
pub(crate) async fn tunnels(_: Principal) -> ApiError {
    ApiError::not_implemented("MCP tunnels")
}

/// `/v1/organizations/webhooks…`
pub(crate) async fn webhooks(_: Principal) -> ApiError {
    ApiError::not_implemented("webhook endpoints of organizations")
}
