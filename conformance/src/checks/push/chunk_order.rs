//! Chunks out of order: refused with 416 wherever they come, and the session goes on.

use crate::check::{Verdict, checks};
use crate::content::Blob;
use crate::scope::{Repository, Scope};
use crate::upload::Upload;

checks! {
    "Pushing a blob in chunks" {
        Must V1_1_1 "push.chunk.order.first" first:
            "a first chunk that does not begin at 0 is 416";
        Must V1_1_1 "push.chunk.order.gap" gap:
            "a chunk that leaves a gap is 416";
        Must V1_1_1 "push.chunk.order.overlap" overlap:
            "a chunk that overlaps the last one is 416";
        Must V1_1_1 "push.chunk.order.repeated" repeated:
            "a chunk that comes again is 416";
        Must V1_1_1 "push.chunk.order.session-survives" survives:
            "after a 416 the status is as before and the upload can be finished";
        Must Main "push.chunk.order.put-gap" put_gap:
            "a last chunk in the closing PUT that leaves a gap is 416";
        Must Main "push.chunk.order.put-overlap" put_overlap:
            "a last chunk in the closing PUT that overlaps is 416";
        Must Main "push.chunk.order.put-session-survives" put_survives:
            "after a 416 to the closing PUT the upload can be finished";
    }
    "Error Codes" {
        Should V1_1_1 "push.chunk.order.code" code:
            "a chunk out of order is `BLOB_UPLOAD_INVALID` or `SIZE_INVALID`";
    }
}

/// A session with one of three chunks uploaded.
struct Begun {
    repository: Repository,
    upload: Upload,
    blob: Blob,
    chunk: usize,
}

async fn begun(scope: &Scope) -> Verdict<Begun> {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(1000);
    let blob = Blob::random(3 * chunk);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    Ok(Begun {
        repository,
        upload,
        blob,
        chunk,
    })
}

impl Begun {
    /// PATCH of the bytes from `start` to before `end`.
    async fn patch(&self, start: usize, end: usize) -> Verdict<crate::reply::Reply> {
        let bytes = self.blob.bytes.slice(start..end);
        self.upload
            .patch(&format!("{start}-{}", end - 1), bytes)
            .send()
            .await
    }

    /// Holds that the session is as before and finishes it.
    async fn finish(mut self) -> Verdict {
        let chunk = self.chunk;
        let status = self.upload.status().await?;
        status
            .status(&[204])?
            .header_is("range", &format!("0-{}", chunk - 1))?;
        self.upload.location = status.location()?;
        for start in [chunk, 2 * chunk] {
            let bytes = self.blob.bytes.slice(start..start + chunk);
            self.upload.append(start, bytes).await?;
        }
        let reply = self.upload.close(&self.blob.digest).send().await?;
        reply.status(&[201])?;
        let reply = self.repository.get_blob(&self.blob.digest).send().await?;
        reply.status(&[200])?.body_is(&self.blob.bytes)?;
        Ok(())
    }
}

async fn first(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let chunk = upload.chunk(1000);
    let blob = Blob::random(2 * chunk);
    let range = format!("{chunk}-{}", 2 * chunk - 1);
    let reply = upload
        .patch(&range, blob.bytes.slice(chunk..))
        .send()
        .await?;
    reply.status(&[416])?;
    Ok(())
}

async fn gap(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    begun.patch(2 * chunk, 3 * chunk).await?.status(&[416])?;
    Ok(())
}

async fn overlap(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    let reply = begun.patch(chunk / 2, chunk / 2 + chunk).await?;
    reply.status(&[416])?;
    Ok(())
}

async fn repeated(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    begun.patch(0, begun.chunk).await?.status(&[416])?;
    Ok(())
}

async fn survives(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    for (start, end) in [(2 * chunk, 3 * chunk), (chunk / 2, chunk), (0, chunk)] {
        begun.patch(start, end).await?.status(&[416])?;
    }
    begun.finish().await
}

async fn put_gap(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    let reply = begun
        .upload
        .close_with(&begun.blob, Some((2 * chunk, 3 * chunk)))
        .await?;
    reply.status(&[416])?;
    Ok(())
}

async fn put_overlap(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    let reply = begun
        .upload
        .close_with(&begun.blob, Some((chunk / 2, 3 * chunk)))
        .await?;
    reply.status(&[416])?;
    Ok(())
}

async fn put_survives(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    let reply = begun
        .upload
        .close_with(&begun.blob, Some((2 * chunk, 3 * chunk)))
        .await?;
    reply.status(&[416])?;
    begun.finish().await
}

async fn code(scope: Scope) -> Verdict {
    let begun = begun(&scope).await?;
    let chunk = begun.chunk;
    let reply = begun.patch(2 * chunk, 3 * chunk).await?;
    reply
        .status(&[416])?
        .error_is(&["BLOB_UPLOAD_INVALID", "SIZE_INVALID"])?;
    Ok(())
}
