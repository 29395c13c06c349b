//! The cells of the table: what is done, by how many clients. For `bench`.

use std::time::Duration;

use super::arguments::Bench;
use super::payload::Source;
use super::peer::Peer;
use super::prepare::{self, Reference};
use super::work::{Push, PushImages, Read, Work};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SMALL: usize = 4 * KIB;

/// Layers of an image that is pushed, and their size.
const LAYERS: usize = 20;
const LAYER: usize = 16 * KIB;
/// Repositories that each client fills in turn, where images go to many.
const REPOSITORIES: usize = 16;

/// No server is expected to be faster; what is prepared beforehand is enough for this.
const PUSHES_PER_SECOND: f64 = 12_000.0;
const IMAGES_PER_SECOND: f64 = 600.0;
/// What one measurement may leave on the disk.
const BYTES: usize = 1536 * MIB;

/// How long a measurement goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// As long as the command line says.
    Time,
    /// Each client once; in the first round only.
    Once,
}

/// Whether a command of the user's runs beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Command,
}

/// What the clients do.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Push {
        size: usize,
    },
    Images(Spread),
    Manifest(&'static str, Reference),
    Blob {
        size: usize,
    },
    Tags {
        count: usize,
    },
    Catalog,
    Referrers,
    /// Small and middle blobs and images at once.
    Mix,
    /// Half of the clients up, half of them down.
    UpAndDown {
        size: usize,
    },
}

/// Where images go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    One,
    Many,
}

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) clients: usize,
    pub(crate) extent: Extent,
    pub(crate) beside: Beside,
    kind: Kind,
}

impl Scenario {
    fn new(id: impl Into<String>, title: impl Into<String>, clients: usize, kind: Kind) -> Self {
        Self {
            id: format!("{}.c{clients}", id.into()),
            title: title.into(),
            clients,
            extent: Extent::Time,
            beside: Beside::Nothing,
            kind,
        }
    }

    /// True where reading once before the clock starts is fair, and cheap.
    pub(crate) fn warms_up(&self) -> bool {
        matches!(
            self.kind,
            Kind::Manifest(..)
                | Kind::Blob { .. }
                | Kind::Tags { .. }
                | Kind::Catalog
                | Kind::Referrers
        )
    }

    /// The longest payload that it pushes.
    pub(crate) fn longest(&self) -> usize {
        match self.kind {
            Kind::Push { size } | Kind::Blob { size } | Kind::UpAndDown { size } => size,
            Kind::Images(_) => LAYER,
            Kind::Mix => MIB,
            _ => KIB,
        }
    }

    /// The work of each client, with all that is pushed for it and all digests computed.
    pub(crate) fn workers(
        &self,
        peer: &mut Peer,
        source: &Source,
        limit: Duration,
    ) -> anyhow::Result<Vec<Box<dyn Work>>> {
        let seconds = limit.as_secs_f64();
        let requests = match self.kind {
            Kind::Push { size } => {
                let repository = format!("{}-push", peer.repository);
                let count = self.count(size, seconds * PUSHES_PER_SECOND);
                return Ok((0..self.clients)
                    .map(|_| push(source, repository.clone(), size, count))
                    .collect());
            }
            Kind::Images(spread) => {
                let count = self.count(LAYERS * LAYER, seconds * IMAGES_PER_SECOND);
                return Ok((0..self.clients)
                    .map(|client| images(peer, source, spread, client, count))
                    .collect());
            }
            Kind::Mix => return Ok(self.mix(peer, source, seconds)),
            Kind::UpAndDown { size } => {
                let half = self.clients / 2;
                let requests = peer.prepared(&format!("blobs {size}"), |peer| {
                    prepare::blobs(peer, source, size)
                })?;
                let repository = format!("{}-push", peer.repository);
                let up = (0..half).map(|_| push(source, repository.clone(), size, 1));
                let down = (half..self.clients)
                    .map(|client| Box::new(Read::new(requests.clone(), client)) as Box<dyn Work>);
                return Ok(up.chain(down).collect());
            }
            Kind::Manifest(method, by) => peer
                .prepared(&format!("manifests {method} {by:?}"), |peer| {
                    prepare::manifests(peer, source, method, by)
                })?,
            Kind::Blob { size } => peer.prepared(&format!("blobs {size}"), |peer| {
                prepare::blobs(peer, source, size)
            })?,
            Kind::Tags { count } => peer.prepared(&format!("tags {count}"), |peer| {
                prepare::tags(peer, source, count)
            })?,
            Kind::Catalog => peer.prepared("catalog", |peer| prepare::catalog(peer, source))?,
            Kind::Referrers => {
                peer.prepared("referrers", |peer| prepare::referrers(peer, source))?
            }
        };
        Ok((0..self.clients)
            .map(|client| Box::new(Read::new(requests.clone(), client)) as Box<dyn Work>)
            .collect())
    }

