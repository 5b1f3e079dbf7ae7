//! The four shapes of a profile, and which of them a request asks for (api §23). Pure.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use manyhands_protocol::user_profile::{EnforcementStatus, ProfileHead, Programs, UserProfile};
use manyhands_store::user_profiles::ProfileRecord;

use crate::api::auth::betas;
use crate::api::error::ApiError;
use crate::api::query::Query;

/// A shape, older ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// `user-profiles-2026-03-24`
    March,
    /// `user-profiles-2026-08-18`
    August,
    /// `user-profiles-2026-09-04`
    September,
    /// No beta header.
    Current,
}

impl Shape {
    /// Of several the newest that is named.
    fn of(headers: &HeaderMap) -> Self {
        [
            ("user-profiles-2026-09-04", Self::September),
            ("user-profiles-2026-08-18", Self::August),
            ("user-profiles-2026-03-24", Self::March),
        ]
        .into_iter()
        .find(|(beta, _)| betas::has(headers, beta))
        .map_or(Self::Current, |(_, shape)| shape)
    }

    /// A profile in this shape.
    pub(super) fn show(self, profile: ProfileRecord) -> UserProfile {
        let access_type = profile.relationship.access_type();
        let details = profile.details;
        let head = ProfileHead {
            id: profile.id,
            kind: Default::default(),
            name: profile.name,
            metadata: profile.metadata,
            created_at: profile.created_at,
            updated_at: profile.updated_at,
        };
        let trust_grants = Default::default();
        match self {
            Self::March => UserProfile::March {
                head,
                relationship: profile.relationship,
                external_id: details.reference_id,
                trust_grants,
            },
            Self::August => UserProfile::August {
                head,
                access_type,
                external_id: details.reference_id,
                external_user_onboarded_at: details.onboarded_at,
                trust_grants,
            },
            Self::September => UserProfile::September {
                head,
                access_type,
                external_user_details: details,
                trust_grants,
            },
            Self::Current => UserProfile::Current {
                head,
                access_type,
                external_user_details: details,
                enforcement_actions: Vec::new(),
                enforcement_status: EnforcementStatus::Unrestricted,
                programs: Programs::default(),
            },
        }
    }

    /// Whether a list shows any profile under its `enforcement_status`: nothing is enforced here.
    pub(super) fn wants(self, query: &Query) -> Result<bool, ApiError> {
        let field = "enforcement_status";
        let wanted: Vec<&str> = query.list(field).collect();
        if wanted.is_empty() {
            return Ok(true);
        }
        if self != Self::Current {
            return Err(ApiError::field(
                field,
                "is not known under this anthropic-beta header",
            ));
        }
        let known = ["unrestricted", "pending", "restricted", "banned"];
        if wanted.iter().any(|status| !known.contains(status)) {
            return Err(ApiError::field(
                field,
                "expected unrestricted, pending, restricted or banned",
            ));
        }
        Ok(wanted.contains(&"unrestricted"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Shape {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_names_the_shape() {
        #[track_caller]
        fn check(value: &str, expected: Shape) {
            let mut headers = HeaderMap::new();
            headers.insert("anthropic-beta", value.parse().expect("a value"));
            assert_eq!(Shape::of(&headers), expected, "{value}");
        }
        check("managed-agents-2026-04-01", Shape::Current);
        check("user-profiles-2026-03-24", Shape::March);
        check("x, user-profiles-2026-08-18", Shape::August);
        check(
            "user-profiles-2026-09-04,user-profiles-2026-08-18",
            Shape::September,
        );
    }

    #[test]
    fn only_the_newest_shape_filters_by_what_is_enforced() {
        #[track_caller]
        fn check(shape: Shape, text: &str, expected: Option<bool>) {
            let wants = shape.wants(&Query::from_text(text)).ok();
            assert_eq!(wants, expected, "{text}");
        }
        check(Shape::Current, "", Some(true));
        check(Shape::March, "", Some(true));
        let either = "enforcement_status[]=banned&enforcement_status[]=unrestricted";
        check(Shape::Current, either, Some(true));
        check(Shape::Current, "enforcement_status[]=banned", Some(false));
        check(Shape::Current, "enforcement_status[]=other", None);
        check(Shape::September, "enforcement_status[]=unrestricted", None);
    }
}
