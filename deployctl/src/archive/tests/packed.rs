//! What `pack` makes: the same bytes for the same tree, and archives that others read.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
};

use deploy_spec::media_type::Compression;

use super::{
    super::{ArchiveError, PackOptions, Packed, UnpackOptions, inspect, pack},
    Place, listing,
};

fn packed(paths: &[PathBuf], options: &PackOptions) -> (Vec<u8>, Packed) {
    let mut bytes = Vec::new();
    let packed = pack(paths, &mut bytes, options).unwrap();
    (bytes, packed)
}

/// Makes the same tree, in the given order, with the modes of some umask.
fn grow(root: &Path, names: &[&str], umask: u32, mtime: u64) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = name.strip_prefix("link-") {
            symlink(target, &path).unwrap();
            continue;
        }
        fs::write(&path, name).unwrap();
        let mode = if name.ends_with(".sh") { 0o777 } else { 0o666 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode & !umask)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    for directory in ["b", "."] {
        fs::set_permissions(
            root.join(directory),
            fs::Permissions::from_mode(0o777 & !umask),
        )
        .unwrap();
    }
}

#[test]
fn same_tree_gives_same_digest_whatever_order_umask_time_and_links() {
    let names = ["a-1", "a", "b/run.sh", "b/x", "c", "link-a"];
    let reversed: Vec<_> = names.iter().rev().copied().collect();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let options = PackOptions {
            compression,
            source_date: None,
        };
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        grow(one.path(), &names, 0o022, 1_000_000_000);
        grow(other.path(), &reversed, 0o077, 1_700_000_000);
        // One content under two names, as a hard link here and as a copy there.
        fs::write(one.path().join("same1"), "same").unwrap();
        fs::hard_link(one.path().join("same1"), one.path().join("same2")).unwrap();
        fs::write(other.path().join("same2"), "same").unwrap();
        fs::write(other.path().join("same1"), "same").unwrap();
        let (bytes, first) = packed(&[one.path().to_owned()], &options);
        let (_, second) = packed(&[other.path().to_owned()], &options);
        assert_eq!(first, second);
        let found = inspect(&bytes[..]).unwrap();
        assert_eq!(
            (found.digest, found.diff_id, found.entries),
            (first.digest, first.diff_id, first.entries)
        );
        assert_eq!(
            (found.size, found.unpacked_size),
            (first.size, first.unpacked_size)
        );
    }
}

/// The digests themselves: a change of the format, of a level, of a compressor shows here, and
/// would make every version that was pushed before look changed.
#[test]
fn digests_stay_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("bin")).unwrap();
    fs::write(directory.path().join("bin/run"), "#!/bin/sh\n".repeat(5000)).unwrap();
    fs::set_permissions(
        directory.path().join("bin/run"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::write(directory.path().join("config"), "x").unwrap();
    symlink("bin/run", directory.path().join("link")).unwrap();
    let table = [
        (Compression::None, "72dd9d59f4cb"),
        (Compression::Gzip, "89e8cf4edf37"),
        (Compression::Zstd, "e4513110698b"),
    ];
    let found = table.map(|(compression, _)| {
        let options = PackOptions {
            compression,
            source_date: None,
        };
        packed(&[directory.path().to_owned()], &options)
            .1
            .digest
            .short()
            .to_owned()
    });
    assert_eq!(found, table.map(|(_, digest)| digest));
}

#[test]
fn source_date_clamps_later_times_and_keeps_earlier_ones() {
    let directory = tempfile::tempdir().unwrap();
    grow(directory.path(), &["early", "b/late"], 0o022, 1_000);
    let late = fs::File::options()
        .write(true)
        .open(directory.path().join("b/late"))
        .unwrap();
    late.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(9_000))
        .unwrap();
    let options = PackOptions {
        compression: Compression::None,
        source_date: Some(5_000),
    };
    let (bytes, _) = packed(&[directory.path().to_owned()], &options);
    let place = Place::new();
    place.unpack(&[bytes], &UnpackOptions::default()).unwrap();
    let lines = listing(&place.root()).join("\n");
    assert!(lines.contains("early 644 @1000 "), "{lines}");
    assert!(lines.contains("b/late 644 @5000 "), "{lines}");
    assert!(lines.contains("b/ 755 @5000"), "{lines}");
}

