//! Links that lead out of the tree, and entries that are to be written through them.

use super::{Case, Tar, accepted, refused};

/// The rule about an entry below the symbolic link `a`.
const THROUGH: &str = "it would be written through the symbolic link `a`";

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let mut cases = symbolic(outside);
    cases.extend(hard(outside));
    cases
}

fn symbolic(outside: &str) -> Vec<Case> {
    let link = |target: &str| Tar::new().symbolic_link("a", target);
    vec![
        refused(
            "file-through-a-link-upwards",
            [link("..").file("a/secret", "x")],
            "a/secret",
            THROUGH,
        ),
        refused(
            "file-through-an-absolute-link",
            [link(outside).file("a/secret", "x")],
            "a/secret",
            THROUGH,
        ),
        refused(
            "file-through-a-link-to-itself",
            [link(".").file("a/f", "x")],
            "a/f",
            THROUGH,
        ),
        refused(
            "file-through-a-link-within",
            [Tar::new()
                .directory("d")
                .symbolic_link("a", "d")
                .file("a/f", "x")],
            "a/f",
            THROUGH,
        ),
        refused(
            "directory-through-a-link",
            [link(outside).directory("a/new")],
            "a/new",
            THROUGH,
        ),
        refused(
            "directory-mode-through-a-link",
            [link(outside).entry(b'5', "a/directory", "", "", |block| {
                block[100..108].copy_from_slice(b"0000777\0")
            })],
            "a/directory",
            THROUGH,
        ),
        refused(
            "link-through-a-link",
            [link(outside).symbolic_link("a/new", "x")],
            "a/new",
            THROUGH,
        ),
        refused(
            "hard-link-name-through-a-link",
            [link(outside).file("f", "x").hard_link("a/new", "f")],
            "a/new",
            THROUGH,
        ),
        refused(
            "through-a-chain-of-links",
            [Tar::new()
                .symbolic_link("b", "..")
                .symbolic_link("a", "b")
                .file("a/secret", "x")],
            "a/secret",
            THROUGH,
        ),
        refused(
            "through-links-one-below-the-other",
            [Tar::new()
                .directory("d")
                .symbolic_link("d/a", "..")
                .symbolic_link("d/a/b", "..")
                .file("d/a/b/secret", "x")],
            "d/a/b",
            THROUGH,
        ),
        refused(
            "through-a-link-of-a-lower-layer",
            [link(outside), Tar::new().file("a/secret", "x")],
            "a/secret",
            THROUGH,
        ),
        refused(
            "directory-through-a-link-of-a-lower-layer",
            [link(outside), Tar::new().directory("a/new")],
            "a/new",
            THROUGH,
        ),
        refused(
            "through-a-link-two-layers-below",
            [
                link(outside),
                Tar::new().file("b", "x"),
                Tar::new().file("a/secret", "x"),
            ],
            "a/secret",
            THROUGH,
        ),
        refused(
            "through-a-link-that-took-a-directory",
            [Tar::new()
                .directory("a")
                .symbolic_link("a", outside)
                .file("a/secret", "x")],
            "a/secret",
            THROUGH,
        ),
        refused(
            "through-a-link-that-took-a-lower-directory",
            [
                Tar::new().directory("a").file("a/f", "x"),
                link(outside).file("a/f", "y"),
            ],
            "a/f",
            THROUGH,
        ),
        refused(
            "through-a-hard-link-to-a-link",
            [link(outside).hard_link("b", "a").file("b/secret", "x")],
            "b",
            "it links to `a`, which is no regular file before it",
        ),
        refused(
            "below-a-file",
            [Tar::new().file("a", "x").file("a/b", "y")],
            "a/b",
            "`a` on its way is no directory",
        ),
        refused(
            "link-to-nothing",
            [link("")],
            "a",
            "it is a symbolic link to nothing",
        ),
        refused(
            "link-with-too-long-a-target",
            [Tar::new()
                .pax(&[("linkpath", &"t".repeat(4096))])
                .symbolic_link("a", "x")],
            "a",
            "its target is too long",
        ),
        refused(
            "link-with-content",
            [Tar::new().entry(b'2', "a", outside, "x", |_| {})],
            "a",
            "it announces content that its type has not",
        ),
        accepted(
            "links-lead-where-they-like-and-nothing-follows",
            [Tar::new()
                .symbolic_link("absolute", outside)
                .symbolic_link("upwards", "../secret")
                .symbolic_link("to-itself", "to-itself")
                .symbolic_link("long", "t".repeat(100))],
            &[
                &format!("absolute->{outside}"),
                "upwards->../secret",
                "to-itself->to-itself",
                &format!("long->{}", "t".repeat(100)),
            ],
        ),
        accepted(
            "longest-target-there-is",
            [Tar::new()
                .pax(&[("linkpath", &"t".repeat(4095))])
                .symbolic_link("a", "x")],
            &[&format!("a->{}", "t".repeat(4095))],
        ),
    ]
}

