//! Names that lead out of the tree, that no file system has, or that only look as if.

use super::{Case, Tar, accepted, refused};

const PARENT: &str = "its name has `..` in it";
const ABSOLUTE: &str = "its name is absolute";
const NUL: &str = "a NUL byte stands in its name or target";
const ROOT: &str = "the root must be a directory";

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let absolute = format!("{outside}/secret");
    let longest = longest();
    let deepest = ["d"; 256].join("/");
    let file = |name: &str| [Tar::new().file(name, "x")];
    let pax = |name: &str| [Tar::new().pax(&[("path", name)]).file("short", "x")];
    let mut cases: Vec<_> = [
        ("parent", "../secret"),
        ("parent-within", "a/../../secret"),
        ("parent-that-stays-inside", "a/../b"),
        ("parent-behind-slashes", "././/../secret"),
        ("neighbour-that-begins-the-same", "../staging-beside/secret"),
    ]
    .map(|(name, entry)| refused(name, file(entry), entry, PARENT))
    .into();
    cases.extend([
        refused(
            "parent-at-the-end",
            [Tar::new().directory("a/..")],
            "a/..",
            PARENT,
        ),
        refused("parent-alone", [Tar::new().directory("..")], "..", PARENT),
        refused(
            "parent-of-a-symbolic-link",
            [Tar::new().symbolic_link("../new", "x")],
            "../new",
            PARENT,
        ),
        refused(
            "parent-of-a-hard-link",
            [Tar::new().file("a", "x").hard_link("../new", "a")],
            "../new",
            PARENT,
        ),
        refused("parent-in-pax", pax("../secret"), "../secret", PARENT),
        refused(
            "parent-in-a-long-name",
            [Tar::new().gnu_name("a/../../secret").file("short", "x")],
            "a/../../secret",
            PARENT,
        ),
        refused(
            "parent-in-the-prefix",
            [Tar::new().entry(b'0', "secret", "", "x", |block| {
                block[345..347].copy_from_slice(b"..");
            })],
            "../secret",
            PARENT,
        ),
        refused(
            "parent-in-an-upper-layer",
            [Tar::new().file("a", "x"), Tar::new().file("../secret", "x")],
            "../secret",
            PARENT,
        ),
        refused("absolute", file(&absolute), &absolute, ABSOLUTE),
        refused(
            "absolute-behind-slashes",
            file(&format!("//{absolute}")),
            &format!("//{absolute}"),
            ABSOLUTE,
        ),
        refused(
            "absolute-directory",
            [Tar::new().directory(outside)],
            outside,
            ABSOLUTE,
        ),
        refused("absolute-in-pax", pax(&absolute), &absolute, ABSOLUTE),
        refused(
            "absolute-in-the-prefix",
            [Tar::new().entry(b'0', "secret", "", "x", |block| {
                block[345..345 + outside.len()].copy_from_slice(outside.as_bytes());
            })],
            &absolute,
            ABSOLUTE,
        ),
        refused("empty", file(""), "", "its name is empty"),
        refused(
            "empty-symbolic-link",
            [Tar::new().symbolic_link("", "x")],
            "",
            "its name is empty",
        ),
        refused("nul-in-pax", pax("a\0b"), "PaxHeader", NUL),
        refused(
            "nul-in-a-pax-target",
            [Tar::new()
                .pax(&[("linkpath", "a\0b")])
                .symbolic_link("s", "x")],
            "PaxHeader",
            NUL,
        ),
        refused(
            "nul-in-a-long-name",
            [Tar::new().gnu_name("a\0b").file("short", "x")],
            "a\\u{0}b",
            NUL,
        ),
        refused(
            "nul-in-a-long-target",
            [Tar::new().gnu_link("a\0b").symbolic_link("s", "x")],
            "a\\u{0}b",
            NUL,
        ),
        refused("root-as-a-file", file("./."), "./.", ROOT),
        refused(
            "root-as-a-symbolic-link",
            [Tar::new().symbolic_link("./", outside)],
            "./",
            ROOT,
        ),
        refused(
            "root-as-slash-and-a-link",
            [Tar::new().symbolic_link("/", outside)],
            "/",
            ROOT,
        ),
        refused(
            "root-as-a-hard-link",
            [Tar::new().file("a", "x").hard_link(".", "a")],
            ".",
            ROOT,
        ),
        refused(
            "root-as-a-device",
            [Tar::new().entry(b'4', "./", "", "", |_| {})],
            "./",
            ROOT,
        ),
        refused(
            "root-as-a-pipe-above-a-tree",
            [
                Tar::new().file("a", "x"),
                Tar::new().entry(b'6', ".", "", "", |_| {}),
            ],
            ".",
            ROOT,
        ),
        refused(
            "name-too-long",
            pax(&format!("{longest}m")),
            &format!("{}…", &longest[..512]),
            "passes the limit of 4096 bytes of a name",
        ),
        refused(
            "component-too-long",
            pax(&"c".repeat(256)),
            &"c".repeat(256),
            "passes the limit of 255 bytes between two slashes",
        ),
        refused(
            "too-deep",
            pax(&format!("{deepest}/d")),
            &format!("{deepest}/…"),
            "passes the limit of 256 names in a path",
        ),
        refused(
            "name-longer-than-the-flag",
            file("eleven-char"),
            "eleven-char",
            "passes the limit of 10 bytes of a name",
        )
        .with("max-name", "10"),
        refused(
            "deeper-than-the-flag",
            file("a/b/c"),
            "a/b/c",
            "passes the limit of 2 names in a path",
        )
        .with("max-depth", "2"),
        accepted(
            "names-that-only-look-bad",
            [Tar::new()
                .file("...", "1")
                .file("..a", "2")
                .file("a..", "3")
                .file("back\\slash", "4")
                .file("new\nline", "5")
                .file(" ", "6")
                .file("-rf", "7")
                .file("~", "8")
                .file("C:", "9")],
            &[
                "...=1",
                "..a=2",
                "a..=3",
                "back\\\\slash=4",
                "new\\nline=5",
                " =6",
                "-rf=7",
                "~=8",
                "C:=9",
            ],
        ),
        accepted(
            "names-written-with-too-much",
            [Tar::new()
                .directory("/")
                .directory("./d//")
                .file("././/d/./f", "x")],
            &["d/", "d/f=x"],
        ),
        accepted(
            "names-that-are-no-text",
            [Tar::new()
                .file(b"\xff\xfe", "1")
                .directory(b"\xc0\xaf")
                .symbolic_link(b"s\x80", b"\xff")],
            &["\\xff\\xfe=1", "\\xc0\\xaf/", "s\\x80->\\xff"],
        ),
        accepted(
            "name-that-ends-at-its-nul",
            file("a\0/../../secret"),
            &["a=x"],
        ),
        accepted("empty-pax-name-takes-nothing", pax(""), &["short=x"]),
    ]);
    cases.push(refused(
        "parent-of-a-name-that-is-no-text",
        [Tar::new().file(b"../\xff\x1b[2J", "x")],
        "../\\xff\\u{1b}[2J",
        PARENT,
    ));
    let long = format!("{longest}=x");
    let parts: Vec<_> = longest
        .match_indices('/')
        .map(|(at, _)| format!("{}/ @0", &longest[..at]))
        .collect();
    let tree: Vec<_> = parts.iter().chain([&long]).map(String::as_str).collect();
    cases.push(accepted("longest-name-there-is", pax(&longest), &tree));
    cases.push(refused(
        "file-below-the-longest-directory",
        [Tar::new()
            .pax(&[("path", &longest)])
            .directory("d")
            .pax(&[("path", &format!("{longest}/f"))])
            .file("f", "x")],
        &format!("{}…", &longest[..512]),
        "passes the limit of 4096 bytes of a name",
    ));
    let last = format!("{longest}/");
    let tree: Vec<_> = parts.iter().chain([&last]).map(String::as_str).collect();
    cases.push(accepted(
        "longest-directory-there-is",
        [Tar::new().pax(&[("path", &longest)]).directory("d")],
        &tree,
    ));
    let parts: Vec<_> = deepest
        .match_indices('/')
        .map(|(at, _)| format!("{}/ @0", &deepest[..at]))
        .collect();
    let last = format!("{deepest}/");
    let tree: Vec<_> = parts.iter().chain([&last]).map(String::as_str).collect();
    cases.push(accepted(
        "deepest-directory-there-is",
        [Tar::new().pax(&[("path", &deepest)]).directory("d")],
        &tree,
    ));
    cases
}

/// A name of 4096 bytes in components of at most 255.
fn longest() -> String {
    let mut name = [&"l".repeat(255)[..]; 15].join("/");
    name.push('/');
    let rest = 4096 - name.len();
    name.push_str(&"l".repeat(rest - 1 - 100));
    name.push('/');
    name.push_str(&"m".repeat(100));
    assert_eq!(name.len(), 4096);
    name
}
