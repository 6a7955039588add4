//! Full-text search, as far as it is the same on every store: what of a message can be found, what a query asks for, and whether one meets the other.
//!
//! An index answers with candidates, by [`tokens`](text::tokens) and [`Query::lookups`]; whether a message is a hit, [`Query::excerpt`] says, by its words as they read now. So a
//! hit is the same on every store, and what an index has not heard of yet is never shown.
//!
//! - **Words** are runs of letters and digits, compared without case, accents and widths. A word of a query finds those that begin with it; between quotes, whole ones.
//! - **Scripts that put no spaces between words** (Chinese, Japanese, Korean, Thai, …) are found wherever they stand: of them each character and each pair is indexed.

mod query;
pub mod text;

pub use query::{LONGEST, Lookup, MOST_TERMS, Query};
