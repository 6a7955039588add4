//! Settings from the environment: `XPUSH_LIMITS__PAYLOAD=2MB` is `payload` in `[limits]`.

use super::tree::{Item, Place, parse_words};

const PREFIX: &str = "XPUSH_";

/// The variable that names the file itself.
pub(crate) const CONFIG: &str = "XPUSH_CONFIG";

/// Reads the variables that are meant for XPUSH, as paths and values.
pub(crate) fn settings<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (Vec<String>, Item)> {
    let ours = |(name, words): &(&str, &str)| {
        name.starts_with(PREFIX) && *name != CONFIG && !set_by_kubernetes(name, words)
    };
    variables.into_iter().filter(ours).map(|(name, words)| {
        let path = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        (path, parse_words(&Place::Variable(name.into()), words))
    })
}

/// Kubernetes tells every container of a namespace about a service called `xpush` by variables of these forms.
fn set_by_kubernetes(name: &str, words: &str) -> bool {
    name.contains("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && words.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Value;
    use super::*;

    #[test]
    fn names_are_paths() {
        let read: Vec<_> = settings([
            ("XPUSH_LISTEN", "127.0.0.1:1"),
            ("XPUSH_LIMITS__PAYLOAD", "2MB"),
            ("XPUSH_CONFIG", "a.toml"),
            ("XPUSH_SERVICE_HOST", "10.0.0.1"),
            ("XPUSH_PORT", "tcp://10.0.0.1:8000"),
            ("XPUSH_PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ])
        .collect();
        let paths: Vec<_> = read.iter().map(|(path, _)| path.join(".")).collect();
        assert_eq!(paths, ["listen", "limits.payload"]);
        assert_eq!(read[1].1.value, Value::Raw("2MB".to_owned()));
        assert_eq!(read[1].1.place.to_string(), "XPUSH_LIMITS__PAYLOAD");
    }

    #[test]
    fn lists_may_be_written_as_in_the_file() {
        let (_, item) = settings([("XPUSH_ALLOWED_ORIGINS", "[\"https://a.example\"]")]).next().unwrap();
        assert!(matches!(item.value, Value::List(items) if items.len() == 1));
    }
}
