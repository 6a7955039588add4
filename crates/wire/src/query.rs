//! Query strings: `application/x-www-form-urlencoded` (WHATWG URL, 5.1).

use std::borrow::Cow;

/// A parameter that was given more than once: which of them was meant cannot be known, so the request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

/// The pairs of a query string (without `?`), percent-decoded, `+` as a space. A pair that is not UTF-8 after decoding has U+FFFD in it.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The value of `name`.
pub fn single<'q>(query: &'q str, name: &str) -> Result<Option<Cow<'q, str>>, Repeated> {
    let mut values = pairs(query).filter(|(key, _)| key == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Repeated),
    }
}

fn decode(encoded: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', encoded.as_bytes()).is_none() {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'+' => (b' ', after),
            b'%' => escaped(after).unwrap_or((b'%', after)),
            _ => (first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// The byte that the two hexadecimal digits at the front mean, and what follows them.
fn escaped(digits: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], after) = digits.split_first_chunk()?;
    let value = char::from(*high).to_digit(16)? << 4 | char::from(*low).to_digit(16)?;
    Some((u8::try_from(value).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(query: &str) -> Vec<(String, String)> {
        pairs(query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign_and_empty_ones_skipped() {
        assert_eq!(all("EIO=4&transport=polling"), [pair("EIO", "4"), pair("transport", "polling")]);
        assert_eq!(all("&&a=1=2&b&=c&"), [pair("a", "1=2"), pair("b", ""), pair("", "c")]);
        assert_eq!(all(""), []);
    }

    #[test]
    fn escapes_and_plus_signs_are_decoded_in_names_and_values() {
        assert_eq!(all("na%6De=Zo%C3%AB+K%2bL"), [pair("name", "Zoë K+L")]);
        assert_eq!(all("a%26b=%3D%00"), [pair("a&b", "=\0")]);
        assert_eq!(all("n=\u{65e5}"), [pair("n", "\u{65e5}")]);
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        assert_eq!(all("a=%&b=%4&c=%zz%20%+1"), [pair("a", "%"), pair("b", "%4"), pair("c", "%zz % 1")]);
        // from_str_radix would take these signs for digits
        assert_eq!(all("a=%+1%-1"), [pair("a", "% 1%-1")]);
    }

    #[test]
    fn bytes_that_are_not_utf8_become_replacement_characters() {
        assert_eq!(all("a=%ff%C3&b=%F0%9F%98"), [pair("a", "\u{fffd}\u{fffd}"), pair("b", "\u{fffd}")]);
        assert_eq!(all("a=%EF%BB%BFx"), [pair("a", "\u{feff}x")], "a byte order mark is kept");
    }

    #[test]
    fn what_needs_no_decoding_is_borrowed() {
        assert!(
            pairs("sid=abc")
                .all(|(name, value)| matches!((name, value), (Cow::Borrowed(_), Cow::Borrowed(_))))
        );
    }

    #[test]
    fn a_repeated_parameter_is_refused_however_it_is_spelled() {
        assert_eq!(single("a=1&b=2", "b"), Ok(Some("2".into())));
        assert_eq!(single("a=1&b=2", "c"), Ok(None));
        assert_eq!(single("b=2&b=2", "b"), Err(Repeated));
        assert_eq!(single("b=2&%62", "b"), Err(Repeated));
        assert_eq!(single("b=1&b=2&a=3", "a"), Ok(Some("3".into())));
    }
}
