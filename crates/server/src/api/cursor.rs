//! Page cursors: opaque to clients, `page_` and the base64url of a place in one list (api §1.5, runtime LI-1, LI-2).
//!
//! A cursor holds no secret and opens nothing: every query it leads to is bound to the caller's workspace.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use manyhands_protocol::Timestamp;
use manyhands_protocol::page::{Order, Page};
use manyhands_store::listing::{Key, Range};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::query::{Query, Times};

const PREFIX: &str = "page_";
/// The place in a list of memories is a path, whose 1,024 bytes may each need two in JSON.
const MAX_LENGTH: usize = 4096;

/// The text of a cursor into the list called `list`.
pub(crate) fn encode(list: &str, place: &impl Serialize) -> String {
    let json = serde_json::to_vec(&(list, place)).unwrap_or_default();
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(json))
}

/// The place that `page` names, when it is given.
pub(crate) fn decode<T: DeserializeOwned>(
    list: &str,
    query: &Query,
) -> Result<Option<T>, ApiError> {
    let Some(text) = query.text("page")? else {
        return Ok(None);
    };
    let place = text
        .strip_prefix(PREFIX)
        .filter(|tail| tail.len() <= MAX_LENGTH);
    let place = place.and_then(|tail| BASE64_URL_SAFE_NO_PAD.decode(tail).ok());
    let place = place.and_then(|json| serde_json::from_slice::<(String, T)>(&json).ok());
    match place {
        Some((name, place)) if name == list => Ok(Some(place)),
        _ => Err(ApiError::field("page", "is not a cursor of this list")),
    }
}

/// A cursor is only good for the order it was made with.
pub(crate) fn check_order(cursor: Order, asked: Order) -> Result<(), ApiError> {
    if cursor == asked {
        return Ok(());
    }
    Err(ApiError::field(
        "page",
        "the cursor belongs to the other order",
    ))
}

/// Whether the store gave the one item more that was asked for than the page holds. It is taken away.
pub(crate) fn cut_off<T>(items: &mut Vec<T>, limit: u32) -> bool {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    more
}

/// A place in a list that is sorted by creation time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    order: Order,
    back: bool,
    created_at: Timestamp,
    id: String,
}

/// One page of a list that is sorted by creation time, to be read and then cut.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    list: &'static str,
    order: Order,
    limit: u32,
    place: Option<Place>,
}

/// A page that was cut, in list order.
#[derive(Debug)]
pub(crate) struct Cut<T> {
    /// The items.
    pub(crate) data: Vec<T>,
    /// The cursor onwards.
    pub(crate) next: Option<String>,
    /// The cursor back.
    pub(crate) prev: Option<String>,
}

impl Paging {
    /// What `query` asks for.
    pub(crate) fn read(
        list: &'static str,
        query: &Query,
        order: Order,
        limits: (u32, u32),
    ) -> Result<Self, ApiError> {
        let place: Option<Place> = decode(list, query)?;
        if let Some(place) = &place {
            check_order(place.order, order)?;
        }
        Ok(Self {
            list,
            order,
            limit: query.limit(limits.0, limits.1)?,
            place,
        })
    }

    /// The same with pages of no more than so many.
    pub(crate) fn at_most(self, limit: u32) -> Self {
        Self {
            limit: self.limit.min(limit),
            ..self
        }
    }

    /// Refuses a cursor that lies outside of a filter for creation times (api §1.5).
    pub(crate) fn require_within(&self, times: &Times) -> Result<(), ApiError> {
        let place = self.place.as_ref();
        place.map_or(Ok(()), |place| times.require(Some(place.created_at)))
    }