#[test]
fn several_paths_become_one_tree() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for (name, content) in [
        ("one/shared/a", "1"),
        ("two/shared/b", "2"),
        ("three/shared/a", "3"),
        ("program", "p"),
    ] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), content).unwrap();
    }
    symlink("one", at("alias")).unwrap();
    let options = PackOptions {
        compression: Compression::None,
        source_date: None,
    };
    let (bytes, _) = packed(&[at("program"), at("alias"), at("two")], &options);
    let unpacked = Place::new();
    unpacked
        .unpack(&[bytes], &UnpackOptions::default())
        .unwrap();
    let names: Vec<_> = listing(&unpacked.root())
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["program", "shared/", "shared/a", "shared/b"]);
    let error = pack(&[at("one"), at("three")], Vec::new(), &options).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Duplicate { name, .. } if name == "shared/a"),
        "{error}"
    );
    let error = pack(&[at("program"), at("program")], Vec::new(), &options).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Duplicate { name, .. } if name == "program"),
        "{error}"
    );
}

#[test]
fn what_no_layer_holds_is_refused_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let options = PackOptions::default();
    let _socket = UnixListener::bind(directory.path().join("socket")).unwrap();
    let error = pack(&[directory.path().to_owned()], Vec::new(), &options).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/socket` is a socket, which no layer can hold"),
        "{error}"
    );
    let error = pack(&[directory.path().join("missing")], Vec::new(), &options).unwrap_err();
    assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join(".wh."), "").unwrap();
    let error = pack(&[other.path().to_owned()], Vec::new(), &options).unwrap_err();
    assert!(matches!(error, ArchiveError::Unpackable { .. }), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_refused() {
    /// Appends to a file as soon as its content arrives.
    struct Meddler(PathBuf, bool);
    impl std::io::Write for Meddler {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.first() == Some(&b'#') && !std::mem::replace(&mut self.1, true) {
                fs::File::options()
                    .append(true)
                    .open(&self.0)?
                    .write_all(b"more")?;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "#".repeat(1 << 20)).unwrap();
    let options = PackOptions {
        compression: Compression::None,
        source_date: None,
    };
    let error = pack(
        &[directory.path().to_owned()],
        Meddler(path.clone(), false),
        &options,
    )
    .unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Changed(changed) if *changed == path),
        "{error}"
    );
}

#[test]
fn gnu_tar_reads_what_is_packed_and_what_it_writes_is_read() {
    if Command::new("tar").arg("--version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let deep = ["directory-with-a-long-name"; 12].join("/");
    grow(
        directory.path(),
        &[
            "b/run.sh",
            "link-b/run.sh",
            "plain",
            &format!("{deep}/file"),
        ],
        0o022,
        1_500_000_000,
    );
    symlink("x".repeat(300), directory.path().join("far")).unwrap();
    let options = PackOptions {
        compression: Compression::Gzip,
        source_date: Some(1_400_000_000),
    };
    let (bytes, _) = packed(&[directory.path().to_owned()], &options);
    let place = Place::new();
    place.unpack(&[bytes], &UnpackOptions::default()).unwrap();
    let theirs = place.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new("tar").args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let layer = place.path().join("layer0");
    run(&[
        "-xpf".as_ref(),
        layer.as_os_str(),
        "-C".as_ref(),
        theirs.as_os_str(),
    ]);
    assert_eq!(listing(&place.root()), listing(&theirs));
    for format in ["--format=gnu", "--format=pax"] {
        let archive = place.path().join("gnu.tar");
        run(&[
            "-cf".as_ref(),
            archive.as_os_str(),
            format.as_ref(),
            "-C".as_ref(),
            directory.path().as_os_str(),
            ".".as_ref(),
        ]);
        let again = Place::new();
        again
            .unpack(&[fs::read(&archive).unwrap()], &UnpackOptions::default())
            .unwrap();
        assert_eq!(
            listing(&again.root()),
            listing(directory.path()),
            "{format}"
        );
    }
}
