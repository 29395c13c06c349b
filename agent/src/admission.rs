//! Whether a release may be deployed, where signatures are asked for: one that counts, and not of
//! something that was left behind already. Pure but for the file of allowed signers; asked by
//! `deployer` before anything of a release is fetched, and by `plan`.
//!
//! A signature proves that somebody wanted a release at some time, and not that he still does: a
//! registry can show old releases with their signatures for ever. So what was accepted is
//! remembered, and what comes next has to be newer: by its number, or, where it was signed as a
//! way back, by the time of its statement.

use std::{fmt, path::PathBuf};

use deploy_spec::{
    Digest, ReleaseNumber, RepositoryName,
    signature::{Purpose, Signature},
};
use deployctl::signing::{self, AllowedSigners, Checked, Invalid, Question};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// What signatures are asked for.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The file of allowed signers, which is read at each decision.
    pub file: PathBuf,
    /// The zone of times in it that name none.
    pub zone: TimeZone,
    /// The repository that is followed, which statements have to name.
    pub repository: RepositoryName,
}

/// What was accepted, as the journal remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// In which repository: numbers of another one say nothing here.
    pub(crate) repository: RepositoryName,
    /// The release that was accepted last.
    pub(crate) id: Digest,
    /// The greatest number that was.
    #[serde(default)]
    pub(crate) number: Option<ReleaseNumber>,
    /// The latest time of a statement that was.
    #[serde(default)]
    pub(crate) time: Option<Timestamp>,
}

impl Accepted {
    /// Returns what is known of the order where nothing was accepted yet: signatures were not
    /// asked for before, or the journal was lost.
    pub(crate) fn deployed(repository: &RepositoryName, record: &Record) -> Self {
        let release = record.release.as_deref();
        Self {
            repository: repository.clone(),
            id: record.id.clone(),
            number: release.and_then(|release| release.parse().ok()),
            time: record.signed.as_ref().map(|signed| signed.time),
        }
    }
}

/// Who wants a release to be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Vouched {
    /// Whose the key is, as the file of allowed signers has it.
    pub(crate) principals: String,
    /// The key, `SHA256:…`.
    pub(crate) fingerprint: String,
    /// What for.
    pub(crate) purpose: Purpose,
    /// When it was signed, by the clock of whoever did.
    pub(crate) time: Timestamp,
}

impl fmt::Display for Vouched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            principals,
            fingerprint,
            purpose,
            time,
        } = self;
        write!(
            formatter,
            "by {principals} ({fingerprint}) as a {purpose} at {time:.0}"
        )
    }
}

/// Why a release is not deployed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lack {
    /// Nobody has signed it.
    #[error("it has no signature\nhint: `deployctl sign` gives it one")]
    Unsigned,
    /// Nobody who may has signed it, or not as this release.
    #[error("it has no signature that counts: {}", .0.join("; "))]
    NoneCounts(Vec<String>),
    /// A later one was accepted before.
    #[error(
        "{} was accepted before, and {number} was signed as a release, not as a rollback\nhint: `deployctl sign -rollback` signs it as a way back", named(.accepted)
    )]
    Older {
        /// Its number.
        number: ReleaseNumber,
        /// The greatest that was accepted.
        accepted: Option<ReleaseNumber>,
    },
    /// A later statement was accepted before.
    #[error(
        "it was signed as a rollback at {time}, and what was accepted last was signed at {accepted}\nhint: `deployctl sign -rollback` signs it anew"
    )]
    Earlier {
        /// The time of its statement.
        time: Timestamp,
        /// The latest that was accepted.
        accepted: Timestamp,
    },
    /// It is not known who may sign.
    #[error("{0}")]
    Signers(String),
}

fn named(number: &Option<ReleaseNumber>) -> String {
    number.map_or_else(|| "it".to_owned(), |number| number.to_string())
}

/// A release that is looked at.
pub(crate) struct Candidate<'a> {
    /// The digest of its manifest.
    pub(crate) id: &'a Digest,
    /// The number that the manifest has.
    pub(crate) number: Option<ReleaseNumber>,
    /// Whatever was found beside it.
    pub(crate) signatures: &'a [Signature],
}

impl Gate {
    /// Returns who vouches for a release, and what is to be remembered of that.
    ///
    /// # Errors
    /// [`Lack`], which says why nobody does.
    pub(crate) fn judge(
        &self,
        candidate: &Candidate<'_>,
        before: Option<&Accepted>,
        now: Timestamp,
    ) -> Result<(Vouched, Accepted), Lack> {
        let signers = self.signers().map_err(Lack::Signers)?;
        let question = Question {
            repository: &self.repository,
            release: candidate.id,
            number: candidate.number,
            now,
        };
        let signatures = candidate.signatures.iter();
        let checked = signatures.map(|signature| signing::check(signature, &question, &signers));
        let before = before.filter(|before| before.repository == self.repository);
        decide(checked.collect(), &question, before)
    }

