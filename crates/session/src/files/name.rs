//! What files are called. A name is only ever shown, and put into one header; nothing is opened or kept by it.

/// Bytes that file systems take.
const LONGEST: usize = 255;

/// A name without a path, without anything that changes how it is read, and not longer than file systems take.
pub(crate) fn clean(given: &str) -> Box<str> {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !misleads(*c)).collect();
    // What begins with a dot is hidden, and Windows takes dots and spaces off the end.
    let kept = kept.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let kept = kept.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    if kept.is_empty() { "file".into() } else { shortened(kept).into() }
}

/// The same name with an ending that is one of `endings`; the first of them, if it has another one.
pub(crate) fn ending_as_one_of(name: &str, endings: &[&str]) -> Box<str> {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    match endings {
        [usual, ..] if !endings.iter().any(|one| one.eq_ignore_ascii_case(ending)) => {
            clean(&format!("{stem}.{usual}"))
        }
        _ => name.into(),
    }
}

/// How a download is named (RFC 6266), shown in a page or saved.
pub(crate) fn disposition(inline: bool, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        // RFC 8187, 3.2.1: attr-char.
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    let how = if inline { "inline" } else { "attachment" };
    format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// What has no width, breaks a line, or turns the direction of what stands behind it: `gpj.exe` must not read as `exe.jpg`.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
        || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*')
}

/// The front of a name and its ending.
fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let ending = match name.rsplit_once('.') {
        Some((_, ending)) if (1..=16).contains(&ending.len()) => format!(".{ending}"),
        _ => String::new(),
    };
    let mut end = LONGEST - ending.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn paths_and_tricks_are_taken_off() {
        for (given, kept) in [
            ("a.png", "a.png"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("/", "file"),
            ("..", "file"),
            ("", "file"),
            (".bashrc", "bashrc"),
            ("a\0b.png", "ab.png"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("a\r\nSet-Cookie: x=1.png", "aSet-Cookie x=1.png"),
            ("  사진 📷.jpg  ", "사진 📷.jpg"),
            ("a.txt...", "a.txt"),
            ("C:\\x.txt", "x.txt"),
            ("\u{feff}a", "a"),
        ] {
            assert_eq!(&*clean(given), kept, "{given:?}");
        }
        let long = clean(&format!("{}.jpeg", "ä".repeat(10_000)));
        assert!(long.len() <= LONGEST && long.ends_with("ä.jpeg"), "{long}");
        assert_eq!(clean(&"x".repeat(10_000)).len(), LONGEST);
    }

    #[test]
    fn another_type_has_another_ending() {
        for (name, kept) in [
            ("a.b.webp", "a.b.jpg"),
            ("a", "a.jpg"),
            ("a.html", "a.jpg"),
            ("a.jpg.exe", "a.jpg.jpg"),
            ("a.JPEG", "a.JPEG"),
            ("a.jpg", "a.jpg"),
        ] {
            assert_eq!(&*ending_as_one_of(name, &["jpg", "jpeg"]), kept, "{name}");
        }
        let long = ending_as_one_of(&"x".repeat(255), &["png"]);
        assert!(long.len() <= LONGEST && long.ends_with("x.png"), "{long}");
    }

    #[test]
    fn a_header_holds_any_name() {
        assert_eq!(
            disposition(false, "a \"b\" ä%.txt"),
            "attachment; filename=\"a _b_ __.txt\"; filename*=UTF-8''a%20%22b%22%20%C3%A4%25.txt"
        );
        assert!(disposition(true, "a").starts_with("inline; "));
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_one_name(given in any::<String>()) {
            let name = clean(&given);
            prop_assert!(!name.is_empty() && name.len() <= LONGEST);
            let path = name.contains(['/', '\\', '\0', '\r', '\n', '\u{202e}']) || matches!(&*name, "." | "..");
            prop_assert!(!path, "{}", name);
            prop_assert_eq!(&clean(&name), &name, "once is enough");
            let header = disposition(false, &name);
            prop_assert!(header.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", header);
            prop_assert_eq!(header.matches('"').count(), 2);
        }
    }
}
