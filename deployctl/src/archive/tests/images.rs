//! Layers of images: what container engines read otherwise than an archive of ours is read.

use super::{
    super::{
        ArchiveError, Dialect, FlattenOptions, LayerSource, Layers, Limits, Rule, UnpackOptions,
        flatten, unpack,
    },
    Place, Tar,
};

fn sources(place: &Place, layers: &[Tar], dialect: Dialect) -> Vec<LayerSource> {
    let archives: Vec<_> = layers.iter().map(|tar| tar.clone().finish()).collect();
    let sources = place.layers(&archives).into_iter();
    sources
        .map(|source| LayerSource { dialect, ..source })
        .collect()
}

fn planned(layers: &[Tar], dialect: Dialect) -> Result<(Vec<String>, u64), ArchiveError> {
    let place = Place::new();
    let sources = sources(&place, layers, dialect);
    let plan = Layers::open(&sources, Default::default())
        .unwrap()
        .plan(&Limits::default());
    let unpacked = unpack(&sources, &place.root(), &UnpackOptions::default());
    assert_eq!(
        std::fs::read_to_string(place.path().join("outside")).unwrap(),
        "untouched"
    );
    let plan = plan?;
    // What is planned can be written, always.
    assert_eq!(unpacked.unwrap(), plan.summary());
    let lines = plan.survivors.lines();
    assert_eq!(super::listing(&place.root()).len(), lines.len() - 1);
    Ok((lines, plan.left_out))
}

/// What stands there, without the root and with the modes of directories left out.
fn tree(layers: &[Tar]) -> Vec<String> {
    let (lines, left_out) = planned(layers, Dialect::Image).unwrap();
    assert_eq!(left_out, 0);
    let lines = lines.iter().skip(1);
    lines
        .map(|line| line.trim_end_matches(" 755").to_owned())
        .collect()
}