fn hard(outside: &str) -> Vec<Case> {
    let absolute = format!("{outside}/secret");
    let none = |target: &str| format!("it links to `{target}`, which is no regular file before it");
    let away = |target: &str| format!("it links to `{target}` outside the tree");
    let link = |target: &str| [Tar::new().hard_link("h", target)];
    let mut cases: Vec<_> = [
        ("hard-link-upwards", "../secret", away("../secret")),
        (
            "hard-link-to-a-neighbour-that-begins-the-same",
            "../staging-beside/secret",
            away("../staging-beside/secret"),
        ),
        ("hard-link-to-an-absolute-name", &absolute, away(&absolute)),
        ("hard-link-to-nothing", "missing", none("missing")),
        ("hard-link-to-an-empty-name", "", none("")),
        ("hard-link-to-itself", "h", none("h")),
        ("hard-link-to-the-root", ".", none(".")),
    ]
    .map(|(name, target, rule)| refused(name, link(target), "h", &rule))
    .into();
    cases.extend([
        refused(
            "hard-link-to-an-absolute-name-in-pax",
            [Tar::new()
                .pax(&[("linkpath", &absolute)])
                .hard_link("h", "f")],
            "h",
            &away(&absolute),
        ),
        refused(
            "hard-link-to-too-long-a-name",
            [Tar::new()
                .pax(&[("linkpath", &"t".repeat(4097))])
                .hard_link("h", "f")],
            "h",
            "its target is too long",
        ),
        refused(
            "hard-link-forwards",
            [Tar::new().hard_link("h", "f").file("f", "x")],
            "h",
            &none("f"),
        ),
        refused(
            "hard-link-to-a-directory",
            [Tar::new().directory("d").hard_link("h", "d")],
            "h",
            &none("d"),
        ),
        refused(
            "hard-link-to-a-symbolic-link",
            [Tar::new().symbolic_link("s", &absolute).hard_link("h", "s")],
            "h",
            &none("s"),
        ),
        refused(
            "hard-link-to-a-lower-symbolic-link",
            [
                Tar::new().symbolic_link("s", &absolute),
                Tar::new().hard_link("h", "s"),
            ],
            "h",
            &none("s"),
        ),
        refused(
            "hard-link-through-a-symbolic-link",
            [Tar::new()
                .symbolic_link("a", outside)
                .hard_link("h", "a/secret")],
            "h",
            THROUGH,
        ),
        refused(
            "hard-link-through-a-symbolic-link-within",
            [Tar::new()
                .file("d/f", "x")
                .symbolic_link("a", "d")
                .hard_link("h", "a/f")],
            "h",
            THROUGH,
        ),
        refused(
            "hard-link-to-a-file-that-became-a-link",
            [Tar::new()
                .file("f", "x")
                .symbolic_link("f", &absolute)
                .hard_link("h", "f")],
            "h",
            &none("f"),
        ),
        refused(
            "hard-link-to-a-file-that-was-taken-away",
            [
                Tar::new().file("f", "x"),
                Tar::new().file(".wh.f", "").hard_link("h", "f"),
            ],
            "h",
            &none("f"),
        ),
        refused(
            "hard-link-to-a-removal",
            [Tar::new().file(".wh.f", "").hard_link("h", ".wh.f")],
            "h",
            &none(".wh.f"),
        ),
        refused(
            "hard-link-with-content",
            [Tar::new().file("f", "x").entry(b'1', "h", "f", "y", |_| {})],
            "h",
            "it announces content that its type has not",
        ),
        accepted(
            "hard-link-to-a-file",
            [Tar::new().file("d/f", "x").hard_link("h", "./d//f")],
            &["d/ @0", "d/f=x", "h==d/f"],
        ),
        accepted(
            "hard-link-to-a-hard-link",
            [Tar::new()
                .file("f", "x")
                .hard_link("g", "f")
                .hard_link("h", "g")],
            &["f=x", "g==f", "h==f"],
        ),
        accepted(
            "hard-link-into-a-lower-layer",
            [Tar::new().file("f", "x"), Tar::new().hard_link("h", "f")],
            &["f=x", "h==f"],
        ),
        accepted(
            "hard-link-keeps-what-an-upper-layer-replaces",
            [
                Tar::new().file("f", "old").hard_link("h", "f"),
                Tar::new().file("f", "new"),
            ],
            &["f=new", "h=old"],
        ),
        accepted(
            "hard-link-keeps-what-becomes-a-link",
            [Tar::new()
                .file("f", "x")
                .hard_link("h", "f")
                .symbolic_link("f", &absolute)],
            &[&format!("f->{absolute}"), "h=x"],
        ),
        accepted(
            "hard-link-keeps-what-an-upper-layer-removes",
            [
                Tar::new().file("f", "x").hard_link("h", "f"),
                Tar::new().file(".wh.f", ""),
            ],
            &["h=x"],
        ),
        accepted(
            "hard-link-replaced-leaves-the-other-name",
            [
                Tar::new().file("f", "x").hard_link("h", "f"),
                Tar::new().file("h", "y"),
            ],
            &["f=x", "h=y"],
        ),
    ]);
    cases
}
