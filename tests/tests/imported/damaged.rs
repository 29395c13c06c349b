//! Archives that were cut off or changed anywhere: they are read to an image or refused, within little memory
//! and time, and nothing panics.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use deploy_from_docker::source::{self, Surroundings, Wanted};
use deploy_from_docker::{Platform, SourceReference};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::image::{Image, Stored};

/// Opens what stands on standard input, as often as it is changed.
async fn opens(bytes: &[u8]) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut stdin).unwrap();
    let surroundings = Surroundings {
        wanted: Wanted::Preferably(Platform::linux("amd64")),
        registry: None,
        socket: "nowhere".into(),
        scratch: scratch.path().to_owned(),
        stdin: Arc::<File>::new(stdin),
    };
    match source::open(&SourceReference::Stdin, &surroundings).await {
        Ok(image) => {
            assert!(!image.layers.is_empty());
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// How often each archive is changed.
const CHANGES: usize = 400;

#[tokio::test]
async fn archives_are_read_or_refused_wherever_they_are_damaged() {
    let image = Image::example();
    let archives = [
        image.docker_old(),
        image.docker_new(Stored::Gzip),
        image.podman(),
        image.layout_archive(Stored::Gzip),
    ];
    // Whatever it is, it fails the same way again.
    let mut random = StdRng::seed_from_u64(7);
    for archive in archives {
        assert!(opens(&archive).await);
        let mut refused = 0;
        for cut in (0..archive.len()).step_by(archive.len() / 100 + 1) {
            refused += usize::from(!opens(&archive[..cut]).await);
        }
        assert!(refused > 10);
        for _ in 0..CHANGES {
            let mut changed = archive.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..changed.len());
                match random.random_range(0..3) {
                    0 => changed[at] ^= 1 << random.random_range(0..8),
                    1 => changed[at] = random.random(),
                    // A piece of it in another place.
                    _ => {
                        let length = random.random_range(0..600).min(changed.len() - at);
                        let from = random.random_range(0..=changed.len() - length);
                        changed.copy_within(from..from + length, at);
                    }
                }
            }
            opens(&changed).await;
        }
    }
}
