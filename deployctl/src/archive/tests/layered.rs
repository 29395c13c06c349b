//! How layers merge: what stands where after all of them.

use super::{
    super::{Layers, Limits, UnpackOptions, unpack},
    Place, Tar,
};

fn merged(layers: &[Tar]) -> Vec<String> {
    let place = Place::new();
    let archives: Vec<_> = layers.iter().map(|tar| tar.clone().finish()).collect();
    let sources = place.layers(&archives);
    let mut layers = Layers::open(&sources, Default::default()).unwrap();
    let plan = layers.plan(&Limits::default()).unwrap();
    // What is planned can be written, always.
    let unpacked = unpack(&sources, &place.root(), &UnpackOptions::default()).unwrap();
    assert_eq!(unpacked, plan.summary());
    let lines = plan.survivors.lines();
    assert_eq!(super::listing(&place.root()).len(), lines.len() - 1);
    lines
}

#[test]
fn later_entries_replace_earlier_ones_whatever_either_is() {
    let file = || Tar::new().file("x", "1");
    let directory = || Tar::new().directory("x").file("x/in", "1");
    let symlink = || Tar::new().symlink("x", "/etc");
    let link = || Tar::new().file("y", "1").link("x", "y");
    let table: Vec<(Tar, Tar, &[&str])> = vec![
        (file(), file(), &["x = 1.0"]),
        (file(), directory(), &["x/ 755", "x/in = 1.1"]),
        (file(), symlink(), &["x -> /etc"]),
        (file(), link(), &["x = 1.0", "y = 1.0"]),
        (directory(), file(), &["x = 1.0"]),
        (directory(), symlink(), &["x -> /etc"]),
        (symlink(), file(), &["x = 1.0"]),
        (symlink(), directory(), &["x/ 755", "x/in = 1.1"]),
        (symlink(), symlink(), &["x -> /etc"]),
        (link(), file(), &["x = 1.0", "y = 0.0"]),
        // The way to a file of this layer may be a file of a lower one.
        (
            file(),
            Tar::new().file("x/in", "2"),
            &["x/ 755", "x/in = 1.0"],
        ),
    ];
    for (lower, upper, expected) in table {
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.insert(0, "/ 755".to_owned());
        assert_eq!(merged(&[lower, upper]), expected);
    }
}

#[test]
fn directory_over_directory_keeps_children_and_takes_metadata() {
    let lower = Tar::new().directory("d").file("d/a", "1").file("d/b", "1");
    let upper = Tar::new()
        .raw(b'5', b"d", b"", b"", |header| header.set_mode(0o700))
        .file("d/b", "2");
    assert_eq!(
        merged(&[lower, upper]),
        ["/ 755", "d/ 700", "d/a = 0.1", "d/b = 1.1"]
    );
}

#[test]
fn of_duplicates_in_one_layer_the_last_wins() {
    let tar = Tar::new()
        .file("a", "1")
        .file("a", "2")
        .symlink("s", "x")
        .directory("s")
        .file("s/in", "3");
    assert_eq!(merged(&[tar]), ["/ 755", "a = 0.1", "s/ 755", "s/in = 0.4"]);
}

#[test]
fn hard_links_keep_the_content_that_they_named() {
    let lower = Tar::new().file("a", "old").link("b", "a");
    let upper = Tar::new().file("a", "new").link("c", "./b");
    assert_eq!(
        merged(&[lower, upper]),
        ["/ 755", "a = 1.0", "b = 0.0", "c = 0.0"]
    );
}