    fn backwards(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.back)
    }

    /// What to ask the store for: one item more than the page holds, to know whether there is more.
    pub(crate) fn range(&self) -> Range {
        Range {
            after: self.place.as_ref().map(|place| Key {
                created_at: place.created_at,
                id: place.id.clone(),
            }),
            order: match (self.order, self.backwards()) {
                (Order::Asc, false) | (Order::Desc, true) => Order::Asc,
                (Order::Desc, false) | (Order::Asc, true) => Order::Desc,
            },
            limit: self.limit + 1,
        }
    }

    /// The page of a list that is walked onwards, of what the store gave.
    pub(crate) fn page<T>(
        &self,
        items: Vec<T>,
        key: impl Fn(&T) -> (Timestamp, String),
    ) -> Page<T> {
        let cut = self.cut(items, key);
        Page {
            data: cut.data,
            next_page: cut.next,
        }
    }

    /// Cuts what the store gave.
    pub(crate) fn cut<T>(
        &self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> (Timestamp, String),
    ) -> Cut<T> {
        let more = cut_off(&mut items, self.limit);
        let back = self.backwards();
        if back {
            items.reverse();
        }
        let cursor = |item: Option<&T>, back| {
            item.map(|item| {
                let (created_at, id) = key(item);
                let order = self.order;
                encode(
                    self.list,
                    &Place {
                        order,
                        back,
                        created_at,
                        id,
                    },
                )
            })
        };
        let (has_next, has_prev) = if back {
            (true, more)
        } else {
            (more, self.place.is_some())
        };
        Cut {
            next: has_next.then(|| cursor(items.last(), false)).flatten(),
            prev: has_prev.then(|| cursor(items.first(), true)).flatten(),
            data: items,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        let text: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Query::from_text(&text.join("&"))
    }

    /// Reads a page of the numbers 0 to `count` as the store would.
    fn page(count: i64, paging: &Paging) -> Cut<i64> {
        let range = paging.range();
        let key = |n: &i64| (Timestamp::from_micros(n / 2), format!("id{n:03}"));
        let mut all: Vec<i64> = (0..count).collect();
        if range.order == Order::Desc {
            all.reverse();
        }
        let forward = if range.order == Order::Asc {
            Ordering::Greater
        } else {
            Ordering::Less
        };
        let after = range.after.map(|after| (after.created_at, after.id));
        all.retain(|n| {
            after
                .as_ref()
                .is_none_or(|after| key(n).cmp(after) == forward)
        });
        all.truncate(range.limit as usize);
        paging.cut(all, key)
    }

    #[test]
    fn li_1_pages_join_without_gap_or_double_in_both_directions() {
        for (order, name) in [(Order::Asc, "asc"), (Order::Desc, "desc")] {
            for count in 0..12 {
                let mut expected: Vec<i64> = (0..count).collect();
                if order == Order::Desc {
                    expected.reverse();
                }
                let mut cursor = String::new();
                let mut walked: Vec<i64> = Vec::new();
                let mut pages = Vec::new();
                loop {
                    let paging = Paging::read(
                        "n",
                        &query(&[("page", &cursor), ("limit", "3")]),
                        order,
                        (20, 100),
                    )
                    .expect(name);
                    let cut = page(count, &paging);
                    assert_eq!(cut.prev.is_some(), !cursor.is_empty());
                    walked.extend(&cut.data);
                    pages.push((cut.data, cut.prev));
                    match cut.next {
                        Some(next) => cursor = next,
                        None => break,
                    }
                }
                assert_eq!(walked, expected, "{name} {count}");
                while let Some((_, Some(prev))) = pages.pop() {
                    let paging = Paging::read(
                        "n",
                        &query(&[("page", &prev), ("limit", "3")]),
                        order,
                        (20, 100),
                    )
                    .expect(name);
                    let cut = page(count, &paging);
                    let (before, before_prev) = pages.last().expect("a page before");
                    assert_eq!(&cut.data, before);
                    assert_eq!(cut.prev.is_some(), before_prev.is_some());
                    assert!(cut.next.is_some());
                }
            }
        }
    }

    #[test]
    fn li_2_a_foreign_or_broken_cursor_is_refused() {
        let paging = Paging::read("a", &Query::default(), Order::Asc, (1, 100)).expect("fine");
        let cursor = page(3, &paging).next.expect("more");
        let read = |list, order, text: &str| {
            Paging::read(list, &query(&[("page", text)]), order, (1, 100)).is_ok()
        };
        assert!(read("a", Order::Asc, &cursor));
        assert!(!read("a", Order::Desc, &cursor), "another order");
        assert!(!read("b", Order::Asc, &cursor), "another list");
        for text in [
            "x",
            "page_",
            "page_!!",
            "page_e30",
            &format!("{cursor}x"),
            &cursor[..cursor.len() - 2],
        ] {
            assert!(!read("a", Order::Asc, text), "{text}");
        }
    }
}
