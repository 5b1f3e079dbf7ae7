//! User profiles: whom a client's own users are (api §23). They are kept and shown; nothing here depends on them.

mod definition;
pub(crate) mod links;
mod shape;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::id::UserProfileId;
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::user_profile::{UserProfile, UserProfileDeleted, UserProfileParams};
use manyhands_store::user_profiles::{ProfileRange, ProfileRecord};
use serde::{Deserialize, Serialize};

use crate::api::auth::Principal;
use crate::api::cursor::{self, Paging};
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::app::App;

pub(crate) use self::shape::Shape;

/// Page sizes (api §29).
const LIMITS: (u32, u32) = (20, 100);

/// `POST /v1/user_profiles`
pub(crate) async fn create_user_profile(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    Json(params): Json<UserProfileParams>,
) -> Result<Reply<UserProfile>, ApiError> {
    let profile = definition::created(shape, params, app.now())?;
    app.store
        .insert_user_profile(&principal.workspace, &profile)
        .await?;
    Ok(Reply(shape.show(profile)))
}

/// `GET /v1/user_profiles/{user_profile_id}`
pub(crate) async fn retrieve_user_profile(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
) -> Result<Reply<UserProfile>, ApiError> {
    let id = ids.user_profile()?;
    let profile = app.store.user_profile(&principal.workspace, &id).await?;
    profile
        .map(|profile| Reply(shape.show(profile)))
        .ok_or_else(missing)
}

/// `POST /v1/user_profiles/{user_profile_id}`
pub(crate) async fn update_user_profile(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
    Json(params): Json<UserProfileParams>,
) -> Result<Reply<UserProfile>, ApiError> {
    let (id, now) = (ids.user_profile()?, app.now());
    let updated = app
        .store
        .update_user_profile(&principal.workspace, &id, move |current| {
            definition::updated(shape, current, params, now)
        })
        .await?;
    let profile = updated.ok_or_else(missing)??;
    Ok(Reply(shape.show(profile)))
}

/// `DELETE /v1/user_profiles/{user_profile_id}`: with its links.
pub(crate) async fn delete_user_profile(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<UserProfileDeleted>, ApiError> {
    let id = ids.user_profile()?;
    let found = app
        .store
        .delete_user_profile(&principal.workspace, &id)
        .await?;
    if !found {
        return Err(missing());
    }
    Ok(Reply(UserProfileDeleted {
        id,
        kind: Default::default(),
    }))
}

/// `GET /v1/user_profiles`
pub(crate) async fn list_user_profiles(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    query: Query,
) -> Result<Reply<Page<UserProfile>>, ApiError> {
    let paging = ProfilePaging::read(&query)?;
    if !shape.wants(&query)? {
        return Ok(Reply(Page {
            data: Vec::new(),
            next_page: None,
        }));
    }
    let found = app
        .store
        .list_user_profiles(&principal.workspace, &paging.range())
        .await?;
    let page = paging.page(found);
    Ok(Reply(Page {
        data: page
            .data
            .into_iter()
            .map(|profile| shape.show(profile))
            .collect(),
        next_page: page.next_page,
    }))
}

fn missing() -> ApiError {
    ApiError::not_found("user profile")
}

/// A page of the list, by either key.
enum ProfilePaging {
    Created(Paging),
    Named {
        order: Order,
        limit: u32,
        after: Option<NamedPlace>,
    },
}

/// A place in the list that is sorted by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NamedPlace {
    order: Order,
    name: String,
    id: UserProfileId,
}

const BY_NAME: &str = "user_profiles by name";

impl ProfilePaging {
    fn read(query: &Query) -> Result<Self, ApiError> {
        let order = query.order(Order::Desc)?;
        match query.text("order_by")? {
            None | Some("created_at") => {
                Paging::read("user_profiles", query, order, LIMITS).map(Self::Created)
            }
            Some("name") => {
                let after: Option<NamedPlace> = cursor::decode(BY_NAME, query)?;
                if let Some(place) = &after {
                    cursor::check_order(place.order, order)?;
                }
                let limit = query.limit(LIMITS.0, LIMITS.1)?;
                Ok(Self::Named {
                    order,
                    limit,
                    after,
                })
            }
            Some(_) => Err(ApiError::field("order_by", "expected created_at or name")),
        }
    }

    fn range(&self) -> ProfileRange {
        match self {
            Self::Created(paging) => ProfileRange::Created(paging.range()),
            Self::Named {
                order,
                limit,
                after,
            } => ProfileRange::Named {
                after: after.clone().map(|place| (place.name, place.id)),
                order: *order,
                limit: limit + 1,
            },
        }
    }

    fn page(&self, mut found: Vec<ProfileRecord>) -> Page<ProfileRecord> {
        match self {
            Self::Created(paging) => paging.page(found, |profile| {
                (profile.created_at, profile.id.to_string())
            }),
            Self::Named { order, limit, .. } => {
                let more = cursor::cut_off(&mut found, *limit);
                let last = found.last().filter(|_| more);
                let next = last.map(|profile| {
                    let place = NamedPlace {
                        order: *order,
                        name: profile.name.clone().unwrap_or_default(),
                        id: profile.id.clone(),
                    };
                    cursor::encode(BY_NAME, &place)
                });
                Page {
                    data: found,
                    next_page: next,
                }
            }
        }
    }
}
