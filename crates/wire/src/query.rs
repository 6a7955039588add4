//! Query strings: `application/x-www-form-urlencoded` (WHATWG URL, 5.1).

use std::borrow::Cow;

/// The pairs of a query string (without `?`), percent-decoded, `+` as a space. A pair that is not UTF-8 after decoding has U+FFFD in it.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let _ = query;
    std::iter::empty()
}

/// A parameter that was given more than once: which of them was meant cannot be known, so the request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

/// The value of `name`.
pub fn single<'q>(query: &'q str, name: &str) -> Result<Option<Cow<'q, str>>, Repeated> {
    let _ = (query, name);
    todo!()
}
