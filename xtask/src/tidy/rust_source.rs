//! Just enough of Rust's grammar to count braces: where comments, strings and characters begin and end.

/// The source with the insides of comments, strings and characters blanked out; lines stay where they are.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// A function's name and the lines from its `fn` to its closing brace; lines count from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// Every function with a body, also nested ones.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    // Functions whose end is not reached yet, with the depth of their body; a signature has none so far.
    let mut open: Vec<(Function, Option<usize>)> = Vec::new();
    let (mut depth, mut line, mut brackets) = (0_usize, 1, 0_usize);
    let mut previous = "";
    for token in tokens(code) {
        match token {
            "\n" => line += 1,
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            "{" => {
                depth += 1;
                if let Some((_, body @ None)) = open.last_mut()
                    && brackets == 0
                {
                    *body = Some(depth);
                }
            }
            "}" => {
                if open.last().is_some_and(|(_, body)| *body == Some(depth))
                    && let Some((function, _)) = open.pop()
                {
                    found.push(Function { lines: line - function.line + 1, ..function });
                }
                depth = depth.saturating_sub(1);
            }
            // A trait's method without a body.
            ";" if brackets == 0 => {
                open.pop_if(|(_, body)| body.is_none());
            }
            name if previous == "fn" && name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                // Bodies inside brackets (a closure in an argument) count their own.
                brackets = 0;
                open.push((Function { name: name.to_owned(), line, lines: 0 }, None));
            }
            _ => {}
        }
        if !token.trim().is_empty() {
            previous = token;
        }
    }
    found
}

/// Words, and everything else as single characters; spaces are left out, line ends are not.
fn tokens(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\r']);
        let first = rest.chars().next()?;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end =
            if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// The end of the comment, string or character that begins at `at`; `at` itself when none does.
fn skip(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied();
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next(1) == Some('/') => until(chars, at, |rest| rest[0] == '\n'),
        '/' if next(1) == Some('*') => block_comment_end(chars, at),
        '"' => string_end(chars, at + 1),
        '\'' => character_end(chars, at),
        'r' | 'b' | 'c' if !in_word => raw_string_end(chars, at).unwrap_or(at),
        _ => at,
    }
}

fn until(chars: &[char], at: usize, ends: impl Fn(&[char]) -> bool) -> usize {
    (at..chars.len()).find(|i| ends(&chars[*i..])).unwrap_or(chars.len())
}

/// They nest (Rust reference, "Comments").
fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut i = at;
    while i < chars.len() {
        match chars.get(i..i + 2) {
            Some(['/', '*']) => (depth, i) = (depth + 1, i + 2),
            Some(['*', '/']) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

fn string_end(chars: &[char], inside: usize) -> usize {
    let mut i = inside;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// A quote may also begin a lifetime, which is code.
fn character_end(chars: &[char], at: usize) -> usize {
    match chars.get(at + 1) {
        Some('\\') => (until(chars, at + 3, |rest| rest[0] == '\'') + 1).min(chars.len()),
        Some(_) if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`: no escapes, and the hashes say where it ends. `None` when it is none of them.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let r = if chars[at] == 'r' { at } else { at + 1 };
    if chars.get(r) != Some(&'r') {
        return None;
    }
    let hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    let quote = r + 1 + hashes;
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let closes =
        |rest: &[char]| rest[0] == '"' && rest[1..].iter().take_while(|c| **c == '#').count() >= hashes;
    Some((until(chars, quote + 1, closes) + 1 + hashes).min(chars.len()))
}
