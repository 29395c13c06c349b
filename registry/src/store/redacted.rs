//! What a cloud's client says when it fails, fit for a log: without the query of any URL, whoever
//! is named before its host, and the documents that services answer with, which may repeat
//! headers that were sent. Called where errors of backends come in.

use object_store::Error;

/// More than this of a message helps nobody.
const LENGTH_MAX: usize = 600;

/// Returns the error with its causes replaced by one text that holds no secret. Errors of the
/// local file system stay as they are.
pub(crate) fn redacted(error: Error) -> Error {
    match error {
        Error::Generic { store, source } if store.starts_with("Local") => {
            Error::Generic { store, source }
        }
        Error::Generic { store, source } => Error::Generic {
            store,
            source: clean(&*source).into(),
        },
        Error::NotFound { path, source } => Error::NotFound {
            path,
            source: clean(&*source).into(),
        },
        Error::AlreadyExists { path, source } => Error::AlreadyExists {
            path,
            source: clean(&*source).into(),
        },
        Error::Precondition { path, source } => Error::Precondition {
            path,
            source: clean(&*source).into(),
        },
        Error::NotModified { path, source } => Error::NotModified {
            path,
            source: clean(&*source).into(),
        },
        Error::PermissionDenied { path, source } => Error::PermissionDenied {
            path,
            source: clean(&*source).into(),
        },
        Error::Unauthenticated { path, source } => Error::Unauthenticated {
            path,
            source: clean(&*source).into(),
        },
        Error::NotSupported { source } => Error::NotSupported {
            source: clean(&*source).into(),
        },
        other => other,
    }
}

/// Returns what the error and its causes say, each thing once.
fn clean(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let mut text = without_secrets(&text);
    if text.len() > LENGTH_MAX {
        let end = text.floor_char_boundary(LENGTH_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn without_secrets(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in without_documents(text).split_whitespace() {
        words.push(match word.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{}", without_query(rest)),
            None => word.to_owned(),
        });
    }
    words.join(" ")
}

/// Takes the part of a URL behind its scheme.
fn without_query(rest: &str) -> &str {
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let rest = &rest[..end];
    let host = rest.find('/').unwrap_or(rest.len());
    match rest[..host].rfind('@') {
        Some(user) => &rest[user + 1..],
        None => rest,
    }
}

/// Keeps of an XML document its code and the first line of its message.
fn without_documents(text: &str) -> String {
    let Some(start) = text.find("<?xml").or_else(|| text.find("<Error")) else {
        return text.to_owned();
    };
    let (before, document) = text.split_at(start);
    let element = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        let (content, _) = rest.split_once(&format!("</{name}>"))?;
        content.lines().next()
    };
    let said: Vec<&str> = [element("Code"), element("Message")]
        .into_iter()
        .flatten()
        .collect();
    format!("{before}{}", said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_queries_and_users_are_left_out() {
        let text = "Error performing PUT https://user:hidden@acme.example/c/k?sv=1&sig=hidden in 1ms - Server returned \
            non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
            <Message>The signature does not match\nhidden</Message><CanonicalRequest>x-amz-security-token:hidden</CanonicalRequest></Error>";
        let error = Error::PermissionDenied {
            path: "k".to_owned(),
            source: text.into(),
        };
        let shown = format!("{:?}", redacted(error));
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("https://acme.example/c/k in 1ms"), "{shown}");
        assert!(
            shown.contains("403 Forbidden: SignatureDoesNotMatch, The signature does not match"),
            "{shown}"
        );
    }

    #[test]
    fn long_messages_are_cut() {
        let error = Error::Generic {
            store: "S3",
            source: "ü".repeat(1000).into(),
        };
        assert!(redacted(error).to_string().len() < LENGTH_MAX + 50);
    }
}
