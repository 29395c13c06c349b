//! "Listing Referrers" with a filter.

use serde_json::json;

use super::referrers::{KIND, OTHER_KIND, artifact, descriptors, is_empty, offered, prepared, put};
use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Manifest};
use crate::reply::Reply;
use crate::scope::Scope;

checks! {
    "Listing Referrers" {
        Should V1_1_1 "discovery.referrers.filter" filter:
            "`artifactType` filters";
        Must V1_1_1 "discovery.referrers.filter-header" filter_header:
            "a filter that was applied is named in `OCI-Filters-Applied`";
        Must V1_1_1 "discovery.referrers.filter-none" filter_none:
            "a filter that nothing fits answers an empty list";
        Must V1_1_1 "discovery.referrers.filter-config" filter_config:
            "a filter looks at the type that stands in the list";
        Must V1_1_1 "discovery.referrers.filter-absent" filter_absent:
            "without a filter `OCI-Filters-Applied` is left out";
    }
}

/// Two referrers of different types, and the answer to a filter.
async fn filtered(scope: &Scope, kind: &str) -> Verdict<(Manifest, Reply)> {
    let (repository, subject, referrer) = prepared(scope).await?;
    let other = artifact(&repository, &subject, OTHER_KIND, json!({"k": "v"})).await?;
    put(&repository, &other).await?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("artifactType", kind)
        .finish();
    let reply = offered(&repository, &subject.digest, &format!("?{query}")).await?;
    if reply.header("oci-filters-applied").is_none() && descriptors(&reply)?.len() == 2 {
        return Err(Stop::skip("SHOULD not followed: filtering is not offered"));
    }
    Ok((referrer, reply))
}

async fn filter(scope: Scope) -> Verdict {
    let (referrer, reply) = filtered(&scope, KIND).await?;
    match &descriptors(&reply)?[..] {
        [one] if one["digest"] == json!(referrer.digest) => Ok(()),
        _ => Err(reply.fail(format!("only {}", referrer.digest))),
    }
}

async fn filter_header(scope: Scope) -> Verdict {
    let (_, reply) = filtered(&scope, KIND).await?;
    let value = reply.required("oci-filters-applied")?;
    if value.split(',').any(|name| name.trim() == "artifactType") {
        return Ok(());
    }
    Err(reply.fail("`OCI-Filters-Applied: artifactType`"))
}

async fn filter_none(scope: Scope) -> Verdict {
    let (_, reply) = filtered(&scope, "application/vnd.example.unheard").await?;
    is_empty(&reply)
}

async fn filter_config(scope: Scope) -> Verdict {
    let (_, reply) = filtered(&scope, content::IMAGE_CONFIG).await?;
    is_empty(&reply)?;
    let second = Scope::new(scope.registry.clone(), scope.other("config").name);
    let repository = second.repository();
    let subject = repository.tagged("subject").await?;
    let mut image = repository.image().await?;
    image["subject"] = subject.descriptor();
    put(&repository, &Manifest::of(&image)).await?;
    let query = format!(
        "?artifactType={}",
        content::IMAGE_CONFIG.replace('+', "%2B")
    );
    let reply = offered(&repository, &subject.digest, &query).await?;
    match descriptors(&reply)?.len() {
        1 => Ok(()),
        _ => Err(reply.fail("the image, whose config is of that type")),
    }
}

async fn filter_absent(scope: Scope) -> Verdict {
    let (repository, subject, _) = prepared(&scope).await?;
    let reply = offered(&repository, &subject.digest, "").await?;
    reply.header_absent("oci-filters-applied")?;
    Ok(())
}
