//! The extension `_oci`, which tells which extensions there are: `extensions/_oci.md`.

use http::Method;
use serde_json::Value;

use crate::check::{Verdict, checks};
use crate::reply::Reply;
use crate::scope::Scope;

checks! {
    "extensions/_oci.md" {
        May V1_1_1 "extensions.discover.registry" registry:
            "extensions of the registry are told at `/v2/_oci/ext/discover`";
        Must V1_1_1 "extensions.discover.form" form:
            "each extension has name, url and endpoints";
        May V1_1_1 "extensions.discover.repository" repository:
            "extensions of a repository are told at `/v2/<name>/_oci/ext/discover`";
    }
    "extensions/README.md" {
        Must V1_1_1 "extensions.discover.names" names:
            "names of extensions follow the grammar";
        Must Practice "extensions.discover.unknown" unknown:
            "an unknown extension is refused, not an error of the server";
    }
}

async fn ask(scope: &Scope) -> Verdict<Reply> {
    let reply = scope
        .registry
        .request(Method::GET, "/v2/_oci/ext/discover")
        .send()
        .await?;
    reply.skip_unless(&[200], "telling extensions")?;
    Ok(reply)
}

fn list(reply: &Reply) -> Verdict<Vec<Value>> {
    match &reply.json()?["extensions"] {
        Value::Array(extensions) => Ok(extensions.clone()),
        _ => Err(reply.fail("`extensions` as a list")),
    }
}

async fn registry(scope: Scope) -> Verdict {
    list(&ask(&scope).await?).map(drop)
}

fn well_formed(reply: &Reply) -> Verdict {
    for extension in list(reply)? {
        let endpoints = extension["endpoints"].as_array();
        let good = extension["name"].is_string()
            && extension["url"].is_string()
            && endpoints.is_some_and(|all| all.iter().all(Value::is_string))
            && matches!(extension.get("description"), None | Some(Value::String(_)));
        if !good {
            return Err(reply.fail("`name`, `url` and `endpoints` of each extension"));
        }
    }
    Ok(())
}

async fn form(scope: Scope) -> Verdict {
    well_formed(&ask(&scope).await?)
}

async fn repository(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let reply = repository
        .request(Method::GET, "_oci/ext/discover")
        .send()
        .await?;
    reply.skip_unless(&[200], "telling extensions of a repository")?;
    well_formed(&reply)
}

async fn names(scope: Scope) -> Verdict {
    let reply = ask(&scope).await?;
    for extension in list(&reply)? {
        if !is_name(extension["name"].as_str().unwrap_or_default()) {
            return Err(reply.fail("names as `_extension`"));
        }
    }
    Ok(())
}

/// An underscore and words of `[a-z0-9]` with one of `._-` between them. (The expression in
/// the text asks for at least one separator, which its own `_oci` does not have.)
fn is_name(name: &str) -> bool {
    name.strip_prefix('_').is_some_and(|rest| {
        rest.split(['.', '_', '-']).all(|word| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
    })
}

async fn unknown(scope: Scope) -> Verdict {
    let reply = scope
        .registry
        .request(Method::GET, "/v2/_unheard/thing/module")
        .send()
        .await?;
    reply.status(&[400, 404, 405])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_follow_the_grammar() {
        for (name, good) in [
            ("_oci", true),
            ("_a.b-c", true),
            ("oci", false),
            ("_Oci", false),
            ("_", false),
            ("_a..b", false),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }
}
