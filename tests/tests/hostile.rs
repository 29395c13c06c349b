//! Every archive of the hostile corpus, unpacked between things that it must not touch: by the library, and by
//! the agent as a release.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy_spec::Digest;
use deploy_tests::archive::{gzip, zstd};
use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::hostile::{Case, Outcome, Surroundings, Tar, corpus, picture};
use deploy_tests::peers;
use deployctl::archive::{Dialect, LayerSource, Layers, UnpackOptions, unpack};
use serde_json::json;
use tempfile::TempDir;

/// Writes layers to files.
fn sources(directory: &Path, layers: &[Vec<u8>]) -> Vec<LayerSource> {
    let write = |(number, bytes): (usize, &Vec<u8>)| {
        let path = directory.join(number.to_string());
        std::fs::write(&path, bytes).unwrap();
        LayerSource {
            name: format!("layer {number}"),
            path,
            growing: None,
            digest: Digest::sha256(bytes),
            size: Some(bytes.len() as u64),
            diff_id: None,
            dialect: Dialect::Own,
        }
    };
    layers.iter().enumerate().map(write).collect()
}

/// The options that the agent makes of a case's flags.
fn options(case: &Case) -> UnpackOptions {
    let mut options = UnpackOptions::default();
    let limits = &mut options.limits;
    for (flag, value) in &case.flags {
        if *flag == "xattrs" {
            let patterns = value.split(',').map(|pattern| pattern.parse().unwrap());
            options.extended_attributes = patterns.collect();
            continue;
        }
        let number = match value.strip_suffix("MiB") {
            Some(value) => value.parse::<u64>().unwrap() << 20,
            None => value.parse().unwrap_or_default(),
        };
        match *flag {
            "max-entries" => limits.entries = number,
            "max-depth" => limits.depth = number,
            "max-unpacked" => limits.bytes = number,
            "max-ratio" => limits.ratio = number,
            "max-name" => limits.name_bytes = number,
            "ratio-floor" => limits.ratio_floor = number,
            other => panic!("{}: no flag `{other}`", case.name),
        }
    }
    options
}