/// The rule by which layers are refused, and the entry.
fn refused(layers: &[Tar], dialect: Dialect) -> (String, Rule) {
    match planned(layers, dialect).unwrap_err().cause() {
        ArchiveError::Refused { entry, rule } => (entry.clone(), rule.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ways_through_links_end_where_a_root_of_ones_own_has_them() {
    let usr = || Tar::new().file("usr/lib/a", "1");
    let table: Vec<(Vec<Tar>, &[&str])> = vec![
        // As systems have it that have merged /usr.
        (
            vec![
                usr().symlink("lib", "usr/lib"),
                Tar::new().file("lib/b", "2"),
            ],
            &[
                "lib -> usr/lib",
                "usr/",
                "usr/lib/",
                "usr/lib/a = 0.0",
                "usr/lib/b = 1.0",
            ],
        ),
        (
            vec![
                usr().symlink("lib", "/usr/lib"),
                Tar::new().file("lib/a", "2"),
            ],
            &["lib -> /usr/lib", "usr/", "usr/lib/", "usr/lib/a = 1.0"],
        ),
        // Nothing is above the root, wherever a link says that it leads.
        (
            vec![
                Tar::new().symlink("up", "../../../../outside"),
                Tar::new().file("up/b", "2"),
            ],
            &["outside/", "outside/b = 1.0", "up -> ../../../../outside"],
        ),
        (
            vec![
                Tar::new()
                    .directory("a/b")
                    .symlink("a/b/up", "../../c/.//d"),
                Tar::new().file("a/b/up/e", "2"),
            ],
            &[
                "a/",
                "a/b/",
                "a/b/up -> ../../c/.//d",
                "c/",
                "c/d/",
                "c/d/e = 1.0",
            ],
        ),
        // Through one link to another, in the layer that has them too.
        (
            vec![
                Tar::new()
                    .symlink("x", "y")
                    .symlink("y", "z/")
                    .file("x/a", "1"),
            ],
            &["x -> y", "y -> z/", "z/", "z/a = 0.2"],
        ),
        (
            vec![
                usr().symlink("lib", "usr/lib"),
                Tar::new().link("c", "lib/a"),
            ],
            &[
                "c = 0.0",
                "lib -> usr/lib",
                "usr/",
                "usr/lib/",
                "usr/lib/a = 0.0",
            ],
        ),
        // What is removed is removed behind the link; the link itself is what a whiteout names.
        (
            vec![
                usr().symlink("lib", "usr/lib"),
                Tar::new().file("lib/.wh.a", ""),
            ],
            &["lib -> usr/lib", "usr/", "usr/lib/"],
        ),
        (
            vec![
                usr().symlink("lib", "usr/lib"),
                Tar::new().file("lib/.wh..wh..opq", ""),
            ],
            &["lib -> usr/lib", "usr/", "usr/lib/"],
        ),
        (
            vec![
                usr().symlink("lib", "usr/lib"),
                Tar::new().file(".wh.lib", ""),
            ],
            &["usr/", "usr/lib/", "usr/lib/a = 0.0"],
        ),
        // A directory of its own takes the link's place.
        (
            vec![
                usr().symlink("lib", "usr/lib"),
                Tar::new().directory("lib").file("lib/b", "2"),
            ],
            &["lib/", "lib/b = 1.1", "usr/", "usr/lib/", "usr/lib/a = 0.0"],
        ),
        // A file of a lower layer behind it gives place, as anywhere.
        (
            vec![
                Tar::new().file("usr", "1").symlink("lib", "usr/lib"),
                Tar::new().file("lib/b", "2"),
            ],
            &["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/b = 1.0"],
        ),
    ];
    for (layers, expected) in table {
        assert_eq!(tree(&layers), expected);
    }
}

#[test]
fn ways_without_end_are_refused() {
    let far = |name: &str| Rule::LinksTooFar(name.to_owned());
    let circle = [
        Tar::new().symlink("x", "y").symlink("y", "x"),
        Tar::new().file("x/a", "1"),
    ];
    let (entry, rule) = refused(&circle, Dialect::Image);
    assert!(
        entry == "x/a" && (rule == far("x") || rule == far("y")),
        "{rule:?}"
    );
    let itself = [
        Tar::new().symlink("x", "./x/../x/"),
        Tar::new().file("x/a", "1"),
    ];
    assert_eq!(
        refused(&itself, Dialect::Image),
        ("x/a".to_owned(), far("x"))
    );
    // Longer and longer, until no path could name it.
    let mut longer = Tar::new().symlink("l0", &"d/".repeat(40));
    for number in 1..12 {
        let target = format!("l{}/{}", number - 1, "d/".repeat(40));
        longer = longer.symlink(&format!("l{number}"), &target);
    }
    let deep = Tar::new().symlink("deep", &"d/".repeat(49));
    let deep = deep.file("deep/a", "1");
    assert!(planned(&[deep], Dialect::Image).is_ok());
    let (entry, rule) = refused(&[longer, Tar::new().file("l11/a", "1")], Dialect::Image);
    assert_eq!(entry, "l11/a");
    assert!(matches!(rule, Rule::LinksTooFar(_)), "{rule:?}");
    let file = [Tar::new().file("a", "1").symlink("l", "a").file("l/b", "2")];
    assert_eq!(
        refused(&file, Dialect::Image),
        ("l/b".to_owned(), Rule::ThroughFile("a".to_owned()))
    );
}

#[test]
fn names_may_begin_with_a_slash() {
    let layers = [
        Tar::new()
            .directory("/")
            .file("//etc/a", "1")
            .link("/b", "/etc/a"),
        Tar::new().file("/etc/.wh.a", ""),
    ];
    assert_eq!(tree(&layers), ["b = 0.1", "etc/"]);
    assert_eq!(
        refused(&layers, Dialect::Own),
        ("//etc/a".to_owned(), Rule::Absolute)
    );
    let up = [Tar::new().file("/../a", "1")];
    assert_eq!(refused(&up, Dialect::Image).1, Rule::ParentDirectory);
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_another_one() {
    let layers = [
        Tar::new().symlink("a", "somewhere").link("b", "a"),
        // It keeps what it was when the first one goes.
        Tar::new().file("a", "1"),
    ];
    assert_eq!(tree(&layers), ["a = 1.0", "b -> somewhere"]);
    let missing = Rule::HardLinkTarget("a".to_owned());
    assert_eq!(refused(&layers, Dialect::Own), ("b".to_owned(), missing));
}

#[test]
fn devices_and_pipes_are_left_out_with_what_they_replace() {
    let layers = [
        Tar::new()
            .file("dev/null", "written by mistake")
            .file("a", "1"),
        Tar::new().raw(b'3', b"dev/null", b"", b"", |_| {}).raw(
            b'6',
            b"run/pipe",
            b"",
            b"",
            |_| {},
        ),
    ];
    let (lines, left_out) = planned(&layers, Dialect::Image).unwrap();
    assert_eq!(left_out, 2);
    assert_eq!(lines[1..], ["a = 0.1", "dev/ 755", "run/ 755"]);
    let (entry, rule) = refused(&layers, Dialect::Own);
    assert!(
        entry == "dev/null" && matches!(rule, Rule::Special(_)),
        "{rule:?}"
    );
}

#[test]
fn layers_of_both_kinds_make_one_tree_and_one_archive() {
    let place = Place::new();
    let layers = [
        Tar::new().file("usr/lib/a", "1").symlink("lib", "usr/lib"),
        Tar::new().file("lib/b", "2"),
        Tar::new().file("usr/lib/c", "3"),
    ];
    let mut sources = sources(&place, &layers, Dialect::Image);
    sources[2].dialect = Dialect::Own;
    let mut flat = Vec::new();
    flatten(&sources, &mut flat, &FlattenOptions::default()).unwrap();
    unpack(&sources, &place.root(), &UnpackOptions::default()).unwrap();
    let one = Place::new();
    one.unpack(&[flat], &UnpackOptions::default()).unwrap();
    assert_eq!(super::listing(&one.root()), super::listing(&place.root()));
    // What another layer may does not go for ours.
    sources[1].dialect = Dialect::Own;
    let error = Layers::open(&sources, Default::default())
        .unwrap()
        .plan(&Limits::default())
        .map(drop)
        .unwrap_err();
    assert!(error.is_of("l1"), "{error}");
}
