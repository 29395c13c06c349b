//! Names that remove what lower layers brought, and those that would remove more than that.

use super::{Case, Tar, accepted, refused};

const BAD: &str = "it is no whiteout of a name beside it";
const OPAQUE: &str = ".wh..wh..opq";

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let below = || {
        Tar::new()
            .file("a", "1")
            .directory("d")
            .file("d/f", "1")
            .file("d/e/f", "1")
    };
    let link = || Tar::new().symbolic_link("a", outside);
    let through = "it would be written through the symbolic link `a`";
    let alone = |name: &str| [below(), Tar::new().file(name, "")];
    let opaque = format!("d/{OPAQUE}");
    let rest = ["a=1", "d/", "d/f=1", "d/e/ @0", "d/e/f=1"];
    let mut cases: Vec<_> = [
        ("whiteout-of-nothing", "d/.wh."),
        ("whiteout-of-the-directory", "d/.wh.."),
        ("whiteout-upwards", "d/.wh..."),
        ("whiteout-upwards-from-the-root", ".wh..."),
        ("whiteout-with-something-below", ".wh.d/f"),
        ("opaque-with-something-below", ".wh..wh..opq/f"),
    ]
    .map(|(name, entry)| refused(name, alone(entry), entry, BAD))
    .into();
    cases.extend([
        refused(
            "whiteout-with-a-way-upwards",
            alone(".wh.d/../../secret"),
            ".wh.d/../../secret",
            "its name has `..` in it",
        ),
        refused(
            "whiteout-that-is-a-directory",
            [below(), Tar::new().directory(".wh.a")],
            ".wh.a",
            BAD,
        ),
        refused(
            "whiteout-that-is-a-link",
            [below(), Tar::new().symbolic_link(".wh.a", outside)],
            ".wh.a",
            BAD,
        ),
        refused(
            "whiteout-that-is-a-device",
            [below(), Tar::new().entry(b'3', ".wh.a", "", "", |_| {})],
            ".wh.a",
            BAD,
        ),
        refused(
            "opaque-that-is-a-directory",
            [below(), Tar::new().directory(&opaque)],
            &opaque,
            BAD,
        ),
        refused(
            "whiteout-through-a-link",
            [link(), Tar::new().file("a/.wh.secret", "")],
            "a/.wh.secret",
            through,
        ),
        refused(
            "opaque-through-a-link",
            [link(), Tar::new().file("a/.wh..wh..opq", "")],
            "a/.wh..wh..opq",
            through,
        ),
        refused(
            "whiteout-through-a-link-of-its-layer",
            [link().file("a/.wh.secret", "")],
            "a/.wh.secret",
            through,
        ),
        accepted(
            "whiteout-of-what-went-with-the-directory-that-is-a-link-now",
            [
                Tar::new().directory("a").file("a/secret", "1"),
                link().file("a/.wh.secret", "").file("a/b/.wh.c", ""),
            ],
            &[&format!("a->{outside}")],
        ),
        refused(
            "opaque-behind-the-link-that-replaced-the-directory",
            [
                Tar::new().directory("a").file("a/secret", "1"),
                link().file("a/.wh..wh..opq", ""),
            ],
            "a/.wh..wh..opq",
            through,
        ),
        refused(
            "whiteout-of-another-name-than-the-link",
            [link(), Tar::new().file("a/secret", "x").file(".wh.b", "")],
            "a/secret",
            through,
        ),
        refused(
            "whiteout-in-a-layer-too-late",
            [
                link(),
                Tar::new().file("a/secret", "x"),
                Tar::new().file(".wh.a", ""),
            ],
            "a/secret",
            through,
        ),
        refused(
            "whiteout-leaves-the-link-of-its-own-layer",
            [
                Tar::new().file("a", "1"),
                link().file(".wh.a", "").file("a/secret", "x"),
            ],
            "a/secret",
            through,
        ),
        accepted(
            "whiteout-of-a-link-makes-room",
            [
                link(),
                Tar::new().file(".wh.a", "").file("a/secret", "mine"),
            ],
            &["a/ @0", "a/secret=mine"],
        ),
        accepted(
            "whiteout-of-a-link-makes-room-afterwards-too",
            [
                link(),
                Tar::new().file("a/secret", "mine").file(".wh.a", ""),
            ],
            &["a/ @0", "a/secret=mine"],
        ),
        accepted(
            "opaque-above-a-link-makes-room",
            [
                Tar::new().symbolic_link("d/a", outside),
                Tar::new().file(&opaque, "").file("d/a/secret", "mine"),
            ],
            &["d/ @0", "d/a/ @0", "d/a/secret=mine"],
        ),
        accepted(
            "opaque-above-a-link-makes-room-afterwards-too",
            [
                Tar::new().symbolic_link("d/a", outside),
                Tar::new().file("d/a/secret", "mine").file(&opaque, ""),
            ],
            &["d/ @0", "d/a/ @0", "d/a/secret=mine"],
        ),
        accepted(
            "whiteout-of-a-directory-above-a-link-makes-room-afterwards",
            [
                Tar::new().symbolic_link("d/a", outside),
                Tar::new().file("d/a/secret", "mine").file(".wh.d", ""),
            ],
            &["d/ @0", "d/a/ @0", "d/a/secret=mine"],
        ),
        accepted(
            "whiteout-of-a-link-takes-the-link-only",
            [link(), Tar::new().file(".wh.a", "")],
            &[],
        ),
        accepted(
            "whiteout-that-is-a-hard-link",
            [below(), Tar::new().file("g", "2").hard_link(".wh.a", "g")],
            &["d/", "d/f=1", "d/e/ @0", "d/e/f=1", "g=2"],
        ),
        accepted(
            "whiteout-with-content-has-none",
            [below(), Tar::new().file(".wh.a", "content").file("g", "2")],
            &["d/", "d/f=1", "d/e/ @0", "d/e/f=1", "g=2"],
        ),
        accepted(
            "whiteouts-of-what-is-not-there",
            [
                below(),
                Tar::new()
                    .file(".wh.b", "")
                    .file("a/.wh.b", "")
                    .file("x/y/.wh.b", ""),
            ],
            &rest,
        ),
        accepted(
            "whiteout-in-the-lowest-layer",
            [below().file(".wh.a", "").file(&opaque, "")],
            &rest,
        ),
        accepted(
            "whiteout-of-a-name-with-dots",
            [
                Tar::new().file(".x", "1").file("..x", "1").file("x", "1"),
                Tar::new().file(".wh..x", "").file(".wh...x", ""),
            ],
            &["x=1"],
        ),
        accepted(
            "names-that-are-almost-whiteouts",
            [Tar::new()
                .file(".wh", "1")
                .file(".whx", "2")
                .file("a.wh.b", "3")],
            &[".wh=1", ".whx=2", "a.wh.b=3"],
        ),
        accepted(
            "files-of-aufs-are-passed-over",
            [
                below(),
                Tar::new()
                    .directory(".wh..wh.plnk")
                    .file(".wh..wh.plnk/1.2", "x")
                    .file(".wh..wh.aufs", "x")
                    .entry(b'3', ".wh..wh.orph", "", "", |_| {})
                    .file("d/.wh..wh.x", "x"),
            ],
            &rest,
        ),
        accepted(
            "opaque-and-made-again",
            [
                below(),
                Tar::new()
                    .file(&opaque, "")
                    .directory("d")
                    .file("d/new", "2")
                    .file("d/f", "2"),
            ],
            &["a=1", "d/", "d/new=2", "d/f=2"],
        ),
        accepted(
            "made-again-and-opaque",
            [
                below(),
                Tar::new()
                    .file("d/f", "2")
                    .file("d/e/new", "2")
                    .file(&opaque, ""),
            ],
            &["a=1", "d/", "d/f=2", "d/e/ @0", "d/e/new=2"],
        ),
        accepted(
            "opaque-two-layers-above",
            [
                below(),
                Tar::new().file("d/g", "2"),
                Tar::new().file(&opaque, "").file("d/h", "3"),
            ],
            &["a=1", "d/", "d/h=3"],
        ),
        accepted(
            "opaque-root",
            [below(), Tar::new().file("n", "2").file(OPAQUE, "")],
            &["n=2"],
        ),
        accepted(
            "opaque-where-a-file-was",
            [
                Tar::new().file("d", "1"),
                Tar::new().file(&opaque, "").file("d/f", "2"),
            ],
            &["d/ @0", "d/f=2"],
        ),
        accepted(
            "whiteout-and-a-link-in-its-place",
            [
                below(),
                Tar::new().file(".wh.d", "").symbolic_link("d", outside),
            ],
            &["a=1", &format!("d->{outside}")],
        ),
        accepted(
            "link-and-the-whiteout-behind-it",
            [
                below(),
                Tar::new().symbolic_link("d", outside).file(".wh.d", ""),
            ],
            &["a=1", &format!("d->{outside}")],
        ),
    ]);
    for (name, upper) in [
        (
            "whiteout-before-the-new-file",
            Tar::new().file(".wh.d", "").file("d/new", "2"),
        ),
        (
            "whiteout-behind-the-new-file",
            Tar::new().file("d/new", "2").file(".wh.d", ""),
        ),
    ] {
        cases.push(accepted(
            name,
            [below(), upper],
            &["a=1", "d/ @0", "d/new=2"],
        ));
    }
    cases
}
