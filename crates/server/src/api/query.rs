//! Query strings and path ids (api §1.4): repeated `name[]`, comparators such as `created_at[gte]`, typed ids.

mod ids;

use axum::extract::FromRequestParts;
use http::request::Parts;
use manyhands_protocol::Timestamp;
use manyhands_protocol::id::IdError;
use manyhands_protocol::page::Order;
use percent_encoding::percent_decode_str;

use crate::api::error::ApiError;
use crate::openapi::parameter::{Kind, Parameter};

pub(crate) use ids::{Ids, path_schema};

/// What a route's query may hold, set by its door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared(pub(crate) &'static [Parameter]);

/// The decoded query, in request order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Self::parse(parts.uri.query().unwrap_or_default())?;
        if let Some(Declared(parameters)) = parts.extensions.get() {
            query.check(parameters)?;
        }
        Ok(query)
    }
}

impl Query {
    /// Reads `text`, the part after the question mark. What is no UTF-8 is refused: read with other characters in its place it
    /// would ask for something else (security INP-2).
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        match percent_decode_str(text).decode_utf8() {
            Ok(_) => Ok(Self::from_text(text)),
            Err(_) => Err(ApiError::invalid("the query of the URL is not UTF-8")),
        }
    }

    /// Decodes `text`, which is UTF-8.
    pub(crate) fn from_text(text: &str) -> Self {
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The names and values, in request order.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Refuses filters that are known and not built; names nobody knows are logged at debug.
    fn check(&self, parameters: &[Parameter]) -> Result<(), ApiError> {
        for (name, _) in &self.0 {
            let bare = name.strip_suffix("[]").unwrap_or(name);
            match parameters.iter().find(|parameter| parameter.name == bare) {
                Some(known) if known.kind == Kind::NotBuilt => {
                    return Err(ApiError::not_built(bare, "this filter"));
                }
                None if bare != "beta" => {
                    tracing::debug!(parameter = %name.escape_debug(), "unknown query parameter");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A parameter that may be given once. An empty text counts as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self
            .0
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::field(name, "is given more than once"));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// All values of `name[]`.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self
            .0
            .iter()
            .filter(move |(given, _)| given == name || given.strip_suffix("[]") == Some(name));
        values.map(|(_, value)| value.as_str())
    }

    /// `limit`, from 1 to `max`.
    pub(crate) fn limit(&self, default: u32, max: u32) -> Result<u32, ApiError> {
        let Some(text) = self.text("limit")? else {
            return Ok(default);
        };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => Err(ApiError::field(
                "limit",
                format!("expected a whole number from 1 to {max}"),
            )),
        }
    }

    /// `order`.
    pub(crate) fn order(&self, default: Order) -> Result<Order, ApiError> {
        match self.text("order")? {
            None => Ok(default),
            Some("asc") => Ok(Order::Asc),
            Some("desc") => Ok(Order::Desc),
            Some(_) => Err(ApiError::field("order", "expected asc or desc")),
        }
    }

    /// A boolean.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::field(name, "expected true or false")),
        }
    }

    /// A version number, from 1.
    pub(crate) fn version(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(version) if version >= 1 => Ok(Some(version)),
            _ => Err(ApiError::field(name, "expected a whole number from 1")),
        }
    }

    /// An instant, RFC 3339. A `+` that was not encoded arrives as a space and is taken as meant.
    pub(crate) fn instant(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let parsed = Timestamp::parse(&text.replace(' ', "+"));
        parsed
            .map(Some)
            .map_err(|problem| ApiError::field(name, problem))
    }

    /// An id by which a list is filtered.
    pub(crate) fn id<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, IdError>,
    ) -> Result<Option<T>, ApiError> {
        let id = self.text(name)?.map(parse).transpose();
        id.map_err(|problem| ApiError::field(name, problem.to_string()))
    }

    /// `created_at[…]`, all four bounds.
    pub(crate) fn times(&self) -> Result<Times, ApiError> {
        Ok(Times {
            after: self.instant("created_at[gt]")?,
            before: self.instant("created_at[lt]")?,
            ..self.span()?
        })
    }

    /// `created_at[gte]` and `created_at[lte]`, of lists that know no others.
    pub(crate) fn span(&self) -> Result<Times, ApiError> {
        Ok(Times {
            from: self.instant("created_at[gte]")?,
            to: self.instant("created_at[lte]")?,
            ..Times::default()
        })
    }
}

