//! What a profile may be: the members of each shape, checked and put together (api §23). Pure.

use std::time::Duration;

use manyhands_protocol::id::UserProfileId;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::user_profile::{
    ExternalUserDetails, ExternalUserDetailsParams, UserProfileParams,
};
use manyhands_protocol::{Metadata, Timestamp};
use manyhands_store::user_profiles::ProfileRecord;

use super::shape::Shape;
use crate::api::agents::definition::{merge_metadata, text};
use crate::api::error::ApiError;

const MOST: usize = 255;
/// How far a client's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(60);

/// A new profile.
pub(super) fn created(
    shape: Shape,
    params: UserProfileParams,
    now: Timestamp,
) -> Result<ProfileRecord, ApiError> {
    let empty = ProfileRecord {
        id: UserProfileId::generate(),
        name: None,
        relationship: Default::default(),
        details: Default::default(),
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
    };
    let pairs = params.metadata.iter().flatten();
    if let Some((key, _)) = pairs.into_iter().find(|(_, value)| value.is_empty()) {
        let problem = format!("the value of {key:?} must not be empty");
        return Err(ApiError::field("metadata", problem).with_code("invalid_metadata"));
    }
    changed(shape, &empty, params, now, Null::IsNone)
}

/// A profile after an update, or `None` when nothing changes.
pub(super) fn updated(
    shape: Shape,
    current: &ProfileRecord,
    params: UserProfileParams,
    now: Timestamp,
) -> Result<Option<ProfileRecord>, ApiError> {
    let next = changed(shape, current, params, now, Null::IsRefused)?;
    Ok((next != *current).then_some(ProfileRecord {
        updated_at: now,
        ..next
    }))
}

/// What a null among the details means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Null {
    /// In a create: it was not given.
    IsNone,
    /// In an update: what was once given can be replaced and not be cleared.
    IsRefused,
}

impl Null {
    fn set<T>(
        self,
        field: &str,
        given: Patch<T>,
        current: Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match given {
            Patch::Clear if self == Self::IsRefused => {
                Err(ApiError::field(field, "can be replaced and not be cleared"))
            }
            given => Ok(given.apply(current)),
        }
    }
}

fn changed(
    shape: Shape,
    current: &ProfileRecord,
    params: UserProfileParams,
    now: Timestamp,
    null: Null,
) -> Result<ProfileRecord, ApiError> {
    belongs(shape, &params)?;
    if let Some(name) = params.name.value() {
        text("name", name, 0, MOST)?;
    }
    let mut relationship = params.relationship.unwrap_or(current.relationship);
    if let Some(access) = params.access_type {
        relationship = relationship.with_access_type(access);
    }
    let mut details = current.details.clone();
    if let Some(given) = params.external_user_details {
        details = detailed(details, given, now, null)
            .map_err(|error| error.inside("external_user_details"))?;
    }
    if let Some(id) = params.external_id.value() {
        text("external_id", id, 0, MOST)?;
    }
    details.reference_id = params.external_id.apply(details.reference_id);
    if let Some(at) = params.external_user_onboarded_at {
        details.onboarded_at = Some(past("external_user_onboarded_at", at, now)?);
    }
    Ok(ProfileRecord {
        name: params.name.apply(current.name.clone()),
        relationship,
        details,
        metadata: merged(&current.metadata, params.metadata.unwrap_or_default())?,
        ..current.clone()
    })
}

/// Each shape has its own members: another's would otherwise be dropped in silence.
fn belongs(shape: Shape, params: &UserProfileParams) -> Result<(), ApiError> {
    let legacy = shape <= Shape::August;
    for (field, is_sent, is_known) in [
        (
            "relationship",
            params.relationship.is_some(),
            shape == Shape::March,
        ),
        (
            "access_type",
            params.access_type.is_some(),
            shape != Shape::March,
        ),
        ("external_id", params.external_id.is_sent(), legacy),
        (
            "external_user_onboarded_at",
            params.external_user_onboarded_at.is_some(),
            shape == Shape::August,
        ),
        (
            "external_user_details",
            params.external_user_details.is_some(),
            !legacy,
        ),
    ] {
        if is_sent && !is_known {
            return Err(ApiError::field(
                field,
                "is not accepted under this anthropic-beta header",
            ));
        }
    }
    Ok(())
}

fn detailed(
    current: ExternalUserDetails,
    given: ExternalUserDetailsParams,
    now: Timestamp,
    null: Null,
) -> Result<ExternalUserDetails, ApiError> {
    for (field, value) in [
        ("email_hash", &given.email_hash),
        ("name_hash", &given.name_hash),
        ("reference_id", &given.reference_id),
    ] {
        if let Some(value) = value.value() {
            text(field, value, 1, MOST)?;
        }
    }
    if let Some(country) = given.country.value() {
        let is_code = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_code {
            return Err(ApiError::field(
                "country",
                "expected two upper-case letters",
            ));
        }
    }
    if let Some(at) = given.onboarded_at.value() {
        past("onboarded_at", *at, now)?;
    }
    Ok(ExternalUserDetails {
        account_status: null.set(
            "account_status",
            given.account_status,
            current.account_status,
        )?,
        country: null.set("country", given.country, current.country)?,
        email_hash: null.set("email_hash", given.email_hash, current.email_hash)?,
        entity_type: null.set("entity_type", given.entity_type, current.entity_type)?,
        name_hash: null.set("name_hash", given.name_hash, current.name_hash)?,
        onboarded_at: null.set("onboarded_at", given.onboarded_at, current.onboarded_at)?,
        reference_id: null.set("reference_id", given.reference_id, current.reference_id)?,
    })
}

fn past(field: &str, at: Timestamp, now: Timestamp) -> Result<Timestamp, ApiError> {
    if at > now.after(AHEAD) {
        return Err(ApiError::field(field, "lies in the future"));
    }
    Ok(at)
}

/// Metadata of profiles loses a key by an empty text.
fn merged(current: &Metadata, given: Metadata) -> Result<Metadata, ApiError> {
    let patch = given
        .into_iter()
        .map(|(key, value)| (key, (!value.is_empty()).then_some(value)));
    merge_metadata(current, patch.collect())
}
