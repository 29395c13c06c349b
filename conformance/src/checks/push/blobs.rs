//! "POST then PUT".

use std::collections::BTreeSet;

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::scope::Scope;

checks! {
    "POST then PUT" {
        Must V1_1_1 "push.upload.start" start:
            "POST answers 202 and `Location`";
        Must V1_1_1 "push.upload.session-id" session_id:
            "every session has an address of its own";
        Should V1_1_1 "push.upload.uuid" uuid:
            "the address has a UUID in it";
        Must V1_1_1 "push.blob.put.created" created:
            "PUT of the whole blob answers 201";
        Must V1_1_1 "push.blob.put.location" location:
            "PUT answers `Location`, and the blob is pulled from there";
        Must V1_1_1 "push.blob.put.empty" empty:
            "a blob of no bytes is pushed";
        Must V1_1_1 "push.blob.put.again" again:
            "a blob that is there is pushed again";
        Must V1_1_1 "push.blob.put.two-repositories" two_repositories:
            "one blob is pushed to two repositories";
        Should Practice "push.blob.put.digest-header" digest_header:
            "PUT answers `Docker-Content-Digest`";
        Must Practice "push.blob.put.streamed" streamed:
            "PUT of a body without `Content-Length` is accepted";
        Must Practice "push.blob.put.plain-colon" plain_colon:
            "the colon of a digest in the query may stand as it is";
        Must Practice "push.blob.put.hidden-before" hidden_before:
            "a blob is not pulled before its session is closed";
        Should Practice "push.blob.put.session-ends" session_ends:
            "the session is gone once the blob is there";
    }
    "Layer Upload De-duplication" {
        Must V1_1_1 "push.blob.exists.head" exists:
            "HEAD tells a second client that a blob is there";
    }
}

async fn start(scope: Scope) -> Verdict {
    let reply = scope.repository().post("").send().await?;
    reply.status(&[202])?.location()?;
    Ok(())
}

async fn session_id(scope: Scope) -> Verdict {
    const SESSIONS: usize = 10;
    let mut seen = BTreeSet::new();
    for _ in 0..SESSIONS {
        seen.insert(scope.repository().start().await?.location);
    }
    if seen.len() == SESSIONS {
        return Ok(());
    }
    Err(Stop::fail(
        "POST of ten uploads",
        "ten addresses",
        format!("{}", seen.len()),
    ))
}

async fn uuid(scope: Scope) -> Verdict {
    let reply = scope.repository().post("").send().await?;
    let location = reply.status(&[202])?.location()?;
    if location.split(['/', '?', '&', '=']).any(is_uuid) {
        return Ok(());
    }
    Err(reply.fail("a UUID in the `Location`"))
}

/// `8-4-4-4-12` hexadecimal digits, or the 32 of them without dashes.
fn is_uuid(word: &str) -> bool {
    let digits: String = word.split('-').collect();
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    digits.len() == 32
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && matches!(groups[..], [32] | [8, 4, 4, 4, 12])
}

async fn created(scope: Scope) -> Verdict {
    let blob = Blob::random(1000);
    let upload = scope.repository().start().await?;
    upload.close_with(&blob, None).await?.status(&[201])?;
    Ok(())
}

async fn location(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let upload = repository.start().await?;
    let reply = upload.close_with(&blob, None).await?;
    let location = reply.status(&[201])?.location()?;
    let reply = repository.follow(Method::GET, &location).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn empty(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(0));
    let upload = repository.start().await?;
    upload.close_with(&blob, None).await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(b"")?;
    Ok(())
}

async fn again(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    for _ in 0..2 {
        let upload = repository.start().await?;
        upload.close_with(&blob, None).await?.status(&[201])?;
        let reply = repository.get_blob(&blob.digest).send().await?;
        reply.status(&[200])?.body_is(&blob.bytes)?;
    }
    Ok(())
}

async fn two_repositories(scope: Scope) -> Verdict {
    let blob = Blob::random(1000);
    for repository in [scope.repository(), scope.other("other")] {
        let upload = repository.start().await?;
        upload.close_with(&blob, None).await?.status(&[201])?;
        let reply = repository.get_blob(&blob.digest).send().await?;
        reply.status(&[200])?.body_is(&blob.bytes)?;
    }
    Ok(())
}

async fn digest_header(scope: Scope) -> Verdict {
    let blob = Blob::random(1000);
    let upload = scope.repository().start().await?;
    let reply = upload.close_with(&blob, None).await?;
    reply
        .status(&[201])?
        .header_is("docker-content-digest", &blob.digest)?;
    Ok(())
}

async fn streamed(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100_000));
    let upload = repository.start().await?;
    let reply = upload
        .close(&blob.digest)
        .header("Content-Type", "application/octet-stream")
        .stream(blob.pieces(30_000))
        .send()
        .await?;
    reply.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn plain_colon(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let upload = repository.start().await?;
    let joint = if upload.location.contains('?') {
        '&'
    } else {
        '?'
    };
    let address = format!("{}{joint}digest={}", upload.location, blob.digest);
    let reply = repository
        .follow(Method::PUT, &address)
        .header("Content-Type", "application/octet-stream")
        .body(blob.bytes.clone())
        .send()
        .await?;
    reply.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn hidden_before(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let mut upload = repository.start().await?;
    upload.append(0, blob.bytes.clone()).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[404])?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn session_ends(scope: Scope) -> Verdict {
    let blob = Blob::random(1000);
    let upload = scope.repository().start().await?;
    upload.close_with(&blob, None).await?.status(&[201])?;
    upload.status().await?.status(&[404])?;
    Ok(())
}

async fn exists(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[404])?;
    repository.push(&blob).await?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[200])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_uuid;

    #[test]
    fn uuids_are_told_from_other_words() {
        assert!(is_uuid("0b7e9c4c-3a39-4f0e-9a0f-0123456789ab"));
        assert!(is_uuid("0b7e9c4c3a394f0e9a0f0123456789ab"));
        assert!(!is_uuid("0b7e9c4c-3a39-4f0e-9a0f-0123456789"));
        assert!(!is_uuid("uploads"));
    }
}
