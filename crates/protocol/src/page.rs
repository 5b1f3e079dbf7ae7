//! Pages of lists: opaque cursors, the three styles of api §1.5 (runtime LI-1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A page of most lists: `data` and the cursor of the next page, null on the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items, in list order.
    pub data: Vec<T>,
    /// Send as `page` to go on; null at the end.
    pub next_page: Option<String>,
}

/// A page of the sessions list, which can also walk back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct BidirectionalPage<T> {
    /// The items, in list order.
    pub data: Vec<T>,
    /// Send as `page` to go on; null at the end.
    pub next_page: Option<String>,
    /// Send as `page` to go back; null on the first page.
    pub prev_page: Option<String>,
}

/// A page that is walked by ids (models).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct IdPage<T> {
    /// The items, in list order.
    pub data: Vec<T>,
    /// Whether there are more items in the direction asked for.
    pub has_more: bool,
    /// The first item's id; null when empty.
    pub first_id: Option<String>,
    /// The last item's id; null when empty.
    pub last_id: Option<String>,
}

/// The direction of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}