/// The bounds of a filter for times, `created_at[…]`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// `[gt]`
    pub(crate) after: Option<Timestamp>,
    /// `[gte]`
    pub(crate) from: Option<Timestamp>,
    /// `[lt]`
    pub(crate) before: Option<Timestamp>,
    /// `[lte]`
    pub(crate) to: Option<Timestamp>,
}

impl Times {
    /// Refuses a cursor whose item the filter does not admit (api §1.5, runtime LI-2). An item without a time is admitted
    /// where there are no bounds.
    pub(crate) fn require(&self, at: Option<Timestamp>) -> Result<(), ApiError> {
        let passes = |limit: Option<Timestamp>, test: fn(&Timestamp, &Timestamp) -> bool| {
            limit.is_none_or(|limit| at.is_some_and(|at| test(&at, &limit)))
        };
        if passes(self.after, Timestamp::gt)
            && passes(self.from, Timestamp::ge)
            && passes(self.before, Timestamp::lt)
            && passes(self.to, Timestamp::le)
        {
            return Ok(());
        }
        let problem = "the cursor lies outside of the created_at filter";
        Err(ApiError::field("page", problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::parameter::{NOT_DEPLOYMENT_ID, PAGE};

    #[test]
    fn lists_are_read_with_brackets_encoded_raw_or_absent() {
        for text in [
            "types%5B%5D=a&types%5B%5D=b",
            "types[]=a&types[]=b",
            "types=a&types=b",
            "x=1&types[]=a&beta=true&types[]=b",
        ] {
            let query = Query::from_text(text);
            assert_eq!(
                query.list("types").collect::<Vec<_>>(),
                ["a", "b"],
                "{text}"
            );
        }
    }

    #[test]
    fn instants_keep_their_offset() {
        for text in [
            "created_at%5Bgte%5D=2026-11-21T11:30:05%2B00:00",
            "created_at[gte]=2026-11-21T11:30:05+00:00",
            "created_at[gte]=2026-11-21T11%3A30%3A05Z",
        ] {
            let instant = Query::from_text(text)
                .instant("created_at[gte]")
                .expect(text);
            assert_eq!(
                instant.expect("given").to_string(),
                "2026-11-21T11:30:05.000000Z",
                "{text}"
            );
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        #[track_caller]
        fn check<T>(result: Result<T, ApiError>, problem: &str) {
            let error = result.err().expect("refused");
            assert!(error.message().starts_with(problem), "{}", error.message());
        }
        for text in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1.5"] {
            check(
                Query::from_text(text).limit(20, 100),
                "limit: expected a whole number from 1 to 100",
            );
        }
        check(
            Query::from_text("limit=1&limit=2").limit(20, 100),
            "limit: is given more than once",
        );
        check(
            Query::from_text("order=up").order(Order::Asc),
            "order: expected asc or desc",
        );
        check(
            Query::from_text("include_archived=1").flag("include_archived"),
            "include_archived: expected true",
        );
        check(
            Query::from_text("version=0").version("version"),
            "version: expected a whole number",
        );
        check(
            Query::from_text("t=yesterday").instant("t"),
            "t: not an RFC 3339 timestamp",
        );
        check(
            Query::from_text("deployment_id=x").check(&[NOT_DEPLOYMENT_ID]),
            "deployment_id: this filter is not supported",
        );
    }

    #[test]
    fn empty_texts_count_as_absent() {
        let query = Query::from_text("page=&limit=&order=&beta=true");
        assert_eq!(query.text("page").expect("fine"), None);
        assert_eq!(query.limit(20, 100).expect("fine"), 20);
        query.check(&[PAGE]).expect("tolerated");
    }
}
