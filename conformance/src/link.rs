//! Reads the `Link` header of paged lists (RFC 8288, once RFC 5988).
//! For the checks of tag, referrer and catalog pages.

/// The target of the first link whose relation is `next`, as it stands between `<` and `>`.
///
/// Answers `None` where no such link is there or the header is malformed.
pub(crate) fn next(header: &str) -> Option<&str> {
    let mut rest = header.trim_start();
    while let Some(open) = rest.strip_prefix('<') {
        let (target, after) = open.split_once('>')?;
        let (parameters, following) = split_value(after);
        if parameters.into_iter().any(is_next) {
            return Some(target);
        }
        rest = following.trim_start();
    }
    None
}

/// Splits what follows a target into its parameters and the links behind the next comma.
/// Commas and semicolons inside quotes do not count.
fn split_value(text: &str) -> (Vec<&str>, &str) {
    let mut parameters = Vec::new();
    let mut quoted = false;
    let mut start = 0;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ';' if !quoted => {
                parameters.push(&text[start..at]);
                start = at + 1;
            }
            ',' if !quoted => {
                parameters.push(&text[start..at]);
                return (parameters, &text[at + 1..]);
            }
            _ => {}
        }
    }
    parameters.push(&text[start..]);
    (parameters, "")
}

/// True for `rel=next` and `rel="… next …"`; names and relation types ignore case.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("rel")
        && value
            .trim()
            .trim_matches('"')
            .split_ascii_whitespace()
            .any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_next_link_is_found() {
        for (header, target) in [
            (
                "</v2/a/tags/list?n=2&last=b>; rel=\"next\"",
                Some("/v2/a/tags/list?n=2&last=b"),
            ),
            ("<u>;rel=next", Some("u")),
            ("<u>; title=\"a, b; c\"; REL=\"prev NEXT\"", Some("u")),
            ("<a>; rel=\"prev\", <b>; rel=\"next\"", Some("b")),
            ("<a>; rel=\"prev\"", None),
            ("<a>", None),
            ("a; rel=\"next\"", None),
            ("<a; rel=\"next\"", None),
            ("", None),
        ] {
            assert_eq!(next(header), target, "{header}");
        }
    }
}
