//! Patterns in manifests: `*` stands for any characters, `?` for one, and nothing else is special.

/// Whether `pattern` matches the whole of `text`: `*` any characters, `?` one.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on if this does not work out: behind the last star, one character further.
    let mut again = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                again = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = again else {
                    return false;
                };
                again = Some((star, from + 1));
                (p, t) = (star, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The pattern for a regular expression that must match the whole text. Of what is special in those, only `.*` can
/// be said, and a dot by itself, as `?`.
pub(crate) fn of_regex(regex: &str) -> Result<String, String> {
    let cannot = |what: &str| format!("cannot be said as a pattern with * and ? ({what})");
    let mut pattern = String::new();
    let mut rest = regex.strip_prefix('^').unwrap_or(regex);
    rest = rest.strip_suffix('$').unwrap_or(rest);
    let mut chars = rest.chars();
    loop {
        if let Some(after) = chars.as_str().strip_prefix(".*") {
            pattern.push('*');
            chars = after.chars();
            continue;
        }
        match chars.next() {
            None => return Ok(pattern),
            Some('.') => pattern.push('?'),
            Some('\\') => match chars.next() {
                Some(c) if c.is_alphanumeric() || matches!(c, '*' | '?') => {
                    return Err(cannot(&format!("\\{c}")));
                }
                Some(c) => pattern.push(c),
                None => return Err(cannot("a backslash at the end")),
            },
            Some(c @ ('*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$')) => {
                return Err(cannot(&c.to_string()));
            }
            Some(c) => pattern.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_line() {
        for (pattern, text, expected) in [
            ("quiet", "quiet", true),
            ("quiet", "quiet init=/bin/sh", false),
            ("quiet", "not quiet", false),
            ("root=* quiet", "root=UUID=5 ro quiet", true),
            ("root=* quiet", "root=UUID=5 ro quiet init=/bin/sh", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab ab a", false),
            ("é*", "écran", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_quick() {
        let text = "a".repeat(4096);
        assert!(!matches(
            &"*a".repeat(500).replace("aa", "a*a"),
            &(text.clone() + "b")
        ));
        assert!(matches(&"*a".repeat(500), &text));
    }
}
