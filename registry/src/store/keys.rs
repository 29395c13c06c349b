//! The storage layout: the one place that turns digests, repositories, tags and sessions into
//! object keys, and keys of listings back into names. Called by the rest of `store`; nothing
//! else spells a key.
//!
//! No two of these trees can meet: what belongs to the registry inside a repository begins
//! with an underscore, and no path component of a repository's name may.

use deploy_spec::{Algorithm, Digest, RepositoryName, Tag};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use object_store::path::Path;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::upload_id::UploadId;

/// Names the bytes of one blob, at random: they are written while their digest is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct DataId(String);

impl DataId {
    /// Returns a name that was never given out: 128 random bits.
    pub(crate) fn random() -> Self {
        Self(format!("{:032x}", rand::rng().random::<u128>()))
    }

    /// Returns the key of the bytes. The first digits are a directory of their own, so that
    /// no directory grows with the registry.
    pub(crate) fn key(&self) -> Path {
        // The name comes back from a record: a damaged one must not panic here.
        let split = if self.0.is_char_boundary(2) { 2 } else { 0 };
        let (shard, rest) = self.0.split_at(split);
        Path::from(format!("data/{shard}/{rest}"))
    }
}

fn key(text: String) -> Path {
    Path::parse(text).expect("names and digests hold no character that a key may not")
}

/// Returns the key of the record that publishes a blob.
pub(crate) fn blob(digest: &Digest) -> Path {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    key(format!("blobs/{algorithm}/{}/{hex}", &hex[..2]))
}

/// Returns the key of the marker that makes a blob a member of a repository.
pub(crate) fn member(repository: &RepositoryName, digest: &Digest) -> Path {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    key(format!("repos/{repository}/_blobs/{algorithm}/{hex}"))
}

/// Returns the key of a manifest.
pub(crate) fn manifest(repository: &RepositoryName, digest: &Digest) -> Path {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    key(format!("repos/{repository}/_manifests/{algorithm}/{hex}"))
}

/// Returns the prefix of all manifests of a repository.
pub(crate) fn manifests(repository: &RepositoryName) -> Path {
    key(format!("repos/{repository}/_manifests"))
}

/// Returns the key of a tag.
pub(crate) fn tag(repository: &RepositoryName, tag: &Tag) -> Path {
    key(format!("repos/{repository}/_tags/{tag}"))
}

/// Returns the prefix of all tags of a repository.
pub(crate) fn tags(repository: &RepositoryName) -> Path {
    key(format!("repos/{repository}/_tags"))
}

/// Returns the tag with this key, below [`tags`]; nothing for what is no tag.
pub(crate) fn tag_of(key: &Path) -> Option<Tag> {
    key.filename()?.parse().ok()
}

/// Returns the key of the marker that says: `digest` refers to `subject`.
pub(crate) fn referrer(repository: &RepositoryName, subject: &Digest, digest: &Digest) -> Path {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    key(format!(
        "{}/{algorithm}/{hex}",
        referrers(repository, subject)
    ))
}

/// Returns the prefix of all referrers of a manifest.
pub(crate) fn referrers(repository: &RepositoryName, subject: &Digest) -> Path {
    let (algorithm, hex) = (subject.algorithm(), subject.hex());
    key(format!("repos/{repository}/_referrers/{algorithm}/{hex}"))
}

/// Returns the digest that the last two parts of a key spell; nothing for other keys.
pub(crate) fn digest_of(key: &Path) -> Option<Digest> {
    let mut parts = key.as_ref().rsplit('/');
    let hex = parts.next()?;
    let algorithm: Algorithm = parts.next()?.parse().ok()?;
    Digest::from_hex(algorithm, hex).ok()
}

/// Returns the prefix of all referrers in a repository.
pub(crate) fn all_referrers(repository: &RepositoryName) -> Path {
    key(format!("repos/{repository}/_referrers"))
}

