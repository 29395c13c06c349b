//! Names of repositories and tags: the two regular expressions of "Pulling manifests".

use crate::check::{Verdict, checks};
use crate::content::Manifest;
use crate::scope::Scope;

checks! {
    "Pulling manifests" {
        Must V1_1_1 "push.name.accepted" names_accepted:
            "every form of repository name that the grammar allows is accepted";
        Should V1_1_1 "push.name.long" name_long:
            "a repository name of 200 characters is accepted";
        Must V1_1_1 "push.name.refused" names_refused:
            "a repository name outside the grammar is refused";
        Must V1_1_1 "push.tag.accepted" tags_accepted:
            "every form of tag that the grammar allows is accepted";
        Must V1_1_1 "push.tag.refused" tags_refused:
            "a tag outside the grammar is refused";
    }
    "Error Codes" {
        Should V1_1_1 "push.name.refused-code" names_refused_code:
            "a repository name outside the grammar is 400 `NAME_INVALID`";
        Should V1_1_1 "push.tag.refused-code" tags_refused_code:
            "a tag outside the grammar is 400 with an error of the list";
    }
}

/// Names that break the grammar in one place each, and survive being put into an address.
const MALFORMED: [&str; 8] = ["Upper", "a..b", "a___b", "-a", "a-", "_a", "a.", "a_-b"];

async fn names_accepted(scope: Scope) -> Verdict {
    let parent = scope.repository().name;
    for name in [
        "a",
        "0",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a----b",
        "a/b/c/d/e/f",
        "a.b-c/0__9",
    ] {
        let repository = scope.named(&format!("{parent}/{name}"));
        let manifest = repository.tagged("v1").await?;
        let reply = repository.get_manifest("v1").send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn name_long(scope: Scope) -> Verdict {
    let mut name = scope.repository().name;
    name.push('/');
    name.push_str(&"a".repeat(200_usize.saturating_sub(name.len())));
    let repository = scope.named(&name);
    let reply = repository.post("").send().await?;
    reply.status(&[202])?;
    Ok(())
}

async fn names_refused(scope: Scope) -> Verdict {
    let parent = scope.repository().name;
    for name in MALFORMED {
        let repository = scope.named(&format!("{parent}/{name}"));
        let reply = repository.post("").send().await?;
        reply.status(&[400, 404, 405])?;
        let reply = repository.get_manifest("v1").send().await?;
        reply.status(&[400, 404, 405])?;
    }
    Ok(())
}

async fn names_refused_code(scope: Scope) -> Verdict {
    let parent = scope.repository().name;
    let repository = scope.named(&format!("{parent}/Upper"));
    let reply = repository.post("").send().await?;
    reply.status(&[400])?.error_is(&["NAME_INVALID"])?;
    Ok(())
}

async fn tags_accepted(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let longest = "t".repeat(128);
    for tag in [
        "a", "0", "_a", "A", "a.b-c_d", "v1.2.3", "a--b", "a..b", &longest,
    ] {
        let reply = repository.put(tag, &manifest).send().await?;
        reply.status(&[201])?;
        let reply = repository.get_manifest(tag).send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn tags_refused(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("good").await?;
    let too_long = "t".repeat(129);
    for tag in [".a", "-a", "a+b", "a%20b", "a@b", "%C3%A4", &too_long] {
        let reply = repository.put(tag, &manifest).send().await?;
        reply.status(&[400, 404, 405])?;
    }
    let reply = repository.tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == serde_json::json!(["good"]) {
        return Ok(());
    }
    Err(reply.fail("only the tag `good`"))
}

async fn tags_refused_code(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("good").await?;
    let reply = repository.put("-a", &manifest).send().await?;
    reply.status(&[400])?.error_is(&[
        "MANIFEST_INVALID",
        "TAG_INVALID",
        "NAME_INVALID",
        "UNSUPPORTED",
    ])?;
    Ok(())
}
