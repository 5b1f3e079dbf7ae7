//! Models that this server can reach (api §22). They need no beta header.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_brain::models::Registry;
use manyhands_protocol::model::{EffortLevel, Lifecycle, Model};
use manyhands_protocol::page::IdPage;

use crate::api::agents::definition::Catalog;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::app::App;

const ALL: [EffortLevel; 5] = [
    EffortLevel::Low,
    EffortLevel::Medium,
    EffortLevel::High,
    EffortLevel::Xhigh,
    EffortLevel::Max,
];
const ONLY: [EffortLevel; 1] = [EffortLevel::High];

impl Catalog for Registry {
    fn efforts(&self, id: &str) -> Option<&[EffortLevel]> {
        let levels: &[EffortLevel] = if self.resolve(id)?.effort {
            &ALL
        } else {
            &ONLY
        };
        Some(levels)
    }

    fn names(&self) -> Vec<String> {
        self.list().into_iter().map(|model| model.id).collect()
    }

    fn is_priced(&self, id: &str) -> bool {
        self.resolve(id)
            .is_some_and(|resolved| resolved.prices.is_some())
    }

    fn takes_system_messages(&self, id: &str) -> bool {
        self.resolve(id)
            .is_some_and(|resolved| resolved.mid_conversation_system)
    }
}

/// `GET /v1/models`
pub(crate) async fn list_models(
    State(app): State<App>,
    _: Principal,
    query: Query,
) -> Result<Reply<IdPage<Model>>, ApiError> {
    let mut lifecycles = Vec::new();
    for text in query.list("lifecycle") {
        lifecycles.push(match text {
            "active" => Lifecycle::Active,
            "deprecated" => Lifecycle::Deprecated,
            "retired" => Lifecycle::Retired,
            _ => {
                return Err(ApiError::field(
                    "lifecycle",
                    "expected active, deprecated or retired",
                ));
            }
        });
    }
    if lifecycles.is_empty() {
        lifecycles = vec![Lifecycle::Active, Lifecycle::Deprecated];
    }
    let mut models = app.models.list();
    models.retain(|model| lifecycles.contains(&model.lifecycle));
    page(models, &query).map(Reply)
}

fn page(models: Vec<Model>, query: &Query) -> Result<IdPage<Model>, ApiError> {
    let limit = query.limit(20, 1000)? as usize;
    let find = |name: &str| -> Result<Option<usize>, ApiError> {
        let Some(id) = query.text(name)? else {
            return Ok(None);
        };
        let place = models.iter().position(|model| model.id == id);
        place
            .map(Some)
            .ok_or_else(|| ApiError::field(name, "is not a model of this list"))
    };
    let (from, to, has_more) = match (find("after_id")?, find("before_id")?) {
        (Some(_), Some(_)) => {
            return Err(ApiError::field(
                "before_id",
                "cannot be combined with after_id",
            ));
        }
        (None, Some(before)) => {
            let from = before.saturating_sub(limit);
            (from, before, from > 0)
        }
        (after, None) => {
            let from = after.map_or(0, |after| after + 1);
            let to = (from + limit).min(models.len());
            (from, to, to < models.len())
        }
    };
    let data = models[from..to].to_vec();
    Ok(IdPage {
        has_more,
        first_id: data.first().map(|model| model.id.clone()),
        last_id: data.last().map(|model| model.id.clone()),
        data,
    })
}

/// `GET /v1/models/{model_id}`: also an id that only a pattern covers.
pub(crate) async fn retrieve_model(
    State(app): State<App>,
    _: Principal,
    ids: Ids,
) -> Result<Reply<Model>, ApiError> {
    let id = ids.text("model_id");
    if let Some(model) = app.models.list().into_iter().find(|model| model.id == id) {
        return Ok(Reply(model));
    }
    let resolved = app
        .models
        .resolve(id)
        .ok_or_else(|| ApiError::not_found("model"))?;
    Ok(Reply(Model {
        max_tokens: Some(u64::from(resolved.max_output)),
        ..Model::named(id)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Vec<Model> {
        ["a", "b", "c", "d", "e"].map(Model::named).into()
    }

    #[test]
    fn models_are_paged_by_id() {
        #[track_caller]
        fn check(text: &str, expected: &[&str], has_more: bool) {
            let page = page(models(), &Query::from_text(text)).expect(text);
            let ids: Vec<&str> = page.data.iter().map(|model| model.id.as_str()).collect();
            assert_eq!(
                (ids.as_slice(), page.has_more),
                (expected, has_more),
                "{text}"
            );
            assert_eq!(page.first_id.as_deref(), expected.first().copied());
            assert_eq!(page.last_id.as_deref(), expected.last().copied());
        }
        check("", &["a", "b", "c", "d", "e"], false);
        check("limit=2", &["a", "b"], true);
        check("limit=2&after_id=b", &["c", "d"], true);
        check("limit=2&after_id=d", &["e"], false);
        check("limit=2&after_id=e", &[], false);
        check("limit=2&before_id=d", &["b", "c"], true);
        check("limit=2&before_id=b", &["a"], false);
        assert!(page(models(), &Query::from_text("after_id=x")).is_err());
        assert!(page(models(), &Query::from_text("after_id=a&before_id=c")).is_err());
    }
}
