//! Layers that are unpacked while somebody still writes them.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    thread,
};

use flate2::{Compression, write::GzEncoder};

use super::{
    super::{Grower, Growing},
    *,
};

/// More than one batch and one read, and compressible by little.
fn archive() -> Vec<u8> {
    let mut state = 1_u32;
    let large: String = (0..600_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b' ' + (state >> 26) as u8)
        })
        .collect();
    let tar = (0..100).fold(Tar::new().directory("d"), |tar, number| {
        tar.file(&format!("d/{number}"), &large[number * 10..number * 50])
    });
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(&tar.file("large", &large).finish())
        .unwrap();
    encoder.finish().unwrap()
}

/// Unpacks `archives`, the second of which comes as `bytes` while that is done.
fn unpack_arriving(
    place: &Place,
    archives: &[Vec<u8>],
    bytes: &[u8],
) -> Result<Unpacked, ArchiveError> {
    let mut layers = place.layers(archives);
    let path = layers[1].path.clone();
    // What an earlier attempt brought is there.
    fs::write(&path, &bytes[..10]).unwrap();
    let (growing, grower) = Growing::new(File::open(&path).unwrap());
    layers[1].growing = Some(growing);
    thread::scope(|scope| {
        scope.spawn(|| write(&path, &bytes[10..], grower));
        unpack(&layers, &place.root(), &UnpackOptions::default())
    })
}

fn write(path: &Path, bytes: &[u8], grower: Grower) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    for piece in bytes.chunks(7919) {
        file.write_all(piece).unwrap();
        grower.grew();
        thread::yield_now();
    }
}

#[test]
fn a_layer_that_comes_makes_the_tree_that_it_makes_when_it_is_there() {
    let lower = Tar::new().file("large", "small").file("kept", "k").finish();
    let archives = [lower, archive()];
    let (there, coming) = (Place::new(), Place::new());
    let expected = there.unpack(&archives, &UnpackOptions::default()).unwrap();
    let found = unpack_arriving(&coming, &archives, &archives[1]).unwrap();
    assert_eq!(found, expected);
    assert_eq!(listing(&coming.root()), listing(&there.root()));
}

#[test]
fn what_comes_is_refused_as_what_is_there() {
    let whole = archive();
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    let longer = [&whole[..], b"x"].concat();
    let escaping = Tar::new().file("../outside", "x").finish();
    let lower = Tar::new().file("kept", "k").finish();
    // The layer as it should be, and what comes.
    let cases: [(&[u8], &[u8], &str); 5] = [
        (&whole, &other, "the content has"),
        (&whole, &whole[..whole.len() / 2], "the content has"),
        (&whole, &longer, "the content has"),
        (&whole, &lower, "the content has"),
        (&escaping, &escaping, "`../outside`"),
    ];
    for (promised, comes, expected) in cases {
        let place = Place::new();
        let archives = [lower.clone(), promised.to_vec()];
        let error = unpack_arriving(&place, &archives, comes).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let message = format!("{error}: {}", cause.unwrap_or_default());
        assert!(
            message.contains("l1") && message.contains(expected),
            "{message}"
        );
        assert_eq!(listing(&place.root()), Vec::<String>::new(), "{message}");
    }
}
