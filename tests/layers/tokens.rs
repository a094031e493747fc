//! Rust source as a sequence of words and signs: comments, literals and lifetimes are left out.

/// A word or a sign, and the line that it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// The tokens of a source. `::` is one sign; all others have one character.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = next(rest, first);
        let (text, after) = rest.split_at(length);
        if is_token {
            found.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// How long the next piece of the source is, and whether it is a token.
fn next(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if let Some(length) = raw_string(rest) {
        return (length, false);
    }
    match first {
        '"' => (quoted(rest, '"'), false),
        '\'' if is_character(rest) => (quoted(rest, '\''), false),
        '\'' => (1 + word(&rest[1..]), false),
        _ if rest.starts_with("::") => (2, true),
        _ if is_of_word(first) => {
            let length = word(rest);
            // The prefix of a string or a character; that of a raw identifier is passed over as if it were a number.
            let is_prefix = rest[length..].starts_with(['"', '\'', '#'])
                && matches!(&rest[..length], "b" | "c" | "r" | "br" | "cr");
            (length, !is_prefix && !first.is_ascii_digit())
        }
        _ => (first.len_utf8(), !first.is_whitespace()),
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(rest: &str) -> usize {
    rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())
}

/// Comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| rest.starts_with(*prefix))?;
    let hashes = rest[prefix.len()..]
        .chars()
        .take_while(|c| *c == '#')
        .count();
    let start = prefix.len() + hashes;
    if !rest[start..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = &rest[start + 1..];
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(start + 1 + length)
}

/// A character in quotes, and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut inside = rest[1..].chars();
    match inside.next() {
        Some('\\') => true,
        Some(_) => inside.next() == Some('\''),
        None => false,
    }
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn words_and_signs_are_found_and_nothing_else() {
    let source = r##"
// a::b in a comment /*
/* and /* nested */ c::d */
use e::f; let g: &'static str = "h::i\" j"; 'k' '\'' b"l" br#"m " n"# r"o" 'p: loop {}
"##;
    let texts: Vec<_> = tokens(source).iter().map(|token| token.text).collect();
    let expected = "use e :: f ; let g : & str = ; : loop { }";
    assert_eq!(texts.join(" "), expected);
    assert!(tokens(source).iter().all(|token| token.line == 4));
}