/// Returns subject and digest of a referrer's marker.
pub(crate) fn referrer_of(key: &Path) -> Option<(Digest, Digest)> {
    let (rest, _) = key.as_ref().rsplit_once('/')?;
    let (subject, _) = rest.rsplit_once('/')?;
    Some((digest_of(&Path::parse(subject).ok()?)?, digest_of(key)?))
}

/// Returns the prefix of everything that belongs to a repository.
pub(crate) fn repositories() -> Path {
    key("repos".to_owned())
}

/// Returns the repository that a key below [`repositories`] belongs to. All keys of one
/// repository follow each other in a listing: they alone begin with its name and `/_`.
pub(crate) fn owner_of(key: &Path) -> Option<RepositoryName> {
    let (name, _) = key.as_ref().strip_prefix("repos/")?.split_once("/_")?;
    name.parse().ok()
}

/// Returns the blob whose marker in a repository this is; nothing for other keys.
pub(crate) fn member_of(key: &Path) -> Option<Digest> {
    let (_, rest) = key.as_ref().split_once("/_")?;
    rest.strip_prefix("blobs/").and_then(|_| digest_of(key))
}

/// Returns the blob that a record below [`blobs`] publishes; nothing for other keys.
pub(crate) fn blob_of(key: &Path) -> Option<Digest> {
    let mut parts = key.as_ref().strip_prefix("blobs/")?.split('/');
    let algorithm: Algorithm = parts.next()?.parse().ok()?;
    let (_shard, hex) = (parts.next()?, parts.next()?);
    Digest::from_hex(algorithm, hex).ok()
}

/// Returns the name of the data with this key, below [`data`].
pub(crate) fn data_of(key: &Path) -> Option<DataId> {
    let (shard, rest) = key.as_ref().strip_prefix("data/")?.split_once('/')?;
    Some(DataId(format!("{shard}{rest}")))
}

/// Returns repository and digest of a manifest's key; nothing for other keys.
pub(crate) fn manifest_of(key: &Path) -> Option<(RepositoryName, Digest)> {
    let (name, rest) = key.as_ref().strip_prefix("repos/")?.split_once("/_")?;
    rest.strip_prefix("manifests/")?;
    Some((name.parse().ok()?, digest_of(key)?))
}

/// Returns the prefix of all records that publish blobs.
pub(crate) fn blobs() -> Path {
    key("blobs".to_owned())
}

/// Returns the prefix of the bytes of large blobs.
pub(crate) fn data() -> Path {
    key("data".to_owned())
}

/// Returns the key of what one kind of upkeep remembers.
pub(crate) fn upkeep(kind: &'static str) -> Path {
    key(format!("upkeep/{kind}"))
}

/// Returns a new key for something that is set aside.
pub(crate) fn quarantined(digest: &Digest) -> Path {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    let number = rand::rng().random::<u32>();
    key(format!("quarantine/{algorithm}/{hex}-{number:08x}"))
}

/// Returns the prefix of all that is set aside.
pub(crate) fn quarantine() -> Path {
    key("quarantine".to_owned())
}

/// Returns the key of an upload's session.
pub(crate) fn upload(id: &UploadId) -> Path {
    key(format!("uploads/{id}"))
}

/// Returns the prefix of all sessions.
pub(crate) fn uploads() -> Path {
    key("uploads".to_owned())
}

/// Returns the session with this key, below [`uploads`]; nothing for what is none.
pub(crate) fn upload_of(key: &Path) -> Option<UploadId> {
    key.filename()?.parse().ok()
}

/// Returns the key that enters a repository into the catalog.
///
/// A repository's name must become one part of a key, and keys must sort as names do, so that
/// a page of the catalog is a listing from an offset. `/` cannot stay: each of `-`, `.`, `/`
/// moves one place down in ASCII, and `+`, which no name holds, takes the lowest.
pub(crate) fn catalog(repository: &RepositoryName) -> Path {
    let entry: String = repository.as_str().chars().map(escape).collect();
    key(format!("catalog/{entry}"))
}

/// Returns the prefix of the catalog.
pub(crate) fn catalog_entries() -> Path {
    key("catalog".to_owned())
}

