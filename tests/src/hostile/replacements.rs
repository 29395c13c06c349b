//! Names that are given more than once, as whatever kind, in one layer and over several.

use super::{Case, Tar, accepted};

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let secret = format!("{outside}/secret");
    let link = || Tar::new().symbolic_link("x", outside);
    let file = || Tar::new().file("x", "1");
    let directory = || Tar::new().directory("x").file("x/in", "1");
    let to_outside = format!("x->{outside}");
    let mut cases = vec![
        accepted(
            "last-duplicate-wins",
            [Tar::new().file("a", "1").file("b", "x").file("./a", "2")],
            &["a=2", "b=x"],
        ),
        accepted(
            "file-takes-a-link-instead-of-following-it",
            [Tar::new().symbolic_link("x", &secret).file("x", "mine")],
            &["x=mine"],
        ),
        accepted(
            "directory-takes-a-link-instead-of-following-it",
            [link().entry(b'5', "x", "", "", |block| {
                block[100..108].copy_from_slice(b"0000700\0")
            })],
            &["x/ 700"],
        ),
        accepted(
            "directory-takes-a-link-and-is-filled",
            [link().directory("x").file("x/secret", "mine")],
            &["x/", "x/secret=mine"],
        ),
        accepted(
            "link-takes-a-filled-directory",
            [directory().symbolic_link("x", outside)],
            &[&to_outside],
        ),
        accepted(
            "file-takes-a-filled-directory",
            [directory().file("x", "2")],
            &["x=2"],
        ),
        accepted(
            "hard-link-takes-a-link",
            [Tar::new()
                .file("f", "y")
                .symbolic_link("x", &secret)
                .hard_link("x", "f")],
            &["f=y", "x==f"],
        ),
        accepted(
            "directory-over-a-directory-keeps-what-is-in-it",
            [
                directory(),
                Tar::new()
                    .entry(b'5', "x", "", "", |block| {
                        block[100..108].copy_from_slice(b"0000700\0")
                    })
                    .file("x/new", "2"),
            ],
            &["x/ 700", "x/in=1", "x/new=2"],
        ),
        accepted(
            "file-on-the-way-gives-place-to-an-upper-layer",
            [file(), Tar::new().file("x/in", "2")],
            &["x/ @0", "x/in=2"],
        ),
        accepted(
            "link-becomes-a-directory-above",
            [link(), directory()],
            &["x/", "x/in=1"],
        ),
        accepted(
            "there-and-back-over-four-layers",
            [directory(), link(), file(), directory()],
            &["x/", "x/in=1"],
        ),
    ];
    for (name, lower, upper, expected) in [
        (
            "file-over-a-file",
            file(),
            Tar::new().file("x", "2"),
            vec!["x=2"],
        ),
        ("file-over-a-directory", directory(), file(), vec!["x=1"]),
        ("file-over-a-link", link(), file(), vec!["x=1"]),
        (
            "link-over-a-file",
            file(),
            link(),
            vec![to_outside.as_str()],
        ),
        (
            "link-over-a-directory",
            directory(),
            link(),
            vec![to_outside.as_str()],
        ),
        (
            "link-over-a-link",
            Tar::new().symbolic_link("x", "a"),
            link(),
            vec![to_outside.as_str()],
        ),
        (
            "directory-over-a-file",
            file(),
            directory(),
            vec!["x/", "x/in=1"],
        ),
        (
            "directory-over-a-link",
            link(),
            directory(),
            vec!["x/", "x/in=1"],
        ),
    ] {
        cases.push(accepted(name, [lower, upper], &expected));
    }
    cases
}
