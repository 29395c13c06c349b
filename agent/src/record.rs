//! A release as the host remembers it, and as the script can read it: the JSON documents of
//! the state file and of STATEFILE. Written and read by `deployer`.

use deploy_spec::{Digest, Release};
use deployctl::archive::{Ownership, SpecialBits, TakeOver, UnpackOptions};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{admission::Vouched, image::ImageConfig};

/// The names are those of the original tools, so that scripts that read STATEFILE go on
/// working; `Id`, `Release`, `Channel` and `Signed` are new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Record {
    /// The configuration.
    pub(crate) name: String,
    /// When the release was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtime: Option<Timestamp>,
    /// The hexadecimal part of the id.
    pub(crate) hash: String,
    /// Digest of the release's manifest: NEWID.
    pub(crate) id: Digest,
    /// Its number, `v7`; images that no release was made of have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<String>,
    /// The channel that it was found on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// Who vouched for it, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<Vouched>,
    /// Whether it was imported from an image: then its layers are read as container engines read them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) imported: bool,
    /// Lowest first.
    #[serde(default)]
    pub(crate) layers: Vec<LayerRecord>,
}

/// A release as the journal remembers it: its record, and what a script needs to be told of
/// it when its source is out of reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Remembered {
    /// What the state file says of it.
    #[serde(flatten)]
    pub(crate) record: Record,
    /// What the release itself sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) environment: Vec<(String, String)>,
    /// What its image says about how its program is started; earlier versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageConfig>,
    /// When it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// How its tree was made; earlier versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<Made>,
}

/// What the flags made of owners, modes and extended attributes when a tree was unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Made {
    /// Whether the archives' owners are the files'.
    owners: bool,
    /// Whether setuid, setgid and sticky bits are.
    special_bits: bool,
    /// Which extended attributes are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<String>,
    /// Whether files can be shared with other trees, and have no write bits for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    link: bool,
}

impl Made {
    /// Returns what is to be remembered of the way in which trees are unpacked.
    pub(crate) fn by(options: &UnpackOptions) -> Self {
        let attributes = options.extended_attributes.iter();
        Self {
            owners: options.ownership == Ownership::Archive,
            special_bits: options.special_bits == SpecialBits::Keep,
            attributes: attributes.map(ToString::to_string).collect(),
            link: options.take_over == TakeOver::Link,
        }
    }

    /// Returns the same way of unpacking, with the usual limits.
    pub(crate) fn options(&self) -> UnpackOptions {
        let attributes = self.attributes.iter();
        UnpackOptions {
            ownership: match self.owners {
                true => Ownership::Archive,
                false => Ownership::Process,
            },
            special_bits: match self.special_bits {
                true => SpecialBits::Keep,
                false => SpecialBits::Strip,
            },
            // What this version does not take over was not taken over by it either.
            extended_attributes: attributes.filter_map(|name| name.parse().ok()).collect(),
            take_over: match self.link {
                true => TakeOver::Link,
                false => TakeOver::Clone,
            },
            ..UnpackOptions::default()
        }
    }
}

impl Remembered {
    /// Returns `v7 (sha256:…)`.
    pub(crate) fn name(&self) -> String {
        match &self.record.release {
            Some(release) => format!("{release} ({})", self.record.id),
            None => self.record.id.to_string(),
        }
    }
}

impl From<Record> for Remembered {
    fn from(record: Record) -> Self {
        Self {
            record,
            environment: Vec::new(),
            image: None,
            since: None,
            made: None,
        }
    }
}

/// A layer of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LayerRecord {
    /// The component.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// The archive, relative to the agent's directory; there until it is needed no more.
    pub(crate) file: String,
    /// The hexadecimal part of the archive's digest.
    pub(crate) hash: String,
    /// The archive's digest.
    pub(crate) digest: Digest,
    /// How many bytes the archive has; earlier versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// When the version was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ctime: Option<Timestamp>,
}

impl Record {
    /// Returns the record of a release.
    pub(crate) fn of(id: &Digest, release: &Release, channel: &str) -> Self {
        let layer = |layer: &deploy_spec::ReleaseLayer| LayerRecord {
            name: layer.component.to_string(),
            version: layer.version.to_string(),
            file: format!("cache/{}/{}", layer.digest.algorithm(), layer.digest.hex()),
            hash: layer.digest.hex().to_owned(),
            digest: layer.digest.clone(),
            size: Some(layer.size),
            ctime: layer.created,
        };
        Self {
            release: release.number.map(|number| number.to_string()),
            mtime: release.created,
            channel: Some(channel.to_owned()),
            imported: release.is_imported(),
            layers: release.layers.iter().map(layer).collect(),
            ..Self::bare(id, release.configuration.as_ref())
        }
    }

    /// Returns what is known of a release of which only the tree is left.
    pub(crate) fn bare(id: &Digest, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mtime: None,
            hash: id.hex().to_owned(),
            id: id.clone(),
            release: None,
            channel: None,
            signed: None,
            imported: false,
            layers: Vec::new(),
        }
    }

    /// Returns the document: JSON, indented by tabs as the original's.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// What a script can read of a release.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StateFile<'a> {
    /// What the state file says of it.
    #[serde(flatten)]
    pub(crate) record: &'a Record,
    /// What its image says, to the letter, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<&'a ImageConfig>,
}

impl StateFile<'_> {
    /// Returns the document, as [`Record::to_json`] does.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

fn to_json(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    document
        .serialize(&mut serializer)
        .expect("texts and numbers are always JSON");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn way_of_unpacking_is_remembered() {
        for take_over in [TakeOver::Clone, TakeOver::Link] {
            let options = UnpackOptions {
                ownership: Ownership::Archive,
                special_bits: SpecialBits::Keep,
                extended_attributes: vec!["user.*".parse().unwrap()],
                take_over,
                ..UnpackOptions::default()
            };
            let json = serde_json::to_string(&Made::by(&options)).unwrap();
            let made: Made = serde_json::from_str(&json).unwrap();
            let found = made.options();
            assert_eq!(found.ownership, options.ownership);
            assert_eq!(found.special_bits, options.special_bits);
            assert_eq!(found.extended_attributes, options.extended_attributes);
            assert_eq!(found.take_over, take_over);
        }
        // As an earlier version wrote it.
        let made: Made = serde_json::from_str(r#"{"Owners":true,"SpecialBits":false}"#).unwrap();
        assert_eq!(made.options().take_over, TakeOver::Clone);
    }

    #[test]
    fn records_survive_a_round_trip_and_keep_the_originals_names() {
        let id = Digest::sha256(b"manifest");
        let layer = Digest::sha256(b"layer");
        let record = Record {
            release: Some("v7".to_owned()),
            layers: vec![LayerRecord {
                name: "code".to_owned(),
                version: "v01".to_owned(),
                file: format!("cache/sha256/{}", layer.hex()),
                hash: layer.hex().to_owned(),
                digest: layer,
                size: Some(7),
                ctime: Some("2017-03-01T11:28:18Z".parse().unwrap()),
            }],
            ..Record::bare(&id, "project1")
        };
        let json = record.to_json();
        assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), record);
        let text = String::from_utf8(json).unwrap();
        for part in [
            "{\n\t\"Name\": \"project1\"",
            "\"Hash\": ",
            "\"Layers\": [",
            "\"Ctime\": \"2017-03-01T11:28:18Z\"",
            "\"File\": \"cache/sha256/",
            "\"Size\": 7",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
