//! Pages of lists.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::http::respond::Page;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    pub page: u64,
    #[serde(default = "size")]
    #[schemars(range(min = 1, max = 100))]
    pub page_size: u64,
}

pub const fn first() -> u64 {
    1
}

pub const fn size() -> u64 {
    20
}

/// Where a page starts and how long it is.
pub fn window(page: u64, page_size: u64) -> (u64, usize) {
    ((page - 1).saturating_mul(page_size), page_size as usize)
}

pub fn page_of<T>(page: u64, page_size: u64, total: u64, data: Vec<T>) -> Page<T> {
    Page { data, total, page, page_size, total_pages: total.div_ceil(page_size) }
}