/// Returns the repository with this key, below [`catalog_entries`].
pub(crate) fn repository_of(key: &Path) -> Option<RepositoryName> {
    let name: String = key.filename()?.chars().map(unescape).collect();
    name.parse().ok()
}

/// How times are spelled in keys: microseconds, as wide whatever they are, so that they sort.
const TIME: &str = "%Y%m%dT%H%M%S.%6f";

/// Returns a new key for lines of the audit log, the first and the last of which were written at
/// these times. Keys sort by the first one; a day is a directory.
pub(crate) fn audit(first: Timestamp, last: Timestamp) -> Path {
    let number = rand::rng().random::<u32>();
    let (first, last) = (utc(first), utc(last));
    let (day, first, last) = (
        first.strftime("%Y-%m-%d"),
        first.strftime(TIME),
        last.strftime(TIME),
    );
    key(format!("audit/{day}/{first}-{last}-{number:08x}.jsonl"))
}

/// Returns what stands before all keys of lines from this day on.
pub(crate) fn audit_from(time: Timestamp) -> Path {
    key(format!("audit/{}", utc(time).strftime("%Y-%m-%d")))
}

/// Returns the prefix of the audit log.
pub(crate) fn audits() -> Path {
    key("audit".to_owned())
}

/// Returns when the first and the last line under this key were written, below [`audits`];
/// nothing for other keys.
pub(crate) fn audit_of(key: &Path) -> Option<(Timestamp, Timestamp)> {
    let name = key.filename()?.strip_suffix(".jsonl")?;
    let mut parts = name.split('-');
    let mut time = || {
        let time = DateTime::strptime(TIME, parts.next()?).ok()?;
        Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let (first, last) = (time()?, time()?);
    (first <= last && *key == audit_day(key, first)?).then_some((first, last))
}

/// Returns the key with the directory that it has to have, by its time.
fn audit_day(key: &Path, first: Timestamp) -> Option<Path> {
    let (day, name) = (audit_from(first), key.filename()?);
    Path::parse(format!("{day}/{name}")).ok()
}

/// Returns the key that notes that a nonce is used, which is good until then. Keys sort by that time.
pub(crate) fn nonce(expires: Timestamp, nonce: &str) -> Path {
    let digest = Digest::sha256(nonce.as_bytes());
    let (expires, hex) = (utc(expires).strftime(TIME), digest.hex());
    key(format!("nonces/{expires}-{hex}"))
}

/// Returns the prefix of all nonces that were used.
pub(crate) fn nonces() -> Path {
    key("nonces".to_owned())
}

/// Returns until when the nonce was good that this key notes, below [`nonces`]; nothing for other
/// keys.
pub(crate) fn nonce_of(key: &Path) -> Option<Timestamp> {
    let (expires, _) = key.filename()?.split_once('-')?;
    let expires = DateTime::strptime(TIME, expires).ok()?;
    Some(expires.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn utc(time: Timestamp) -> DateTime {
    time.to_zoned(TimeZone::UTC).datetime()
}

fn escape(letter: char) -> char {
    match letter {
        '-' => '+',
        '.' => '-',
        '/' => '.',
        other => other,
    }
}

fn unescape(letter: char) -> char {
    match letter {
        '+' => '-',
        '-' => '.',
        '.' => '/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repository_name() -> impl Strategy<Value = RepositoryName> {
        // Few letters, so that names often share their beginnings.
        let part = "[ab0]{1,2}((\\.|_|__|-{1,3})[ab0]{1,2}){0,2}";
        prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/").parse().unwrap())
    }

    #[test]
    fn keys_are_the_documented_ones() {
        let repository: RepositoryName = "acme/components/web".parse().unwrap();
        let digest = Digest::sha256(b"");
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let table = [
            (blob(&digest), format!("blobs/sha256/e3/{hex}")),
            (
                member(&repository, &digest),
                format!("repos/acme/components/web/_blobs/sha256/{hex}"),
            ),
            (
                manifest(&repository, &digest),
                format!("repos/acme/components/web/_manifests/sha256/{hex}"),
            ),
            (
                tag(&repository, &"v1.0_X".parse().unwrap()),
                "repos/acme/components/web/_tags/v1.0_X".to_owned(),
            ),
            (
                referrer(&repository, &digest, &digest),
                format!("repos/acme/components/web/_referrers/sha256/{hex}/sha256/{hex}"),
            ),
            (
                catalog(&"a-b/c.d/e_f".parse().unwrap()),
                "catalog/a+b.c-d.e_f".to_owned(),
            ),
        ];
        for (key, expected) in table {
            assert_eq!(key.as_ref(), expected);
        }
    }

    #[test]
    fn keys_of_audit_lines_sort_by_time_and_lead_back_to_it() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let first = time("2026-01-02T03:04:05.000001Z");
        let last = time("2026-01-03T00:00:00Z");
        let one = audit(first, last);
        let (name, random) = one.as_ref().rsplit_once('-').unwrap();
        assert_eq!(
            name,
            "audit/2026-01-02/20260102T030405.000001-20260103T000000.000000"
        );
        assert_eq!(random.len(), "01234567.jsonl".len());
        assert_eq!(audit_of(&one), Some((first, last)));
        assert!(audit_from(first) < one && one < audit_from(last));
        assert!(one < audit(time("2026-01-02T03:04:05.000002Z"), last));
        for other in [
            "audit/2026-01-01/20260102T030405.000001-20260103T000000.000000-01.jsonl",
            "audit/2026-01-02/20260102T030405.000001-20260101T000000.000000-01.jsonl",
            "audit/2026-01-02/x-y-01.jsonl",
            "audit/2026-01-02/notes.txt",
        ] {
            assert_eq!(audit_of(&Path::from(other)), None, "{other}");
        }
    }

    #[test]
    fn keys_of_nonces_sort_by_the_time_that_they_lead_back_to() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let expires = time("2026-01-02T03:04:05Z");
        let one = nonce(expires, "a");
        let (name, hex) = one.as_ref().rsplit_once('-').unwrap();
        assert_eq!(name, "nonces/20260102T030405.000000");
        assert_eq!(hex, Digest::sha256(b"a").hex());
        assert_eq!(nonce_of(&one), Some(expires));
        assert!(one < nonce(time("2026-01-02T03:04:06Z"), "a"));
        assert_ne!(one, nonce(expires, "b"));
        assert_eq!(nonce_of(&Path::from("nonces/notes.txt")), None);
        assert_eq!(nonce_of(&Path::from("nonces/x-y")), None);
    }

    #[test]
    fn foreign_keys_are_no_names() {
        for key in ["uploads/x", "catalog/A", "a/_tags/-", "a/sha256/zz"] {
            let key = Path::from(key);
            assert_eq!(upload_of(&key), None);
            assert_eq!(digest_of(&key), None);
        }
        assert_eq!(repository_of(&Path::from("catalog/A")), None);
        assert_eq!(tag_of(&Path::from("a/_tags/-")), None);
    }

    proptest! {
        #[test]
        fn keys_lead_back_to_what_they_were_made_from(name in repository_name(), content: Vec<u8>, tag_text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}") {
            let digest = Digest::of(Algorithm::Sha512, &content);
            prop_assert_eq!(repository_of(&catalog(&name)), Some(name.clone()));
            let a_tag: Tag = tag_text.parse().unwrap();
            prop_assert_eq!(tag_of(&tag(&name, &a_tag)), Some(a_tag));
            prop_assert_eq!(digest_of(&member(&name, &digest)), Some(digest.clone()));
            prop_assert_eq!(digest_of(&referrer(&name, &Digest::sha256(b""), &digest)), Some(digest));
        }

        #[test]
        fn catalog_keys_sort_as_names_do(one in repository_name(), other in repository_name()) {
            prop_assert_eq!(catalog(&one).cmp(&catalog(&other)), one.cmp(&other));
        }

        #[test]
        fn data_ids_become_keys_whatever_they_hold(text: String) {
            DataId(text).key();
        }
    }
}