    /// Returns whom the file names now.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn signers(&self) -> Result<AllowedSigners, String> {
        let signers = AllowedSigners::load(&self.file, &self.zone);
        signers.map_err(|error| crate::deployer::chain(&error))
    }
}

fn decide(
    checked: Vec<Checked>,
    question: &Question<'_>,
    before: Option<&Accepted>,
) -> Result<(Vouched, Accepted), Lack> {
    if checked.is_empty() {
        return Err(Lack::Unsigned);
    }
    let mut wrong = Vec::new();
    let mut good = Vec::new();
    for one in checked {
        match Good::of(one) {
            Ok(one) => good.push(one),
            Err(why) => wrong.push(why),
        }
    }
    // The last word of whoever may sign comes first.
    good.sort_by_key(|one| std::cmp::Reverse(one.time));
    let mut lack = None;
    for one in &good {
        match one.follows(question, before) {
            Ok(()) => {
                let number = one.number.max(before.and_then(|before| before.number));
                // Whatever is there of this release has been seen, and is of no use again.
                let times = good.iter().map(|one| one.time);
                let times = times.chain(before.and_then(|before| before.time));
                let accepted = Accepted {
                    repository: question.repository.clone(),
                    id: question.release.clone(),
                    number,
                    time: times.max(),
                };
                return Ok((one.vouched.clone(), accepted));
            }
            Err(why) => lack = lack.or(Some(why)),
        }
    }
    wrong.sort();
    wrong.dedup();
    Err(lack.unwrap_or(Lack::NoneCounts(wrong)))
}

/// A signature with which nothing is wrong.
struct Good {
    vouched: Vouched,
    number: Option<ReleaseNumber>,
    purpose: Purpose,
    time: Timestamp,
}

impl Good {
    fn of(checked: Checked) -> Result<Self, String> {
        let Checked {
            fingerprint,
            principals,
            statement,
            wrong,
        } = checked;
        match (wrong, fingerprint, principals, statement) {
            (None, Some(fingerprint), Some(principals), Some(statement)) => Ok(Self {
                vouched: Vouched {
                    principals,
                    fingerprint: fingerprint.to_string(),
                    purpose: statement.purpose,
                    time: statement.time,
                },
                number: statement.number,
                purpose: statement.purpose,
                time: statement.time,
            }),
            (wrong, fingerprint, principals, _) => Err(reason(
                wrong,
                principals.zip(fingerprint.map(|fingerprint| fingerprint.to_string())),
            )),
        }
    }

    /// Whether it is newer than what was accepted before.
    fn follows(&self, question: &Question<'_>, before: Option<&Accepted>) -> Result<(), Lack> {
        let Some(before) = before.filter(|before| before.id != *question.release) else {
            return Ok(());
        };
        match (self.purpose, self.number, before.time) {
            (Purpose::Release, Some(number), _) if Some(number) <= before.number => {
                Err(Lack::Older {
                    number,
                    accepted: before.number,
                })
            }
            (Purpose::Rollback, _, Some(accepted)) if self.time <= accepted => Err(Lack::Earlier {
                time: self.time,
                accepted,
            }),
            _ => Ok(()),
        }
    }
}

fn reason(wrong: Option<Invalid>, whose: Option<(String, String)>) -> String {
    let wrong = wrong.map_or_else(|| "it says nothing".to_owned(), |wrong| wrong.to_string());
    match whose {
        Some((principals, fingerprint)) => format!("by {principals} ({fingerprint}): {wrong}"),
        None => wrong,
    }
}

#[cfg(test)]
mod tests {
    use deploy_spec::signature::Statement;

    use super::*;

    const HERE: &str = "configs/project";