    /// Half of the clients push small blobs, a quarter middle ones, a quarter images.
    fn mix(&self, peer: &Peer, source: &Source, seconds: f64) -> Vec<Box<dyn Work>> {
        let repository = format!("{}-mix", peer.repository);
        (0..self.clients)
            .map(|client| match client % 4 {
                0 | 1 => {
                    let count = self.count(SMALL, seconds * PUSHES_PER_SECOND);
                    push(source, repository.clone(), SMALL, count)
                }
                2 => {
                    let count = self.count(MIB, seconds * PUSHES_PER_SECOND);
                    push(source, repository.clone(), MIB, count)
                }
                _ => {
                    let count = self.count(LAYERS * LAYER, seconds * IMAGES_PER_SECOND);
                    images(peer, source, Spread::Many, client, count)
                }
            })
            .collect()
    }

    /// How often each client can go: enough for the fastest server, but not so often that the
    /// disk fills.
    fn count(&self, size: usize, at_most: f64) -> usize {
        let in_all = (at_most as usize).min(BYTES / size);
        in_all.div_ceil(self.clients).max(1)
    }
}

fn push(source: &Source, repository: String, size: usize, count: usize) -> Box<dyn Work> {
    let payloads = (0..count).map(|_| source.payload(size)).collect();
    Box::new(Push::new(repository, payloads))
}

fn images(
    peer: &Peer,
    source: &Source,
    spread: Spread,
    client: usize,
    count: usize,
) -> Box<dyn Work> {
    let images = (0..count).map(|number| {
        let layers = (0..LAYERS).map(|_| source.payload(LAYER)).collect();
        let image = source.image(layers);
        let repository = match spread {
            Spread::One => format!("{}-images", peer.repository),
            Spread::Many => {
                format!(
                    "{}-images/{client}/{}",
                    peer.repository,
                    number % REPOSITORIES
                )
            }
        };
        // The end of a digest is a name that was not there before.
        let tag = format!("t{}", &image.manifest.digest[39..]);
        (repository, tag, image)
    });
    Box::new(PushImages::new(images.collect()))
}

/// All cells that the command line asks for, in the order of the table.
pub(crate) fn all(arguments: &Bench) -> Vec<Scenario> {
    let large = if arguments.quick { 4 * MIB } else { 100 * MIB };
    let mut cells = Vec::new();
    for size in [SMALL, MIB, large] {
        for clients in [1, 4, 16] {
            let size_name = name_of(size);
            cells.push(Scenario::new(
                format!("push.blob.{size_name}"),
                format!("push a blob of {size_name}"),
                clients,
                Kind::Push { size },
            ));
        }
    }
    for (spread, word) in [(Spread::One, "one"), (Spread::Many, "many")] {
        let title = match spread {
            Spread::One => "push an image of 20 layers of 16k, all to one repository",
            Spread::Many => "push an image of 20 layers of 16k, to many repositories",
        };
        cells.push(Scenario::new(
            format!("push.image.{word}"),
            title,
            8,
            Kind::Images(spread),
        ));
    }
    for method in ["GET", "HEAD"] {
        for (by, word) in [(Reference::Tag, "tag"), (Reference::Digest, "digest")] {
            cells.push(Scenario::new(
                format!("manifest.{}.{word}", method.to_lowercase()),
                format!("{method} a manifest by {word}"),
                16,
                Kind::Manifest(method, by),
            ));
        }
    }
    for (size, clients) in [(SMALL, 16), (large, 4)] {
        let size_name = name_of(size);
        cells.push(Scenario::new(
            format!("blob.get.{size_name}"),
            format!("GET a blob of {size_name}"),
            clients,
            Kind::Blob { size },
        ));
    }
    let mut counts = arguments.tags.clone();
    if arguments.full {
        counts.extend([10_000, 100_000]);
    }
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        cells.push(Scenario::new(
            format!("tags.page.{count}"),
            format!("a page of 100 tags of {count}"),
            4,
            Kind::Tags { count },
        ));
    }
    cells.push(Scenario::new(
        "catalog",
        "a page of 100 repositories",
        4,
        Kind::Catalog,
    ));
    cells.push(Scenario::new(
        "referrers",
        "20 referrers of an image",
        4,
        Kind::Referrers,
    ));
    cells.push(Scenario::new(
        "mix.rest",
        "a mix of pushes, nothing beside",
        8,
        Kind::Mix,
    ));
    if arguments.during.is_some() {
        cells.push(Scenario {
            beside: Beside::Command,
            ..Scenario::new(
                "mix.during",
                "a mix of pushes while the command runs",
                8,
                Kind::Mix,
            )
        });
    }
    if arguments.full {
        cells.push(Scenario {
            extent: Extent::Once,
            ..Scenario::new(
                "memory",
                "64 uploads and 64 downloads of 100m at once",
                128,
                Kind::UpAndDown { size: large },
            )
        });
    }
    cells.retain(|cell| {
        arguments.only.is_empty()
            || arguments
                .only
                .iter()
                .any(|only| crate::glob::matches(only, &cell.id))
    });
    cells
}

/// `4k`, `1m`, `100m`.
fn name_of(size: usize) -> String {
    if size >= MIB {
        format!("{}m", size / MIB)
    } else {
        format!("{}k", size / KIB)
    }
}
