//! User profiles: whom a client's own users are (api §23). The same profile is shown in one of four shapes, by the beta header.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::UserProfileId;
use crate::patch::Patch;
use crate::{Metadata, Timestamp, tag};

/// How the client uses the API for whom a profile stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessType {
    /// For a user of the client's own product.
    #[default]
    Application,
    /// For a company that access is passed on to.
    Passthrough,
}

/// The oldest shape's word for [`AccessType`], which tells the client's own use apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relationship {
    /// A user of the client's own product.
    #[default]
    External,
    /// A company that access is passed on to.
    Resold,
    /// The client itself.
    Internal,
}

impl Relationship {
    /// What newer shapes call it.
    pub fn access_type(self) -> AccessType {
        match self {
            Self::Resold => AccessType::Passthrough,
            Self::External | Self::Internal => AccessType::Application,
        }
    }

    /// This relationship after a newer client has set the access type: only a different one changes it.
    pub fn with_access_type(self, access: AccessType) -> Self {
        match access {
            _ if access == self.access_type() => self,
            AccessType::Passthrough => Self::Resold,
            AccessType::Application => Self::External,
        }
    }
}

/// What kind of entity it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntityType {
    /// A person.
    Individual,
    /// A company.
    Business,
    /// A non-profit.
    NonProfit,
    /// A government body.
    Government,
}

/// How the entity's account at the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// In use.
    Active,
    /// Restricted for now.
    Suspended,
    /// Barred.
    Blocked,
}

/// What the client says about the entity: every member is present, null until it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalUserDetails {
    /// How its account is.
    pub account_status: Option<AccountStatus>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Opaque.
    pub email_hash: Option<String>,
    /// What kind of entity it is.
    pub entity_type: Option<EntityType>,
    /// Opaque.
    pub name_hash: Option<String>,
    /// When it opened its account.
    pub onboarded_at: Option<Timestamp>,
    /// The client's own id of it.
    pub reference_id: Option<String>,
}

/// What all shapes of a profile have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileHead {
    /// Its id.
    pub id: UserProfileId,
    /// Always `"user_profile"`.
    #[serde(rename = "type")]
    pub kind: tag::UserProfile,
    /// The entity's name.
    pub name: Option<String>,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A trust grant of the older shapes. This server gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustGrant {
    /// Where it stands.
    pub status: GrantStatus,
}

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantStatus {
    /// Given.
    Active,
    /// Not decided.
    Pending,
    /// Declined.
    Rejected,
}

/// Where a profile stands in programs of the hosted service, which this server does not have: each is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Programs {
    /// Always null.
    pub cyber: Option<Never>,
    /// Always null.
    pub efs: Option<Never>,
}

/// What there is none of: its only JSON is the null around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Never {}

/// What is enforced against a profile. This server enforces nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementStatus {
    /// Nothing.
    Unrestricted,
    /// A check is under review.
    Pending,
    /// Something is.
    Restricted,
    /// It is banned.
    Banned,
}

/// A profile, in the shape that the request's beta header asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum UserProfile {
    /// Without a beta header.
    Current {
        /// What all have.
        #[serde(flatten)]
        head: ProfileHead,
        /// How the API is used for it.
        access_type: AccessType,
        /// What the client says about it.
        external_user_details: ExternalUserDetails,
        /// Open actions; always empty.
        enforcement_actions: Vec<Never>,
        /// Always `unrestricted`.
        enforcement_status: EnforcementStatus,
        /// Always without a program.
        programs: Programs,
    },
    /// `user-profiles-2026-09-04`.
    September {
        /// What all have.
        #[serde(flatten)]
        head: ProfileHead,
        /// How the API is used for it.
        access_type: AccessType,
        /// What the client says about it.
        external_user_details: ExternalUserDetails,
        /// Always empty.
        trust_grants: BTreeMap<String, TrustGrant>,
    },
    /// `user-profiles-2026-08-18`.
    August {
        /// What all have.
        #[serde(flatten)]
        head: ProfileHead,
        /// How the API is used for it.
        access_type: AccessType,
        /// The client's own id of it.
        external_id: Option<String>,
        /// When it opened its account.
        external_user_onboarded_at: Option<Timestamp>,
        /// Always empty.
        trust_grants: BTreeMap<String, TrustGrant>,
    },
    /// `user-profiles-2026-03-24`.
    March {
        /// What all have.
        #[serde(flatten)]
        head: ProfileHead,
        /// What it is to the client.
        relationship: Relationship,
        /// The client's own id of it.
        external_id: Option<String>,
        /// Always empty.
        trust_grants: BTreeMap<String, TrustGrant>,
    },
}

/// Body of a create or an update, of all shapes together; which member belongs to which shape is checked by whoever reads it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UserProfileParams {
    /// At most 255 characters; null clears.
    pub name: Patch<String>,
    /// Null keeps.
    pub access_type: Option<AccessType>,
    /// Up to `user-profiles-2026-03-24`; null keeps.
    pub relationship: Option<Relationship>,
    /// From `user-profiles-2026-09-04` on.
    pub external_user_details: Option<ExternalUserDetailsParams>,
    /// Up to `user-profiles-2026-08-18`; null clears.
    pub external_id: Patch<String>,
    /// Under `user-profiles-2026-08-18` alone.
    pub external_user_onboarded_at: Option<Timestamp>,
    /// In an update per key, where `""` removes.
    pub metadata: Option<Metadata>,
}

/// What a request says about the entity. In an update null is refused: a value can be replaced and not be cleared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExternalUserDetailsParams {
    /// How its account is.
    pub account_status: Patch<AccountStatus>,
    /// Two upper-case letters.
    pub country: Patch<String>,
    /// 1 to 255 characters.
    pub email_hash: Patch<String>,
    /// What kind of entity it is.
    pub entity_type: Patch<EntityType>,
    /// 1 to 255 characters.
    pub name_hash: Patch<String>,
    /// At most a minute ahead.
    pub onboarded_at: Patch<Timestamp>,
    /// 1 to 255 characters.
    pub reference_id: Patch<String>,
}

/// The answer to a delete of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserProfileDeleted {
    /// The profile that is gone.
    pub id: UserProfileId,
    /// Always `"user_profile_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::UserProfileDeleted,
}

/// A link for whom a profile stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrollmentUrl {
    /// Always `"enrollment_url"`.
    #[serde(rename = "type")]
    pub kind: tag::EnrollmentUrl,
    /// The link.
    pub url: String,
    /// When it stops to work.
    pub expires_at: Timestamp,
}

/// Body of an action URL's create.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ActionUrlParams {
    /// What the link is for.
    pub action: ProfileAction,
}

/// What a person can do behind a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProfileAction {
    /// Enroll in a program.
    EnrollEndUser {},
}

/// A link for what a person is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionUrl {
    /// Always `"user_profile_action_url"`.
    #[serde(rename = "type")]
    pub kind: tag::ActionUrl,
    /// The link.
    pub url: String,
    /// When it stops to work.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relationship_and_an_access_type_tell_the_same() {
        use Relationship::{External, Internal, Resold};
        #[track_caller]
        fn check(before: Relationship, set: AccessType, after: Relationship) {
            assert_eq!(before.with_access_type(set), after);
            assert_eq!(after.access_type(), set);
        }
        check(External, AccessType::Application, External);
        check(Internal, AccessType::Application, Internal);
        check(Resold, AccessType::Application, External);
        check(External, AccessType::Passthrough, Resold);
        check(Internal, AccessType::Passthrough, Resold);
        check(Resold, AccessType::Passthrough, Resold);
    }
}
