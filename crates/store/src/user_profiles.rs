//! User profiles, and the links that were given out for them (api §23).

use manyhands_protocol::id::UserProfileId;
use manyhands_protocol::page::Order;
use manyhands_protocol::user_profile::{ExternalUserDetails, Relationship};
use manyhands_protocol::{Metadata, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::body;
use crate::db::{Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::reserve::Purpose;
use crate::resource::{Place, Resource, is_locked};
use crate::store::Store;

/// The SHA-256 of a link's secret part.
pub type LinkHash = [u8; 32];

/// A profile as it is stored: what all shapes of it are made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// Its id.
    pub id: UserProfileId,
    /// The entity's name.
    pub name: Option<String>,
    /// What it is to the client.
    pub relationship: Relationship,
    /// What the client says about it.
    pub details: ExternalUserDetails,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Which part of the list of profiles, and how it is sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileRange {
    /// By creation time.
    Created(Range),
    /// By name, byte for byte, then id; profiles without one come before all names.
    Named {
        /// Only profiles after this name and id, in list order.
        after: Option<(String, UserProfileId)>,
        /// The direction.
        order: Order,
        /// How many at most.
        limit: u32,
    },
}

impl Store {
    /// Adds a profile.
    ///
    /// # Errors
    /// As every write's.
    pub async fn insert_user_profile(
        &self,
        workspace: &WorkspaceId,
        profile: &ProfileRecord,
    ) -> Result<(), Error> {
        let (workspace, profile) = (workspace.clone(), profile.clone());
        self.inner
            .db
            .write(Scope::of(profile.id.as_str()), move |tx| {
                Box::pin(async move {
                    let body = json(&profile)?;
                    tx.run(
                        "INSERT INTO user_profiles (id, workspace, name, body, checksum, created_at)
                         VALUES ($1, $2, $3, $4, $5, $6)",
                        values![
                            profile.id.as_str(),
                            workspace.as_str(),
                            name(&profile),
                            body.as_str(),
                            body::checksum(profile.id.as_str(), &body),
                            profile.created_at,
                        ],
                    )
                    .await?;
                    failpoint!("store::user_profile::inserted");
                    Ok(())
                })
            })
            .await
    }

    /// A profile.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub async fn user_profile(
        &self,
        workspace: &WorkspaceId,
        id: &UserProfileId,
    ) -> Result<Option<ProfileRecord>, Error> {
        self.find(Place::new(workspace, id.as_str())).await
    }

    /// Changes a profile under its lock; as [`update_agent`](Self::update_agent).
    ///
    /// # Errors
    /// As every write's.
    pub async fn update_user_profile<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &UserProfileId,
        decide: impl FnOnce(&ProfileRecord) -> Result<Option<ProfileRecord>, R> + Send + 'static,
    ) -> Result<Option<Result<ProfileRecord, R>>, Error> {
        let place = Place::new(workspace, id.as_str());
        self.update(place, None, decide).await
    }

    /// Deletes a profile and its links; false when there is no such profile. Also a damaged one can be deleted.
    ///
    /// # Errors
    /// As every write's.
    pub async fn delete_user_profile(
        &self,
        workspace: &WorkspaceId,
        id: &UserProfileId,
    ) -> Result<bool, Error> {
        let (place, id) = (Place::new(workspace, id.as_str()), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if !is_locked::<ProfileRecord>(tx, &place).await? {
                        return Ok(false);
                    }
                    let links = "DELETE FROM user_profile_links WHERE profile_id = $1";
                    tx.run(links, values![id.as_str()]).await?;
                    let profile = "DELETE FROM user_profiles WHERE id = $1";
                    tx.run(profile, values![id.as_str()]).await?;
                    failpoint!("store::user_profile::deleted");
                    Ok(true)
                })
            })
            .await
    }

    /// A page of profiles.
    ///
    /// # Errors
    /// When one cannot be read, or is damaged.
    pub async fn list_user_profiles(
        &self,
        workspace: &WorkspaceId,
        range: &ProfileRange,
    ) -> Result<Vec<ProfileRecord>, Error> {
        let mut query =
            Query::new("SELECT body, id, checksum FROM user_profiles WHERE workspace = ");
        query.bind(workspace.as_str());
        match range {
            ProfileRange::Created(range) => query.page("created_at", "id", range),
            ProfileRange::Named {
                after,
                order,
                limit,
            } => {
                if let Some((name, id)) = after {
                    query.push(match order {
                        Order::Asc => " AND (name, id) > (",
                        Order::Desc => " AND (name, id) < (",
                    });
                    query.bind(name.as_str());
                    query.push(", ");
                    query.bind(id.as_str());
                    query.push(")");
                }
                query.push(match order {
                    Order::Asc => " ORDER BY name ASC, id ASC LIMIT ",
                    Order::Desc => " ORDER BY name DESC, id DESC LIMIT ",
                });
                query.bind(*limit);
            }
        }
        self.inner
            .db
            .list(query.sql, query.values, ProfileRecord::of)
            .await
    }

    /// Keeps a link to a profile until it expires, and drops the profile's expired ones; false when there is no such profile.
    ///
    /// # Errors
    /// As every write's.
    pub async fn insert_user_profile_link(
        &self,
        workspace: &WorkspaceId,
        id: &UserProfileId,
        hash: &LinkHash,
        expires_at: Timestamp,
    ) -> Result<bool, Error> {
        let place = Place::new(workspace, id.as_str());
        let (id, hash) = (id.clone(), *hash);
        let now = self.inner.services.clock.now();
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    if !is_locked::<ProfileRecord>(tx, &place).await? {
                        return Ok(false);
                    }
                    let expired =
                        "DELETE FROM user_profile_links WHERE profile_id = $1 AND expires_at <= $2";
                    tx.run(expired, values![id.as_str(), now]).await?;
                    tx.run(
                        "INSERT INTO user_profile_links (hash, profile_id, expires_at) VALUES ($1, $2, $3)",
                        values![hash.as_slice(), id.as_str(), expires_at],
                    )
                    .await?;
                    failpoint!("store::user_profile::link_inserted");
                    Ok(true)
                })
            })
            .await
    }

    /// Whether a link works at this moment.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_user_profile_link(&self, hash: &LinkHash) -> Result<bool, Error> {
        let sql = "SELECT expires_at FROM user_profile_links WHERE hash = $1 AND expires_at > $2";
        let values = values![hash.as_slice(), self.inner.services.clock.now()];
        self.inner.db.has(sql, values).await
    }
}

fn name(profile: &ProfileRecord) -> &str {
    profile.name.as_deref().unwrap_or_default()
}

impl Resource for ProfileRecord {
    const SELECT: &'static str =
        "SELECT body, id, checksum FROM user_profiles WHERE id = $1 AND workspace = $2";

    fn of(row: &Row) -> Result<Self, Error> {
        body::parsed(row, "user profile")
    }

    async fn write(tx: &mut Tx, place: &Place, _: Self, new: Self) -> Result<Self, Error> {
        let body = json(&new)?;
        tx.run(
            "UPDATE user_profiles SET name = $2, body = $3, checksum = $4 WHERE id = $1",
            values![
                place.id.as_str(),
                name(&new),
                body.as_str(),
                body::checksum(&place.id, &body),
            ],
        )
        .await?;
        failpoint!("store::user_profile::updated");
        Ok(new)
    }
}