#[test]
fn whiteouts_remove_from_lower_layers_only_in_any_order() {
    let lower = || {
        Tar::new()
            .file("a", "1")
            .file("d/a", "1")
            .file("d/b", "1")
            .file("d/e/f", "1")
    };
    let table: Vec<(Tar, &[&str])> = vec![
        (
            Tar::new().file(".wh.a", ""),
            &[
                "d/ 755",
                "d/a = 0.1",
                "d/b = 0.2",
                "d/e/ 755",
                "d/e/f = 0.3",
            ],
        ),
        (Tar::new().file(".wh.d", ""), &["a = 0.0"]),
        (
            Tar::new().file("d/.wh.a", "").file("d/.wh.missing", ""),
            &["a = 0.0", "d/ 755", "d/b = 0.2", "d/e/ 755", "d/e/f = 0.3"],
        ),
        (
            Tar::new().file(".wh.a", "").file("a", "2"),
            &[
                "a = 1.1",
                "d/ 755",
                "d/a = 0.1",
                "d/b = 0.2",
                "d/e/ 755",
                "d/e/f = 0.3",
            ],
        ),
        (
            Tar::new().file("a", "2").file(".wh.a", ""),
            &[
                "a = 1.0",
                "d/ 755",
                "d/a = 0.1",
                "d/b = 0.2",
                "d/e/ 755",
                "d/e/f = 0.3",
            ],
        ),
        (
            Tar::new().file("d/new", "2").file(".wh.d", ""),
            &["a = 0.0", "d/ 755", "d/new = 1.0"],
        ),
        (
            Tar::new().file(".wh.d", "").file("d/new", "2"),
            &["a = 0.0", "d/ 755", "d/new = 1.1"],
        ),
        (
            Tar::new().file("d/.wh..wh..opq", ""),
            &["a = 0.0", "d/ 755"],
        ),
        (
            Tar::new().file("d/new", "2").file("d/.wh..wh..opq", ""),
            &["a = 0.0", "d/ 755", "d/new = 1.0"],
        ),
        (
            Tar::new().file("d/e/new", "2").file("d/.wh..wh..opq", ""),
            &["a = 0.0", "d/ 755", "d/e/ 755", "d/e/new = 1.0"],
        ),
        (
            Tar::new().file("d/.wh..wh..opq", "").file("d/new", "2"),
            &["a = 0.0", "d/ 755", "d/new = 1.1"],
        ),
        (
            Tar::new().file(".wh..wh..opq", "").file("n", "2"),
            &["n = 1.1"],
        ),
        (
            Tar::new().file(".wh..wh.plnk/1.2", "").file("n/.wh.x", ""),
            &[
                "a = 0.0",
                "d/ 755",
                "d/a = 0.1",
                "d/b = 0.2",
                "d/e/ 755",
                "d/e/f = 0.3",
            ],
        ),
    ];
    for (upper, expected) in table {
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.insert(0, "/ 755".to_owned());
        assert_eq!(merged(&[lower(), upper]), expected);
    }
}

#[test]
fn a_whiteout_may_stand_in_for_a_file_on_the_way() {
    let lower = Tar::new().file("d", "a file");
    let upper = Tar::new().file(".wh.d", "").file("d/new", "2");
    assert_eq!(merged(&[lower, upper]), ["/ 755", "d/ 755", "d/new = 1.1"]);
}

#[test]
fn long_names_and_sizes_come_from_the_last_header_that_gives_them() {
    let long = format!("{}/file", "d".repeat(120));
    let tar = Tar::new()
        .pax(&[("path", "wrong"), ("path", &long), ("size", "3")])
        // Readers that overlook the PAX size would take the content for a header.
        .raw(b'0', b"short", b"", b"abc", |header| header.set_size(0))
        .raw(
            b'L',
            b"././@LongLink",
            b"",
            format!("{}\0", "n".repeat(150)).as_bytes(),
            |_| {},
        )
        .file("short", "x")
        .records(b'g', &[("comment", "made by git")])
        .file("last", "x");
    let expected = [
        "/ 755".to_owned(),
        format!("{}/ 755", "d".repeat(120)),
        format!("{long} = 0.0"),
        "last = 0.2".to_owned(),
        format!("{} = 0.1", "n".repeat(150)),
    ];
    assert_eq!(merged(&[tar]), expected);
}

#[test]
fn whiteouts_behind_a_link_that_replaced_their_directory_remove_nothing() {
    // As umoci writes a directory that became a link: the link, then what is gone.
    let lower = Tar::new()
        .directory("d")
        .file("d/a", "1")
        .directory("e")
        .file("e/a", "2");
    let upper = Tar::new()
        .symlink("d", "e")
        .file("d/.wh.a", "")
        .file("d/in/.wh.b", "");
    assert_eq!(
        merged(&[lower.clone(), upper]),
        ["/ 755", "d -> e", "e/ 755", "e/a = 0.3"]
    );
    // Behind a lower layer's link it is anybody's guess what is meant.
    let linked = lower.symlink("l", "e");
    let place = Place::new();
    let sources = place.layers(&[linked.finish(), Tar::new().file("l/.wh.a", "").finish()]);
    let mut layers = Layers::open(&sources, Default::default()).unwrap();
    let refused = layers.plan(&Limits::default()).map(|_| ()).unwrap_err();
    assert_eq!(
        refused.cause().to_string(),
        "entry `l/.wh.a` is refused: it would be written through the symbolic link `l`"
    );
}