    fn repository(name: &str) -> RepositoryName {
        name.parse().unwrap()
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn checked(release: &str, number: u64, purpose: Purpose, second: i64) -> Checked {
        Checked {
            fingerprint: Some(deploy_spec::Fingerprint::of_ssh_key(b"key")),
            principals: Some("jane".to_owned()),
            statement: Some(Statement {
                repository: repository(HERE),
                release: Digest::sha256(release.as_bytes()),
                number: ReleaseNumber::new(number),
                purpose,
                time: time(second),
            }),
            wrong: None,
        }
    }

    fn judged(
        release: &str,
        signatures: Vec<Checked>,
        before: Option<&Accepted>,
    ) -> Result<(Vouched, Accepted), Lack> {
        let question = Question {
            repository: &repository(HERE),
            release: &Digest::sha256(release.as_bytes()),
            number: None,
            now: time(1000),
        };
        decide(signatures, &question, before)
    }

    use Purpose::{Release, Rollback};

    #[test]
    fn order_is_kept_by_numbers_and_on_the_way_back_by_times() {
        let one = |name: &str, number, purpose, second, before: Option<&Accepted>| {
            judged(name, vec![checked(name, number, purpose, second)], before)
        };
        let (vouched, first) = one("a", 1, Release, 10, None).unwrap();
        assert_eq!(vouched.principals, "jane");
        assert_eq!(
            (first.number, first.time),
            (ReleaseNumber::new(1), Some(time(10)))
        );
        let (_, second) = one("b", 2, Release, 20, Some(&first)).unwrap();
        // The same one again, and one before it, and another one with its number.
        let (_, again) = one("b", 2, Release, 20, Some(&second)).unwrap();
        assert_eq!(again, second);
        for (name, number) in [("a", 1), ("c", 2)] {
            let lack = one(name, number, Release, 99, Some(&second)).unwrap_err();
            assert!(matches!(lack, Lack::Older { .. }), "{lack}");
        }
        // Back, but only by what was signed later.
        let lack = one("a", 1, Rollback, 20, Some(&second)).unwrap_err();
        assert!(matches!(lack, Lack::Earlier { .. }), "{lack}");
        let (vouched, back) = one("a", 1, Rollback, 30, Some(&second)).unwrap();
        assert_eq!(vouched.purpose, Rollback);
        assert_eq!(
            (back.number, back.time),
            (ReleaseNumber::new(2), Some(time(30)))
        );
        // What was left stays left.
        let lack = one("b", 2, Release, 20, Some(&back)).unwrap_err();
        assert!(matches!(lack, Lack::Older { .. }), "{lack}");
        let (_, third) = one("c", 3, Release, 25, Some(&back)).unwrap();
        // The way back has been gone, and the later time counts.
        assert_eq!(third.time, Some(time(30)));
        let lack = one("a", 1, Rollback, 30, Some(&third)).unwrap_err();
        assert!(matches!(lack, Lack::Earlier { .. }), "{lack}");
    }

    #[test]
    fn one_good_signature_is_enough_and_all_of_them_are_used_up() {
        let mut stranger = checked("b", 2, Release, 50);
        stranger.wrong = Some(Invalid::Wrong);
        let (_, first) = judged("a", vec![checked("a", 1, Release, 10)], None).unwrap();
        let signatures = vec![
            stranger,
            checked("b", 2, Release, 20),
            checked("b", 2, Rollback, 40),
        ];
        let (vouched, second) = judged("b", signatures, Some(&first)).unwrap();
        assert_eq!(vouched.purpose, Rollback);
        assert_eq!(second.time, Some(time(40)));
        // A rollback that is too old does not keep a release back.
        let signatures = vec![checked("c", 3, Rollback, 5), checked("c", 3, Release, 4)];
        let (vouched, _) = judged("c", signatures, Some(&second)).unwrap();
        assert_eq!(vouched.purpose, Release);
    }

    #[test]
    fn lack_of_signatures_is_said() {
        assert_eq!(judged("a", Vec::new(), None), Err(Lack::Unsigned));
        let mut wrong = checked("a", 1, Release, 10);
        wrong.wrong = Some(Invalid::Wrong);
        let mut unlisted = checked("a", 1, Release, 10);
        unlisted.wrong = Some(Invalid::Untouched);
        unlisted.principals = None;
        let lack = judged("a", vec![wrong, unlisted], None).unwrap_err();
        let text = lack.to_string();
        assert!(text.contains("by jane (SHA256:"), "{text}");
        assert!(text.contains("; nobody touched"), "{text}");
    }

    #[test]
    fn another_repository_has_an_order_of_its_own() {
        let gate = Gate {
            file: "nowhere".into(),
            zone: TimeZone::UTC,
            repository: repository(HERE),
        };
        let id = Digest::sha256(b"a");
        let candidate = Candidate {
            id: &id,
            number: None,
            signatures: &[],
        };
        let lack = gate.judge(&candidate, None, time(0)).unwrap_err();
        assert!(lack.to_string().contains("`nowhere`"), "{lack}");
        let record = Record {
            release: Some("v7".to_owned()),
            ..Record::bare(&id, "project")
        };
        let known = Accepted::deployed(&repository(HERE), &record);
        assert_eq!(known.number, ReleaseNumber::new(7));
        let older = judged("b", vec![checked("b", 6, Release, 10)], Some(&known));
        assert!(matches!(older, Err(Lack::Older { .. })));
    }
}