/// An error with all its reasons.
fn told(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = reasons.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Returns what is not as it has to be, if anything.
fn judge(case: &Case, told: Result<Vec<String>, String>) -> Option<String> {
    let name = case.name;
    match (&case.outcome, told) {
        (Outcome::Refused(parts), Err(told)) => {
            let missing = parts.iter().find(|part| !told.contains(*part))?;
            Some(format!("{name}: no `{missing}` in `{told}`"))
        }
        (Outcome::Tree(tree), Ok(found)) if *tree == found => None,
        (expected, found) => Some(format!("{name}: {expected:?}, but {found:?}")),
    }
}

/// Unpacks layers of a case, whatever packing they have, and returns what is not as it has to be.
fn check(case: &Case, layers: &[Vec<u8>]) -> Option<String> {
    let files = TempDir::new().unwrap();
    let sources = sources(files.path(), layers);
    let place = Surroundings::new();
    let options = options(case);
    let watch = place.watch();
    let mut opened = Layers::open(&sources, Arc::clone(&options.stop)).unwrap();
    let planned = opened.plan(&options.limits);
    let unpacked = unpack(&sources, &place.staging(), &options);
    let (seen, name) = (watch.seen(), case.name);
    if !seen.is_empty() {
        return Some(format!("{name}: {seen:?}"));
    }
    let tree = picture(&place.staging());
    if unpacked.is_err() && !tree.is_empty() {
        return Some(format!("{name}: left {tree:?}"));
    }
    // Nothing that an archive says has been lost on the way, and nothing else has come.
    if unpacked.is_ok() {
        let described = opened.describe(&options).unwrap();
        let drifts = described.compare(&place.staging(), &options.stop).unwrap();
        if !drifts.is_empty() {
            return Some(format!("{name}: {drifts:?}"));
        }
    }
    // Where several layers together pass a limit, it is not always the same one that does.
    let planned = planned.map(|plan| plan.summary());
    if let (Ok(planned), Ok(unpacked)) = (&planned, &unpacked)
        && planned != unpacked
    {
        return Some(format!(
            "{name}: planned {planned:?}, unpacked {unpacked:?}"
        ));
    }
    // A plan is made without extended attributes.
    let planned = match case.flags.iter().any(|(flag, _)| *flag == "xattrs") {
        true => None,
        false => judge(
            case,
            planned.map(|_| tree.clone()).map_err(|error| told(&error)),
        ),
    };
    let unpacked = judge(case, unpacked.map(|_| tree).map_err(|error| told(&error)));
    planned.or(unpacked)
}

/// The corpus that tries to reach what stands around some directory.
fn cases(place: &Surroundings) -> Vec<Case> {
    let outside = place.outside();
    let mut cases = corpus(outside.to_str().unwrap());
    if !place.has_attributes() {
        peers::skip("hostile", "a temporary directory with extended attributes");
        cases.retain(|case| case.flags.iter().all(|(flag, _)| *flag != "xattrs"));
    }
    cases
}

#[test]
fn library_keeps_to_the_staging_directory_and_names_entry_and_rule() {
    let place = Surroundings::new();
    let cases = cases(&place);
    let watch = place.watch();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        wrong.extend(check(case, &case.layers));
        // What is compressed is judged in the same words.
        let plain = |layer: &Vec<u8>| layer.len() >= 512 && layer.len().is_multiple_of(512);
        if case.layers.iter().all(plain) {
            let compress = if number % 2 == 0 { gzip } else { zstd };
            let layers: Vec<_> = case.layers.iter().map(|layer| compress(layer)).collect();
            wrong.extend(check(case, &layers));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Where the absolute names lead.
    assert_eq!(watch.seen(), Vec::<String>::new());
}

/// What archives are called that have a whiteout of a link behind what goes through the link. Engines read in
/// order, so that what came first has gone where the link led.
const IN_ORDER: &str = "makes-room-afterwards";

#[test]
fn layers_of_images_keep_to_the_staging_directory_too() {
    let place = Surroundings::new();
    let cases = cases(&place);
    let watch = place.watch();
    let mut read_otherwise = 0;
    for case in &cases {
        let name = case.name;
        let files = TempDir::new().unwrap();
        let sources: Vec<_> = sources(files.path(), &case.layers)
            .into_iter()
            .map(|source| LayerSource {
                dialect: Dialect::Image,
                ..source
            })
            .collect();
        let (within, options) = (Surroundings::new(), options(case));
        let around = within.watch();
        let mut opened = Layers::open(&sources, Arc::clone(&options.stop)).unwrap();
        let planned = opened.plan(&options.limits).map(|plan| plan.summary());
        let unpacked = unpack(&sources, &within.staging(), &options);
        assert_eq!(around.seen(), Vec::<String>::new(), "{name}");
        let tree = picture(&within.staging());
        match &unpacked {
            Ok(unpacked) => {
                let described = opened.describe(&options).unwrap();
                let drifts = described.compare(&within.staging(), &options.stop);
                assert!(drifts.unwrap().is_empty(), "{name}");
                let without_attributes = case.flags.iter().all(|(flag, _)| *flag != "xattrs");
                if without_attributes {
                    assert_eq!(planned.as_ref().ok(), Some(unpacked), "{name}");
                }
            }
            Err(_) => assert_eq!(tree, Vec::<String>::new(), "{name}"),
        }
        // What an archive of ours may be means the same in an image.
        match (&case.outcome, unpacked) {
            (Outcome::Tree(_), Ok(_)) if name.contains(IN_ORDER) => {}
            (Outcome::Tree(expected), Ok(_)) => assert_eq!(*expected, tree, "{name}"),
            (Outcome::Tree(_), Err(error)) => panic!("{name}: {}", told(&error)),
            (Outcome::Refused(_), Ok(_)) => read_otherwise += 1,
            (Outcome::Refused(_), Err(_)) => {}
        }
    }
    assert!(read_otherwise > 5 && read_otherwise < cases.len() / 2);
    assert_eq!(watch.seen(), Vec::<String>::new());
}

/// Writes an image layout with one release of these layers.
fn layout(desk: &Desk, name: &str, layers: &[Vec<u8>]) {
    let blob = |bytes: &[u8], media_type: &str| {
        let digest = Digest::sha256(bytes);
        let path = digest.to_string().replace(':', "/");
        desk.write(&format!("{name}/blobs/{path}"), bytes);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    };
    let layer = |bytes: &Vec<u8>| {
        let suffix = match bytes.get(..4) {
            Some([0x1f, 0x8b, ..]) => "+gzip",
            Some([0x28, 0xb5, 0x2f, 0xfd]) => "+zstd",
            _ => "",
        };
        blob(
            bytes,
            &format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
        )
    };
    // Nothing is promised about what is in the layers.
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json"),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    let manifest = blob(
        manifest.to_string().as_bytes(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    desk.write(&format!("{name}/index.json"), index.to_string());
    desk.write(
        &format!("{name}/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    );
}

/// The names in the directory of a host's trees.
fn trees(desk: &Desk, host: &str) -> usize {
    std::fs::read_dir(desk.path(host).join("unpacked")).map_or(0, Iterator::count)
}

#[test]
fn agent_refuses_and_accepts_as_the_library_does() {
    let place = Surroundings::new();
    let cases = cases(&place);
    let source = Desk::at("");
    let watch = place.watch();
    // All of them take a minute.
    let step = if std::env::var_os("DEPLOY_TESTS_LONG").is_some() {
        1
    } else {
        7
    };
    for case in cases.iter().step_by(step) {
        if case.flags.iter().any(|(flag, _)| *flag == "ratio-floor") {
            continue;
        }
        layout(&source, case.name, &case.layers);
        let desk = Desk::at(format!("oci:{}", source.path(case.name).display()));
        let script = desk.script("deploy.sh", "true");
        let flags = case
            .flags
            .iter()
            .map(|(flag, value)| format!("--{flag}={value}"));
        let run = desk.agent_once("project", "host", &script).args(flags);
        let answer = match case.outcome {
            Outcome::Refused(_) => run.code(1),
            Outcome::Tree(_) => run.ok(),
        };
        let told = match answer.code {
            0 => Ok(picture(&desk.current("host"))),
            _ => Err(answer.stderr),
        };
        if told.is_err() {
            assert!(!desk.path("host/current").exists(), "{}", case.name);
            assert_eq!(trees(&desk, "host"), 0, "{}", case.name);
        }
        assert_eq!(judge(case, told), None);
        let mut names: Vec<_> = std::fs::read_dir(desk.home())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["deploy.sh", "host"], "{}", case.name);
    }
    assert_eq!(watch.seen(), Vec::<String>::new());
}

/// A file system that takes upper and lower case for the same, in a file; gone when it is dropped.
struct Folding {
    directory: TempDir,
}

impl Folding {
    /// Mounts one; nothing where this machine cannot, or this user may not.
    fn mount(test: &str) -> Option<Self> {
        let (Some(make), Some(mount)) = (find_administrative("mkntfs"), peers::find("lowntfs-3g"))
        else {
            peers::skip(test, "ntfs-3g");
            return None;
        };
        let directory = TempDir::new().unwrap();
        let (image, place) = (
            directory.path().join("image"),
            directory.path().join("mounted"),
        );
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(16 << 20).unwrap();
        std::fs::create_dir(&place).unwrap();
        Run::new(make).args(["-F", "-q", "-Q"]).arg(&image).ok();
        let options = ["-o", "ignore_case,permissions,streams_interface=none"];
        let answer = Run::new(mount)
            .args(options)
            .arg(&image)
            .arg(&place)
            .answer()
            .unwrap();
        if answer.code != 0 {
            peers::skip(test, "the right to mount a file system");
            return None;
        }
        Some(Self { directory })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        // Lazily: whatever still looks at it is no reason to keep it.
        let unmounted = Run::new("umount").arg("-l").arg(self.path()).answer();
        drop(unmounted);
    }
}

/// Finds a program that stands where users without rights do not look.
fn find_administrative(name: &str) -> Option<PathBuf> {
    let known = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).join(name));
    peers::find(name).or_else(|| known.into_iter().find(|path| path.is_file()))
}

#[test]
fn names_that_the_file_system_takes_for_one_are_refused() {
    let Some(folding) = Folding::mount("names_that_the_file_system_takes_for_one_are_refused")
    else {
        return;
    };
    let outside = "../outside";
    let table = [
        (
            "files",
            Tar::new().file("name", "1").file("Name", "2"),
            "name",
        ),
        (
            "files of any script",
            Tar::new().file("\u{e4}", "1").file("\u{c4}", "2"),
            "\u{e4}",
        ),
        (
            "directories",
            Tar::new().file("name/a", "1").file("NAME/b", "2"),
            "name",
        ),
        (
            "a directory and a file",
            Tar::new().file("name/a", "1").file("Name", "2"),
            "name",
        ),
        (
            "a link and a directory",
            Tar::new()
                .symbolic_link("name", outside)
                .file("Name/secret", "2"),
            "name",
        ),
        (
            "a link and a file",
            Tar::new()
                .symbolic_link("name", "../outside/secret")
                .file("Name", "2"),
            "name",
        ),
        (
            "links",
            Tar::new()
                .symbolic_link("name", "a")
                .symbolic_link("Name", outside),
            "name",
        ),
        (
            "a hard link and a file",
            Tar::new()
                .file("a", "1")
                .file("Name", "2")
                .hard_link("name", "a"),
            "name",
        ),
    ];
    // This file system loses its way where something new has the number of something removed.
    let mut places = Vec::new();
    for (what, tar, name) in table {
        let files = TempDir::new().unwrap();
        places.push(Surroundings::within(&folding.path()));
        let place = &places[places.len() - 1];
        let watch = place.watch();
        let sources = sources(files.path(), &[tar.end()]);
        let error = unpack(&sources, &place.staging(), &UnpackOptions::default()).unwrap_err();
        let told = told(&error);
        assert!(
            told.contains("the file system takes its name for that of another entry")
                && told.to_lowercase().contains(&format!("entry `{name}")),
            "{what}: {told}"
        );
        assert_eq!(watch.seen(), Vec::<String>::new(), "{what}");
    }
    let files = TempDir::new().unwrap();
    let place = Surroundings::within(&folding.path());
    let tar = Tar::new()
        .file("d/a", "1")
        .hard_link("b", "d/a")
        .symbolic_link("s", "../secret");
    unpack(
        &sources(files.path(), &[tar.end()]),
        &place.staging(),
        &UnpackOptions::default(),
    )
    .unwrap();
    assert_eq!(
        picture(&place.staging()),
        ["b=1", "d/ @0", "d/a==b", "s->../secret"]
    );
}
