//! Reading the log: a page of lines in the order of their times, whoever wrote them. Called by the
//! endpoint.
//!
//! What is in memory at a time is a page, what overlaps in time, and some objects that are read
//! ahead.

use std::{cmp::Ordering, collections::BinaryHeap};

use deploy_spec::{
    RepositoryName,
    audit::{Entry, Position},
};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::lines;
use crate::store::{AuditObject, Store, StoreError};

const MIB: u64 = 1024 * 1024;
/// Larger objects are none of ours.
const OBJECT_MAX: u64 = 16 * MIB;
/// Objects that are read at the same time.
const READ_AT_ONCE: usize = 8;
/// Bytes that are read for a page at most, more or less: where few lines fit the question, a page
/// is short, even empty, and there is another one behind it.
const PAGE_BYTES: u64 = 32 * MIB;
/// What upkeep puts together meanwhile is looked for anew so often.
const ATTEMPTS: u32 = 5;

/// Which lines are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// Not before this time.
    pub(crate) since: Option<Timestamp>,
    /// Not after this one.
    pub(crate) until: Option<Timestamp>,
    /// Of this repository alone.
    pub(crate) repository: Option<RepositoryName>,
    /// Behind this one.
    pub(crate) after: Option<Position>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// Lines, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) entries: Vec<Entry>,
    /// Behind which line there may be more.
    pub(crate) next: Option<Position>,
}

/// Returns the lines that are asked for. What cannot be understood is passed over.
///
/// # Errors
/// Of the store.
pub(crate) async fn read(store: &Store, question: &Question) -> Result<Answer, StoreError> {
    for _ in 1..ATTEMPTS {
        if let Some(answer) = attempt(store, question, Gone::StartOver).await? {
            return Ok(answer);
        }
    }
    let answer = attempt(store, question, Gone::PassOver).await?;
    Ok(answer.unwrap_or_default())
}

/// What is done about an object that was listed, and is gone: upkeep has put it together with
/// others, or it was too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    StartOver,
    PassOver,
}

/// A line in a heap whose top is the oldest one.
struct Waiting(Position, Entry);

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Waiting {}

/// A page while it is put together.
struct Page<'a> {
    question: &'a Question,
    waiting: BinaryHeap<Waiting>,
    answer: Answer,
    last: Option<Position>,
}

impl Page<'_> {
    /// Takes the lines of an object as far as they are asked for.
    fn take(&mut self, entries: Vec<Entry>) {
        let Question {
            since,
            until,
            repository,
            after,
            ..
        } = self.question;
        let repository = repository.as_ref().map(RepositoryName::as_str);
        for entry in entries {
            let position = entry.position();
            let fits = since.is_none_or(|since| entry.time >= since)
                && until.is_none_or(|until| entry.time <= until)
                && (after.as_ref()).is_none_or(|after| position > *after)
                && (repository.is_none() || entry.repository.as_deref() == repository);
            if fits {
                self.waiting.push(Waiting(position, entry));
            }
        }
    }

    /// Moves lines to the answer that are older than what comes; false where the page is full.
    fn settle(&mut self, before: Option<Timestamp>) -> bool {
        while let Some(Waiting(position, _)) = self.waiting.peek()
            && before.is_none_or(|before| position.time < before)
        {
            // Where upkeep broke off, a line is there twice.
            let is_twice = self.last.as_ref() == Some(position);
            if !is_twice && self.answer.entries.len() >= self.question.limit {
                self.answer.next.clone_from(&self.last);
                return false;
            }
            if let Some(Waiting(position, entry)) = self.waiting.pop()
                && !is_twice
            {
                self.answer.entries.push(entry);
                self.last = Some(position);
            }
        }
        true
    }
}

async fn attempt(
    store: &Store,
    question: &Question,
    gone: Gone,
) -> Result<Option<Answer>, StoreError> {
    if question.limit == 0 {
        return Ok(Some(Answer::default()));
    }
    let start = question.after.as_ref().map(|after| after.time);
    let start = start.max(question.since);
    let is_over = |object: &AuditObject| question.until.is_some_and(|until| object.first > until);
    let is_asked_for = |object: &AuditObject| start.is_none_or(|start| object.last >= start);
    let objects = store
        .audit_objects(start)
        .try_take_while(|object| std::future::ready(Ok(!is_over(object))))
        .try_filter(|object| std::future::ready(is_asked_for(object)))
        .map(|object| async {
            let object = object?;
            let bytes = match object.size {
                1..=OBJECT_MAX => store.read_audit(&object).await?,
                _ => Some(bytes::Bytes::new()),
            };
            Ok::<_, StoreError>((object, bytes))
        })
        .buffered(READ_AT_ONCE);
    let mut objects = std::pin::pin!(objects);
    let mut page = Page {
        question,
        waiting: BinaryHeap::new(),
        answer: Answer::default(),
        last: question.after.clone(),
    };
    let mut read = 0;
    while let Some((object, bytes)) = objects.try_next().await? {
        if !page.settle(Some(object.first)) {
            return Ok(Some(page.answer));
        }
        if read > PAGE_BYTES && start.is_none_or(|start| object.first > start) {
            page.answer.next = Some(Position {
                time: object.first,
                id: String::new(),
            });
            return Ok(Some(page.answer));
        }
        let bytes = match (bytes, gone) {
            (Some(bytes), _) => bytes,
            (None, Gone::StartOver) => return Ok(None),
            (None, Gone::PassOver) => continue,
        };
        read += object.size;
        let (entries, sound) = lines::parse(&bytes);
        if !sound || entries.is_empty() {
            tracing::warn!(object = %object.name(), "a part of the audit log cannot be understood");
        }
        page.take(entries);
    }
    page.settle(None);
    Ok(Some(page.answer))
}
