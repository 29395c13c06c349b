//! Patterns of `--only`. For the runners, which choose checks by identifier.

/// True where `pattern` fits the whole of `text`; `*` stands for any run of characters,
/// `?` for one. A pattern without either fits also whatever it is a dotted prefix of.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return text == pattern
            || text
                .strip_prefix(pattern)
                .is_some_and(|rest| rest.starts_with('.'));
    }
    fits(pattern.as_bytes(), text.as_bytes())
}

/// Matching with one point of return, the last `*`, which suffices because a later
/// star may always take over from an earlier one.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        if at < pattern.len() && pattern[at] == b'*' {
            star = Some((at, from));
            at += 1;
        } else if at < pattern.len() && (pattern[at] == b'?' || pattern[at] == text[from]) {
            at += 1;
            from += 1;
        } else if let Some((star_at, star_from)) = star {
            at = star_at + 1;
            from = star_from + 1;
            star = Some((star_at, from));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_choose_identifiers() {
        for (pattern, text, fits) in [
            ("pull.*", "pull.blob.range.suffix", true),
            ("*.range.*", "pull.blob.range.suffix", true),
            ("pull.blob", "pull.blob.range.suffix", true),
            ("pull.blo", "pull.blob.range.suffix", false),
            ("pull.blob.range.suffix", "pull.blob.range.suffix", true),
            ("pu?l.*suffix", "pull.blob.range.suffix", true),
            ("push.*", "pull.blob.range.suffix", false),
            ("*", "", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbxc", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
